"""Lines of text out of a stream of bytes, each bounded, and what bytes say about a file that is no text."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import BinaryIO, Final

from erlbridge.tools.importing.rows import MAX_LINE_BYTES, BadRow, Unreadable

_WIDE: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
"""UTF-32 in the other order begins as UTF-16 does. No text in UTF-8 begins with one of them."""
_PACKED: Final = {
    b"\x1f\x8b": "gzip (.gz)",
    b"\x28\xb5\x2f\xfd": "zstd (.zst)",
    b"PK\x03\x04": "zip",
    b"PAR1": "Parquet",
}


def lines(stream: BinaryIO, limit_bytes: int = MAX_LINE_BYTES) -> Iterator[tuple[int, str | BadRow]]:
    """Each line with its number, from 1, and with its end as it stands; a byte order mark of UTF-8 is left out.

    A line that is too long or no UTF-8 is a `BadRow`. Raises `Unreadable` for a file that is no text in UTF-8 at all.
    """
    number = 0
    while line := stream.readline(limit_bytes):
        number += 1
        if number == 1:
            line = _first(line)
        if len(line) == limit_bytes and not line.endswith(b"\n"):
            while (rest := stream.readline(limit_bytes)) and not rest.endswith(b"\n"):
                pass
            yield number, BadRow(number, f"a line of more than {limit_bytes} bytes")
            continue
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            column = len(line[: error.start].decode()) + 1
            problem = (
                f"expected UTF-8, got the byte 0x{line[error.start]:02x}; convert the file, as with iconv -t UTF-8"
            )
            yield number, BadRow(number, problem, column)
            continue
        if "\0" in text:
            problem = "expected text, got a NUL byte; is this a binary file, or text in UTF-16?"
            yield number, BadRow(number, problem, text.index("\0") + 1)
            continue
        yield number, text


def _first(line: bytes) -> bytes:
    if line.startswith(_WIDE):
        raise Unreadable("expected UTF-8, got UTF-16 or UTF-32; convert the file, as with iconv -t UTF-8", 1)
    for magic, kind in _PACKED.items():
        if line.startswith(magic):
            raise Unreadable(f"expected text, got {kind}; name the file as what it is", 1)
    return line.removeprefix(codecs.BOM_UTF8)
