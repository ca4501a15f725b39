"""What a job made and the disk refused to keep, as its host hears of it. Knows answers; the storing is `store`'s."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from erlbridge.core.events import Finished
from erlbridge.errors import StorageFailed
from erlbridge.store.failures import storage_failed
from erlbridge.store.models import names_model
from erlbridge.wire.messages import error_map
from erlbridge.wire.vocabulary import atom

_WARNINGS = atom("warnings")


@dataclass(frozen=True, slots=True)
class Unkept:
    """One thing that was not stored. `fails` is whether its job was asked for nothing else, and so has failed."""

    name: str
    failure: StorageFailed
    fails: bool

    @property
    def warning(self) -> str:
        """What the host should know where the job has succeeded all the same."""
        remedy = "train it again" if names_model(self.name) else "keep `program` and send that instead of its id"
        return f"{self.name}: {self.failure.message}; until then {remedy}"


def unkept(name: str, error: OSError, verb: str | None) -> Unkept:
    """Something that a job of this verb made and the disk refused. An optimization's answer holds its program itself,
    so that nothing is lost with it; a model that was trained is nowhere else."""
    model = names_model(name)
    failure = storage_failed(f"the {'model' if model else 'program'} was not stored", error)
    return Unkept(name, failure, verb == "put_program" or (model and verb == "train_model"))


def told(finished: Finished, things: list[Unkept]) -> Finished:
    """A job's outcome with what was not stored of it."""
    if not finished.ok or not things:
        return finished
    for thing in things:
        if thing.fails:
            return Finished(finished.worker, False, error_map(thing.failure))
    if not isinstance(finished.term, Mapping):
        return finished
    said = finished.term.get(_WARNINGS)
    warnings = [*(said if isinstance(said, list) else []), *(thing.warning.encode() for thing in things)]
    return Finished(finished.worker, True, {**finished.term, _WARNINGS: warnings})
