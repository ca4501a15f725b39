"""Which files are imported, as what, and how each is opened."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from erlbridge.errors import MissingPackage, ValidationError
from erlbridge.tools.importing import json_lines, parquet, tables
from erlbridge.tools.importing.rows import Input, Rows, Unreadable

FORMATS: Final = ("jsonl", "csv", "parquet")
PACKED: Final = (".gz", ".zst")

_SUFFIXES: Final = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
_BUFFER_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """A file to import.

    Attributes:
        name: What errors call it.
        path: Where it is; None for the standard input.
        format: One of `FORMATS`.
        packed: `.gz`, `.zst` or nothing: what its bytes have to be unpacked with first.
        delimiter: What stands between the cells of a table.
    """

    name: str
    path: Path | None
    format: str
    packed: str = ""
    delimiter: str = ","

    @classmethod
    def named(cls, text: str, format_: str | None, delimiter: str | None) -> Source:
        """A file by its name, whose suffixes say what it is unless that is given; `-` is standard input.

        Raises `ValidationError` for what cannot be told or read.
        """
        if text == "-":
            source = cls("standard input", None, format_ or "jsonl", "", delimiter or ",")
        else:
            path = Path(text)
            suffixes = [suffix.lower() for suffix in path.suffixes]
            packed = suffixes.pop() if suffixes and suffixes[-1] in PACKED else ""
            last = suffixes[-1] if suffixes else ""
            found = format_ or _SUFFIXES.get(last)
            if found is None:
                known = ", ".join(_SUFFIXES)
                raise ValidationError(f"its name ends in none of {known}; say --format {'|'.join(FORMATS)}", text)
            source = cls(text, path, found, packed, delimiter or ("\t" if last == ".tsv" else ","))
        if source.format == "parquet" and (source.path is None or packed):
            raise ValidationError("Parquet is read from its end: it must be a file, and not packed", source.name)
        return source

    @contextlib.contextmanager
    def opened(self) -> Iterator[Input]:
        """The file, for as long as it is wanted. Raises `OSError`, and `MissingPackage` without what unpacks it."""
        with contextlib.ExitStack() as stack:
            if self.path is None:
                raw = stack.enter_context(open(0, "rb", buffering=0, closefd=False))
            else:
                raw = stack.enter_context(open(self.path, "rb", buffering=0))
            about = os.fstat(raw.fileno())
            size = about.st_size if stat.S_ISREG(about.st_mode) else None
            if self.format == "parquet":
                yield Input(raw, size)
                return
            counted = _Counted(raw)
            plain: io.RawIOBase = _Unpacked(counted, self.packed) if self.packed else counted
            counted.input = Input(io.BufferedReader(plain, _BUFFER_BYTES), size)
            yield counted.input

    def rows(self, opened: Input) -> Rows:
        """The rows of the open file."""
        match self.format:
            case "jsonl":
                return json_lines.read_rows(opened)
            case "csv":
                return tables.read_rows(opened, self.delimiter)
            case _:
                return parquet.read_rows(opened)


class _Counted(io.RawIOBase):
    """A file that tells its `Input` how much of it has been read."""

    input: Input

    def __init__(self, file: io.FileIO) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer) or 0
        self.input.reached += count
        return count


class _Unpacked(io.RawIOBase):
    """What a packed file holds, a piece at a time. Raises `Unreadable` for one that is damaged or cut off."""

    def __init__(self, file: _Counted, packed: str) -> None:
        buffered = io.BufferedReader(file, _BUFFER_BYTES)
        self._faults: tuple[type[Exception], ...]
        self._plain: Any
        if packed == ".gz":
            self._plain = gzip.GzipFile(fileobj=buffered)
            self._faults = (gzip.BadGzipFile, EOFError, zlib.error)
        else:
            zstd = zstd_module()
            if zstd is None:
                raise MissingPackage(
                    "a file that ends in .zst is unpacked by a package: install erlbridge with the extra `zstd`"
                )
            self._plain = zstd.ZstdFile(buffered)
            self._faults = (zstd.ZstdError, EOFError)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            return int(self._plain.readinto(buffer))
        except self._faults as error:
            raise Unreadable(f"the packed file is damaged or cut off: {error}") from None


def zstd_module() -> Any:
    """The module of Python 3.14, or the same for older ones; None where neither is."""
    for name in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ImportError):
            return import_module(name)
    return None
