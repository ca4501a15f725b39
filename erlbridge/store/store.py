"""The store of a data directory: its index, its blobs, and the kinds of things that lie there. The one place that puts
them together, for the node and for the command line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from erlbridge.store.blobs import Blobs, LocalBlobs
from erlbridge.store.contents import Contents
from erlbridge.store.datasets import DatasetStore
from erlbridge.store.engine import Engine, SqliteEngine, Statements
from erlbridge.store.index import Index, reindex
from erlbridge.store.kept import kept_blobs, reindex_kept
from erlbridge.store.models import MODEL
from erlbridge.store.places import Places
from erlbridge.store.programs import PROGRAM
from erlbridge.store.register import Register, Say
from erlbridge.store.reports import Reports

if TYPE_CHECKING:
    from erlbridge.store.remote_blobs import RemoteBlobs

_HERE: Final = Places()


@dataclass(frozen=True, slots=True)
class Store:
    """What is stored, by kind. Everything in it may block on a disk or a network.

    Attributes:
        data: The data directory.
        engine, blobs: What all kinds are made of.
        say: Told, in a line, of what went wrong and costs no answer.
    """

    data: Path
    engine: Engine
    blobs: Blobs
    programs: Contents
    models: Contents
    datasets: DatasetStore
    reports: Reports
    say: Say

    @property
    def shelves(self) -> tuple[Contents | DatasetStore, ...]:
        """All kinds of things that are named by their content."""
        return self.programs, self.models, self.datasets

    def transfer_bytes(self) -> int:
        """What transfers take that have not become datasets."""
        return sum(path.lstat().st_size for path in (self.data / "transfers").glob("*") if path.is_file())

    def close(self) -> None:
        """Lets go of files and connections; the next use opens them again."""
        self.engine.close()


def open_store(data: Path, say: Say, places: Places = _HERE) -> Store:
    """The store of a data directory, or one that is shared. Opens and imports nothing that is slow: that is done at the
    first use.

    An index that is made anew, because there was none or it was damaged, begins with what lies there.
    """

    def take_over(statements: Statements) -> None:
        for kind, found in (("program", programs.found()), ("model", models.found()), ("dataset", datasets.found())):
            reindex(statements, kind, found)
        reindex_kept(statements, kept_blobs(blobs))

    engine = _shared_engine(places.index, take_over) if places.index else SqliteEngine(data, say, take_over)
    remote = _remote_blobs(data, places) if places.blobs else None
    blobs = remote or LocalBlobs(data)
    reports = Reports(blobs, say)
    programs = Contents(PROGRAM, blobs, Register(Index(engine, "program"), say), reports.delete)
    models = Contents(MODEL, blobs, Register(Index(engine, "model"), say))
    noted = Register(Index(engine, "dataset"), say)
    datasets = _shared_datasets(data, noted, remote, places) if remote else DatasetStore(data / "datasets", noted)
    return Store(data, engine, blobs, programs, models, datasets, reports, say)


# What only shared stores are made of is loaded for these alone.


def _shared_engine(address: str, renewed: Callable[[Statements], None]) -> Engine:
    from erlbridge.store.postgres import PostgresEngine  # noqa: PLC0415 - as above

    return PostgresEngine(address, renewed)


def _remote_blobs(data: Path, places: Places) -> RemoteBlobs:
    from erlbridge.store.blob_cache import BlobCache  # noqa: PLC0415 - as above
    from erlbridge.store.remote_blobs import RemoteBlobs  # noqa: PLC0415

    return RemoteBlobs(places.blobs, BlobCache(data / "copies", places.cache_bytes))


def _shared_datasets(data: Path, register: Register, blobs: RemoteBlobs, places: Places) -> DatasetStore:
    from erlbridge.store.shared_datasets import SharedDatasets  # noqa: PLC0415 - as above

    return SharedDatasets(data / "datasets", register, blobs, places.datasets_bytes)
