"""Offline models that were trained, on disk beside the programs. Knows names and bytes, not what the bytes mean."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from erlbridge.errors import NotFound
from erlbridge.store.programs import ProgramStore

_PREFIX: Final = "offline:"


def names_model(name: str) -> bool:
    """Whether a name is a trained model's; others are programs'."""
    return name.startswith(_PREFIX)


class ModelStore:
    """Models by the hash of their bytes, kept as `ProgramStore` keeps programs."""

    def __init__(self, directory: Path) -> None:
        self._files = ProgramStore(directory)

    def put(self, model: str, content: bytes) -> None:
        """Keeps a model. Raises `ValidationError` when the name is not the content's, `OSError` from the disk."""
        self._files.put(_file_of(model), content)

    def get(self, model: str) -> bytes:
        """A model's bytes. Raises `NotFound`; a damaged file is set aside under another name and not served."""
        try:
            return self._files.get(_file_of(model))
        except NotFound as missing:
            raise NotFound(
                f"no whole model {model} is stored here; a damaged file is set aside. Train it again, or take :offline",
                context={"model": model},
            ) from missing


def _file_of(model: str) -> str:
    return f"program:{model.removeprefix(_PREFIX)}"
