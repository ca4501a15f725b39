"""What the node has stored and is asked to store: programs, trained models and datasets, by the names in requests.

The one place that knows which of the two an id means, and what a job hears when the disk refuses what it made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from erlbridge.core.datasets import Dataset, is_dataset_name, with_datasets
from erlbridge.core.events import Finished
from erlbridge.errors import DecodeError, NotFound, ValidationError
from erlbridge.node import program_verbs
from erlbridge.node.keeping import Unkept, told, unkept
from erlbridge.store.failures import storage_failed
from erlbridge.store.models import names_model
from erlbridge.store.reports import names_report
from erlbridge.store.store import Store
from erlbridge.wire.messages import Term
from erlbridge.wire.vocabulary import atom


class Shelves:
    """A store as requests and jobs see it, and what it could not keep of jobs that still run."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._datasets = store.datasets
        self._programs = store.programs
        self._models = store.models
        self._reports = store.reports
        self._unkept: dict[int, list[Unkept]] = {}

    def ask(self, verb: str, payload: Term) -> Term:
        """Answers one of `program_verbs.ANSWERS`."""
        try:
            return program_verbs.ANSWERS[verb](self._store, payload)
        except OSError as error:
            raise storage_failed(f"{verb} was refused by the disk", error) from None

    def get(self, name: str) -> bytes:
        """A program or a model. Raises `NotFound`, and `StorageFailed` when the disk does not say."""
        try:
            return self._models.get(name) if names_model(name) else self._programs.get(name)
        except OSError as error:
            raise storage_failed(f"{name} was not read", error) from None

    def with_datasets(self, payload: Term, found: dict[str, bytes]) -> Term:
        """A payload with the datasets that it names in place; `found` gets what their worker has to know, by name.
        An index that is missing is made, for which a whole stream is read.

        Raises `NotFound`, `ValidationError` for what is no name, and `StorageFailed` when the disk does not say.
        """

        def find(name: str) -> Dataset:
            try:
                dataset = self._datasets.ready(name)
            except OSError as error:
                raise storage_failed(f"{name} was not read", error) from None
            found[name] = dataset.told()
            return dataset

        return with_datasets(payload, find)

    def keep(self, worker: int, name: str, content: bytes, verb: str | None) -> str | None:
        """Stores what a worker's job, of this verb, has made; gives what went wrong, as its outcome will too."""
        try:
            if names_report(name):
                self._put_report(name, content)
                return None
            (self._models if names_model(name) else self._programs).put(name, content)
        except (OSError, ValidationError, DecodeError) as error:
            if isinstance(error, OSError) and not names_report(name):  # its job's result has the report itself
                self._unkept.setdefault(worker, []).append(unkept(name, error, verb))
            return f"{name} was not stored: {error}"
        return None

    def _put_report(self, name: str, content: bytes) -> None:
        """Stores a report that can be read again: a worker has made it, and this thread draws it for all who ask."""
        from erlbridge.reports.record import unpack  # noqa: PLC0415 - seldom needed, and the node's start waits for none

        unpack(content)
        self._reports.put(name, content)

    def forget(self, worker: int) -> None:
        """A worker is gone, with the job that would have told it."""
        self._unkept.pop(worker, None)

    def told(self, finished: Finished) -> Finished:
        """A job's outcome with what was not stored of it. A dataset that its worker found damaged is set aside; where
        only the index was, that is made again when the dataset is asked for."""
        if not finished.ok and (damaged := _damaged(finished.term)) is not None:
            name, whole = damaged
            with contextlib.suppress(OSError):  # whoever sends it again hears of that
                (self._datasets.set_aside if whole else self._datasets.drop_index)(name)
        return told(finished, self._unkept.pop(finished.worker, []))


def _damaged(error: Term) -> tuple[str, bool] | None:
    """The dataset that an error calls damaged, and whether more than its index is. The error is a worker's, which is
    confined to its own directory: what it gives as a name must be one."""
    if not isinstance(error, Mapping):
        return None
    context = error.get(atom("context"))
    if not isinstance(context, Mapping) or context.get(atom("reason")) != atom("damaged"):
        return None
    name = context.get(atom("dataset"))
    text = name.decode(errors="replace") if isinstance(name, bytes) else ""
    return (text, error.get(atom("error_type")) == atom(NotFound.error_type)) if is_dataset_name(text) else None
