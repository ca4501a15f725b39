"""What a store need not keep: what was set aside or left half written, what nobody has used for long.

Datasets can be sent again and go by themselves; programs and models were paid for, and go only when somebody asks for
that.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from erlbridge.errors import NotFound
from erlbridge.limits import TRANSFER_KEPT_S
from erlbridge.store.blobs import LocalBlobs
from erlbridge.store.contents import Contents
from erlbridge.store.datasets import DatasetStore
from erlbridge.store.files import ASIDE
from erlbridge.store.kept import make_up_kept
from erlbridge.store.store import Store
from erlbridge.store.transfers import Transfers

DAMAGED: Final = ".damaged"
ROOMS: Final = ("", "programs", "models", "datasets", "results", "reports", "transfers", "workers")
"""The directories of a data directory in which things are set aside; the first is itself."""
_AT_ONCE: Final = 100_000
"""Things of a kind that go at once; more wait for the next time."""


@dataclass(frozen=True, slots=True)
class Policy:
    """For how many seconds things stay that nobody uses; None keeps them for ever.

    Attributes:
        datasets_s, programs_s, models_s: Since they were used last.
        aside_s: What was set aside as damaged, since then; what was left half written, since it last grew.
    """

    datasets_s: float | None
    programs_s: float | None = None
    models_s: float | None = None
    aside_s: float = TRANSFER_KEPT_S


@dataclass(frozen=True, slots=True)
class Removed:
    """One thing that is gone, or would be. `kind` is `dataset`, `program`, `model`, `report` (by its program's name),
    `transfer`, `damaged` or `unfinished`; the name of the last three is their path in the data directory."""

    kind: str
    name: str
    size_bytes: int


def collect(
    store: Store, policy: Policy, *, only_look: bool = False, clock: Callable[[], int] = time.time_ns
) -> Iterator[Removed]:
    """Removes what need not be kept, one thing each time it is asked for the next; the index is made right before.

    Safe beside nodes that use the store: what is used in the very moment stays.

    Args:
        only_look: Whether nothing is removed.
        clock: Nanoseconds since 1970.

    Raises `OSError` when the index or a disk refuses. What one file refuses is passed over.
    """
    now = clock()
    shelves: list[tuple[Contents | DatasetStore, float | None]] = [
        (store.datasets, policy.datasets_s),
        (store.programs, policy.programs_s),
        (store.models, policy.models_s),
    ]
    yield from _aside(store.data, now / 1e9 - policy.aside_s, only_look=only_look)
    yield from _aside_elsewhere(store, now - int(policy.aside_s * 1e9), only_look=only_look)
    yield from _transfers(store, now / 1e9 - TRANSFER_KEPT_S, only_look=only_look)
    yield from _reports(store, now - int(policy.aside_s * 1e9), only_look=only_look)
    if not only_look:
        make_up_kept(store.engine, store.blobs)
    for shelf, kept_s in shelves:
        shelf.register.make_up(shelf.found())
        if kept_s is not None:
            yield from _unused(shelf, now - int(kept_s * 1e9), only_look=only_look)


def _unused(shelf: Contents | DatasetStore, since_ns: int, *, only_look: bool) -> Iterator[Removed]:
    """The oldest first. The note goes before the thing, if it still says that nobody has used it: who comes between
    the two finds nothing, and what a crash leaves between them is noted anew by its age."""
    index = shelf.register.index
    for entry in index.unused_since(since_ns, _AT_ONCE):
        if not only_look:
            if not index.drop(entry.name, unused_since_ns=since_ns):
                continue
            with contextlib.suppress(NotFound):
                shelf.delete(entry.name)
        yield Removed(index.kind, entry.name, entry.size_bytes)


def _transfers(store: Store, before_s: float, *, only_look: bool) -> Iterator[Removed]:
    """Those with which nobody has gone on; one that a node has open is its own."""
    directory = store.data / "transfers"
    old = [(path, size) for path, size, changed_s, _ in _entries(directory) if changed_s < before_s]
    if old and not only_look:
        transfers = Transfers(directory, store.datasets, 0)
        transfers.sweep()
        transfers.close()
    for path, size in old:
        if only_look or not path.exists():
            yield Removed("transfer", str(path.relative_to(store.data)), size)


def _reports(store: Store, before_ns: int, *, only_look: bool) -> Iterator[Removed]:
    """Those whose program is not there: it was set aside, or has gone by hand."""
    for program_id, blob in store.reports.all():
        if blob.modified_at_ns < before_ns and not store.programs.has(program_id):
            if not only_look:
                store.reports.delete(program_id)
            yield Removed("report", program_id, blob.size_bytes)


def _aside(data: Path, before_s: float, *, only_look: bool) -> Iterator[Removed]:
    for room in ROOMS:
        for path, size, changed_s, renamed_s in _entries(data / room):
            if path.name.startswith(ASIDE) and changed_s < before_s:
                kind = "unfinished"
            elif DAMAGED in path.suffix and renamed_s < before_s:  # SQLite's are also `.damaged-wal`
                kind = "damaged"
            else:
                continue
            if only_look or _remove(path):
                yield Removed(kind, str(path.relative_to(data)), size)


def _aside_elsewhere(store: Store, before_ns: int, *, only_look: bool) -> Iterator[Removed]:
    """The same where blobs lie that machines share."""
    if isinstance(store.blobs, LocalBlobs):
        return
    from erlbridge.store.remote_blobs import RemoteBlobs  # noqa: PLC0415 - for those who have such a store
    from erlbridge.store.shared_datasets import SharedDatasets  # noqa: PLC0415

    if isinstance(store.blobs, RemoteBlobs) and isinstance(store.datasets, SharedDatasets):
        left = [(room, blob) for room in filter(None, ROOMS) for blob in store.blobs.leftovers(room)]
        left += [("datasets", blob) for blob in store.datasets.unfinished()]
        for room, blob in left:
            if blob.modified_at_ns < before_ns and (only_look or store.blobs.delete(room, blob.name)):
                kind = "damaged" if blob.name.endswith(DAMAGED) else "unfinished"
                yield Removed(kind, f"{room}/{blob.name}", blob.size_bytes)


def _entries(directory: Path) -> Iterator[tuple[Path, int, float, float]]:
    """What lies in a directory: path, bytes, when its bytes last changed and when anything of it did, its name too."""
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        path = directory / name
        with contextlib.suppress(OSError):  # somebody else has removed it
            found = path.lstat()
            inside = [entry.stat(follow_symlinks=False) for entry in os.scandir(path)] if _is_directory(found) else []
            files = [found, *inside]
            size = sum(file.st_size for file in files if not _is_directory(file))
            yield path, size, max(file.st_mtime for file in files), found.st_ctime


def _is_directory(found: os.stat_result) -> bool:
    return stat.S_ISDIR(found.st_mode)


def _remove(path: Path) -> bool:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError:
        return False
    return True
