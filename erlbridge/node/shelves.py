"""What the node has stored and is asked to store: programs and trained models, under the ids that requests name.

The one place that knows which of the two an id means, and what a job hears when the disk refuses what it made.
"""

from __future__ import annotations

from pathlib import Path

from erlbridge.core.events import Finished
from erlbridge.errors import ValidationError
from erlbridge.node import program_verbs
from erlbridge.node.keeping import Unkept, told, unkept
from erlbridge.node.models import ModelStore, names_model
from erlbridge.node.store import ProgramStore
from erlbridge.wire.messages import Term


class Shelves:
    """The stores under a data directory, and what they could not keep of jobs that still run."""

    def __init__(self, data: Path) -> None:
        self._programs = ProgramStore(data / "programs")
        self._models = ModelStore(data / "models")
        self._unkept: dict[int, list[Unkept]] = {}

    def ask(self, verb: str, payload: Term) -> Term:
        """Answers one of `program_verbs.ANSWERS`."""
        try:
            return program_verbs.ANSWERS[verb](self._programs, payload)
        except OSError as error:
            raise program_verbs.storage_failed(f"{verb} was refused by the disk", error) from None

    def get(self, name: str) -> bytes:
        """A program or a model. Raises `NotFound`, and `StorageFailed` when the disk does not say."""
        try:
            return self._models.get(name) if names_model(name) else self._programs.get(name)
        except OSError as error:
            raise program_verbs.storage_failed(f"{name} was not read", error) from None

    def keep(self, worker: int, name: str, content: bytes, verb: str | None) -> str | None:
        """Stores what a worker's job, of this verb, has made; gives what went wrong, as its outcome will too."""
        try:
            (self._models if names_model(name) else self._programs).put(name, content)
        except (OSError, ValidationError) as error:
            if isinstance(error, OSError):
                self._unkept.setdefault(worker, []).append(unkept(name, error, verb))
            return f"{name} was not stored: {error}"
        return None

    def forget(self, worker: int) -> None:
        """A worker is gone, with the job that would have told it."""
        self._unkept.pop(worker, None)

    def told(self, finished: Finished) -> Finished:
        """A job's outcome with what was not stored of it."""
        return told(finished, self._unkept.pop(finished.worker, []))
