"""What commands open: the store of the data directory, and the files that they write."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from erlbridge.node.config import NodeConfig
from erlbridge.store.files import ASIDE, sync_directory
from erlbridge.store.store import Store, open_store

STANDARD: Final = "-"
"""Standard output or input, in a file's place."""


@contextlib.contextmanager
def opened(config: NodeConfig) -> Iterator[Store]:
    """The store that the settings name; what is wrong with it is said on standard error."""
    store = open_store(config.data, lambda text: print(f"erlbridge: {text}", file=sys.stderr), config.places)
    try:
        yield store
    finally:
        store.close()


@contextlib.contextmanager
def written(target: str) -> Iterator[BinaryIO]:
    """Where a command's bytes go: a file that is whole or as it was before, or standard output. What is there and is no
    file, as `/dev/null` or a pipe, is written to; none could take its place. Raises `OSError`."""
    if target == STANDARD:
        sys.stdout.flush()  # what was printed before stands before it
        yield sys.stdout.buffer
        return
    path = Path(target)
    if path.exists() and not path.is_file():
        with open(path, "wb") as file:
            yield file
        return
    path = path.resolve()  # a link stays one
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=ASIDE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(aside).replace(path)
        sync_directory(path.parent)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
