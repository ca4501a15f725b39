"""What a transfer's chunks may be compressed with, and how one stream of them is unpacked without trusting it.

zlib is always there; Zstandard where the interpreter has it (3.14) or `backports.zstd` is installed. Knows bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Final, Protocol

from erlbridge.limits import MAX_ZSTD_WINDOW_LOG

COMPRESSIONS: Final = ("zlib", "none", "zstd")
"""All that a transfer may name; their places are written to disk."""

_PIECE_BYTES: Final = 1024 * 1024
"""Most that is unpacked at once: what bounds the memory that a bomb gets."""


class Broken(Exception):
    """The bytes are no stream of this kind; the text says why."""


class Inflation(Protocol):
    """One compressed stream that is being unpacked."""

    @property
    def is_over(self) -> bool:
        """Whether the stream has said that it ends."""

    def take(self, data: bytes) -> Iterator[bytes]:
        """What the next bytes unpack to, piece by piece. Raises `Broken`."""


@cache
def available() -> tuple[str, ...]:
    """What this node takes, the one that is meant when nothing is said first."""
    return COMPRESSIONS if _zstd_module() else COMPRESSIONS[:2]


def inflation(compression: str) -> Inflation | None:
    """A stream's beginning; None for `none`. Raises `Broken` for what this node cannot unpack."""
    match compression:
        case "none":
            return None
        case "zlib":
            return _Zlib()
        case _:
            if (module := _zstd_module()) is None:
                raise Broken("Zstandard is not installed beside this node")
            return _Zstd(module)


@cache
def _zstd_module() -> str | None:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            if find_spec(name) is not None:
                return name
        except ModuleNotFoundError:  # not even what it would be in
            continue
    return None


class _Zlib:
    def __init__(self) -> None:
        self._inflater = zlib.decompressobj()

    @property
    def is_over(self) -> bool:
        return self._inflater.eof

    def take(self, data: bytes) -> Iterator[bytes]:
        inflater = self._inflater
        while True:
            try:
                piece = inflater.decompress(data, _PIECE_BYTES)
            except zlib.error as error:
                raise Broken(str(error)) from None
            data = inflater.unconsumed_tail
            if inflater.unused_data:
                raise Broken("bytes follow its end")
            if piece:
                yield piece
            if inflater.eof or (not data and len(piece) < _PIECE_BYTES):
                return


class _Decompressor(Protocol):
    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Zstd:
    def __init__(self, module: str) -> None:
        zstd = import_module(module)
        make: Callable[[None, Mapping[object, int]], _Decompressor] = zstd.ZstdDecompressor
        self._error: type[Exception] = zstd.ZstdError
        self._inflater = make(None, {zstd.DecompressionParameter.window_log_max: MAX_ZSTD_WINDOW_LOG})

    @property
    def is_over(self) -> bool:
        return self._inflater.eof

    def take(self, data: bytes) -> Iterator[bytes]:
        inflater = self._inflater
        while True:
            try:
                piece = inflater.decompress(data, _PIECE_BYTES)
            except self._error as error:
                raise Broken(str(error)) from None
            data = b""
            if inflater.unused_data:
                raise Broken("bytes follow its end")
            if piece:
                yield piece
            if inflater.eof or (inflater.needs_input and len(piece) < _PIECE_BYTES):
                return
