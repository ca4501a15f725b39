"""`erlbridge decode`: bytes as terms, one a line, or byte by byte. What is broken is told with its offset."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from erlbridge.codec import DecodeError, binary_to_term, skip
from erlbridge.codec.annotate import annotate
from erlbridge.codec.notation import to_elixir, to_erlang
from erlbridge.codec.tags import VERSION_MAGIC
from erlbridge.errors import SerializationError
from erlbridge.tools.command import EXIT_FAILED
from erlbridge.tools.failing import error_json
from erlbridge.tools.json_view import as_json, line

FORMATS: Final = ("elixir", "erlang", "python", "json")
_HEAD = 4
_SHOWN_BYTES = 8


@dataclass(frozen=True, slots=True)
class _Piece:
    """What should be one term: where it begins in its source, and its bytes."""

    offset: int
    data: memoryview


def decode(sources: Sequence[str], *, hex: bool, form: str, tags: bool, limit: int | None) -> int:  # noqa: A002
    """Prints what is in the sources; 1 if something in them is no term."""
    broken = False
    for name, data in _read(sources, hexadecimal=hex):
        try:
            for piece in _pieces(memoryview(data)):
                if tags:
                    broken |= _print_tags(piece)
                    continue
                try:
                    text = _shown(binary_to_term(piece.data), form, limit)
                except (DecodeError, RecursionError, ValueError) as error:
                    broken = True
                    _complain(name, piece.offset, error, form)
                else:
                    sys.stdout.write(text + "\n")
        except DecodeError as error:
            broken = True
            _complain(name, 0, error, form)
    return EXIT_FAILED if broken else 0


def _complain(name: str, offset: int, error: Exception, form: str) -> None:
    if isinstance(error, DecodeError):
        bare = error.message.removesuffix(f" at offset {error.offset}")
        beside = f", {error.offset} of the term there" if offset else ""
        offset += error.offset
        problem = f"{bare} at offset {offset}{beside}; --tags shows every byte up to there"
    else:
        problem = f"the term at offset {offset} is too large or deep for --format {form}, take elixir"
    told = SerializationError(f"{name}: {problem}", context={"source": name, "offset": offset})
    if form == "json":
        sys.stdout.write(line({"error": error_json(told)}) + "\n")
    else:
        sys.stderr.write(f"{told.message}\n")


def _read(sources: Sequence[str], *, hexadecimal: bool) -> Iterator[tuple[str, bytes]]:
    if hexadecimal and list(sources) != ["-"]:
        yield "--hex", _from_hex("".join(sources))
        return
    for source in sources:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        name = "standard input" if source == "-" else source
        yield name, _from_hex(data.decode("ascii", "replace")) if hexadecimal else data


def _from_hex(text: str) -> bytes:
    bare = "".join(text.split()).removeprefix("0x")
    try:
        return bytes.fromhex(bare)
    except ValueError:
        at = next((index for index, each in enumerate(bare) if each not in "0123456789abcdefABCDEF"), None)
        what = f"odd number of digits, {len(bare)}" if at is None else f"`{bare[at]}` is no hexadecimal digit"
        raise SerializationError(f"{what}: expected two digits for each byte") from None


def _pieces(data: memoryview) -> Iterator[_Piece]:
    """The terms of a source, or what its frames hold. A broken frame ends at its length, a broken term nowhere."""
    pos = 0
    if len(data) > _HEAD and data[0] != VERSION_MAGIC and data[_HEAD] == VERSION_MAGIC:
        while pos < len(data):
            size = int.from_bytes(data[pos : pos + _HEAD], "big")
            frame = data[pos + _HEAD : pos + _HEAD + size]
            yield _Piece(pos + _HEAD, frame)
            if len(data) - pos - _HEAD < size or len(data) - pos < _HEAD:
                got = max(len(data) - pos - _HEAD, 0)
                raise DecodeError(f"input ends inside a frame, after {got} of its {size} bytes", len(data))
            pos += _HEAD + size
        return
    while pos < len(data) or not pos:
        try:
            end = skip(data, pos)
        except DecodeError:
            end = len(data)
        yield _Piece(pos, data[pos:end])
        pos = end
        if not end:
            return


def _shown(term: object, form: str, limit: int | None) -> str:
    match form:
        case "elixir":
            return to_elixir(term, limit=limit)
        case "erlang":
            return to_erlang(term, limit=limit)
        case "python":
            return repr(term)
        case _:
            return line(as_json(term, "term", lenient=True))


def _print_tags(piece: _Piece) -> bool:
    """Prints a line for each annotation; whether the bytes are no term."""
    broken = False
    write: Callable[[str], object] = sys.stdout.write
    inflated = False
    for found in annotate(piece.data):
        broken = found.broken
        base = 0 if found.packed else piece.offset
        data = b"" if found.packed else piece.data[found.offset : found.offset + found.size]
        shown = bytes(data[:_SHOWN_BYTES]).hex(" ") + (" …" if len(data) > _SHOWN_BYTES else "")
        if found.packed and not inflated:
            inflated = True
            write("  unpacked:\n")
        mark = "!" if broken else " "
        text = f"{found.tag} {found.meaning}".strip()
        write(f"{mark}{base + found.offset:>8}  {shown:<25}  {'  ' * min(found.depth, 40)}{text}\n")
    return broken
