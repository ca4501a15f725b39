"""Both sides know the same atoms."""

from __future__ import annotations

from pathlib import Path

from erlbridge.tools.vocabulary import elixir_module


def test_the_elixir_vocabulary_is_the_one_generated_from_the_python_side(root: Path) -> None:
    path = root / "priv_stub" / "lib" / "pipeline" / "dspy" / "vocabulary.ex"
    assert path.read_text() == elixir_module(), f"run: python -m erlbridge vocabulary > {path.relative_to(root)}"
