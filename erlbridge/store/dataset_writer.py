"""Writes a dataset example by example, with flat memory: for whoever has the examples on this machine.

    with DatasetWriter(store) as writer:
        for example in examples:
            writer.add(example)
        dataset = writer.finish()

The stream is the one that `Pipeline.DSPy.DataTransfer` sends, so the same examples with binaries as keys and texts have
the same name. Until `finish` nothing can be found, and what is not finished is removed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from erlbridge.codec import term_to_binary
from erlbridge.core.datasets import PREFIX, Dataset
from erlbridge.errors import ValidationError
from erlbridge.limits import MAX_EXAMPLE_BYTES
from erlbridge.store.dataset_index import INDEX, IndexFile
from erlbridge.store.datasets import STREAM, DatasetStore

_BUFFER_BYTES: Final = 256 * 1024


class DatasetWriter:
    """A dataset that is being written. Every method may raise `OSError`, after which it is of no use any more.

    Attributes:
        examples, size_bytes: How far it is.
    """

    def __init__(self, store: DatasetStore) -> None:
        import hashlib  # noqa: PLC0415 - 5 ms that the node's start does not wait for

        self.examples = 0
        self.size_bytes = 0
        self._store = store
        self._aside: Path | None = store.begin()
        self._sum = hashlib.sha256()
        self._buffer = bytearray()
        self._stream = os.open(self._aside / STREAM, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._index = IndexFile(self._aside / INDEX)

    def add(self, example: Mapping[object, object]) -> None:
        """Adds an example, a map of whatever has an Erlang term; texts become binaries. Raises `EncodeError` for what
        has none, and `ValidationError` for an example that is too large."""
        self.add_term(term_to_binary(dict(example), deterministic=True))

    def add_term(self, term: bytes) -> None:
        """Adds an example that is encoded already: a map, uncompressed, its keys in order. Raises `ValidationError` for
        one that is too large."""
        if len(term) > MAX_EXAMPLE_BYTES:
            raise ValidationError(f"an example of {len(term)} bytes, limit {MAX_EXAMPLE_BYTES}", f"[{self.examples}]")
        self._buffer += len(term).to_bytes(4)
        self._buffer += term
        self.examples += 1
        self.size_bytes += 4 + len(term)
        if len(self._buffer) >= _BUFFER_BYTES:
            self._flush()

    def finish(self) -> Dataset:
        """Keeps what was added, and gives its name. Raises `ValidationError` when that is no example at all."""
        if not self.examples:
            raise ValidationError("expected at least one example, got none", "[0]")
        assert self._aside is not None  # noqa: S101 - `finish` comes once, and before `close`
        self._flush()
        os.fsync(self._stream)
        digits = self._sum.hexdigest()
        self._index.finish(digits)
        name = PREFIX + digits
        self._store.settle(self._aside, name, self.examples, self.size_bytes)
        self.close()
        return self._store.find(name)

    def close(self) -> None:
        """Lets go of it; what was not finished is removed."""
        if self._aside is not None:
            aside, self._aside = self._aside, None
            os.close(self._stream)
            self._index.close()
            shutil.rmtree(aside, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _flush(self) -> None:
        piece = bytes(self._buffer)
        self._buffer.clear()
        self._sum.update(piece)
        self._index.feed(piece)
        left = memoryview(piece)
        while left:
            left = left[os.write(self._stream, left) :]
