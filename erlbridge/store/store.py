"""The store of a data directory: its index, its blobs, and the kinds of things that lie there. The one place that puts
them together, for the node and for the command line.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from erlbridge.store.blobs import Blobs, LocalBlobs
from erlbridge.store.contents import Contents
from erlbridge.store.datasets import DatasetStore
from erlbridge.store.engine import Engine, SqliteEngine, Statements
from erlbridge.store.index import Index, reindex
from erlbridge.store.kept import reindex_kept
from erlbridge.store.models import MODEL
from erlbridge.store.programs import PROGRAM
from erlbridge.store.register import Register, Say


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
    say: Say

    def close(self) -> None:
        """Lets go of files and connections; the next use opens them again."""
        self.engine.close()


def open_store(data: Path, say: Say) -> Store:
    """The store of a data directory. Opens and imports nothing that is slow: that is done at the first use.

    An index that is made anew, because there was none or it was damaged, begins with what lies there.
    """

    def take_over(statements: Statements) -> None:
        for kind, found in (("program", programs.found()), ("model", models.found()), ("dataset", datasets.found())):
            reindex(statements, kind, found)
        reindex_kept(statements, blobs)

    engine = SqliteEngine(data, say, take_over)
    blobs = LocalBlobs(data)
    programs = Contents(PROGRAM, blobs, Register(Index(engine, "program"), say))
    models = Contents(MODEL, blobs, Register(Index(engine, "model"), say))
    datasets = DatasetStore(data / "datasets", Register(Index(engine, "dataset"), say))
    return Store(data, engine, blobs, programs, models, datasets, say)
