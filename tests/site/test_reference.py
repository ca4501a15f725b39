"""The reference says what the package has, and what is public says what it takes and gives."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts" / "site"))

import reference  # noqa: E402


@pytest.mark.parametrize("name", ["errors.md", "settings.md", "metrics.md"])
def test_a_table_of_the_reference_is_what_the_package_has(name: str) -> None:
    """`python scripts/site/reference.py` writes them."""
    assert (ROOT / "docs" / "reference" / name).read_text() == reference.tables()[name]


def public(module: ModuleType) -> Iterator[tuple[str, object]]:
    """What a module offers: what `__all__` says, else what it defines itself and does not hide; with its methods."""
    names = getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])
    for name in names:
        value = getattr(module, name)
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        if not hasattr(module, "__all__") and getattr(value, "__module__", None) != module.__name__:
            continue
        yield name, value
        if inspect.isclass(value) and (value.__module__ or "").startswith("erlbridge"):
            for member, method in vars(value).items():
                if not member.startswith("_") and (inspect.isroutine(method) or isinstance(method, property)):
                    yield f"{name}.{member}", method


@pytest.mark.parametrize("module", [name for name, _about in reference.MODULES.values()])
def test_what_is_public_has_a_docstring(module: str) -> None:
    found = dict(public(import_module(module)))
    # A method that takes the place of a parent's is described there.
    bare = [name for name, value in found.items() if not inspect.getdoc(value) and "recovery_strategy" not in name]
    assert not bare
