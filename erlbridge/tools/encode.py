"""`erlbridge encode`: a term that somebody wrote, in either notation, as bytes."""

from __future__ import annotations

import sys
from typing import Final

from erlbridge.codec import term_to_binary
from erlbridge.codec.notation import NotationError, from_elixir, from_erlang
from erlbridge.tools.json_view import line

_READERS = {"elixir": from_elixir, "erlang": from_erlang}
NOTATIONS: Final = tuple(_READERS)


def read_term(text: str, notation: str | None = None) -> object:
    """The term of the text, in the notation given, else in Elixir's or, where that fails, Erlang's.

    Raises:
        NotationError: It is in neither; told is what the one says that could read more of it.
    """
    if notation is not None:
        return _READERS[notation](text)
    try:
        return from_elixir(text)
    except NotationError as error:
        elixir = error
    if "%" in text:  # a map there, a comment in Erlang: half of an Elixir term must not pass for an Erlang one
        raise elixir
    try:
        return from_erlang(text)
    except NotationError as erlang:
        if (erlang.line, erlang.column) > (elixir.line, elixir.column):
            raise
        raise elixir from None


def encode(
    text: str, *, notation: str | None, raw: bool, frame: bool, compressed: bool, deterministic: bool, json: bool
) -> int:
    """Prints the term's bytes."""
    # What is no UTF-8 is told with its place, as the rest of a command line is.
    source = sys.stdin.buffer.read().decode(errors="surrogateescape") if text == "-" else text
    data = term_to_binary(read_term(source, notation), compressed=compressed, deterministic=deterministic)
    if frame:
        data = len(data).to_bytes(4, "big") + data
    if raw:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    elif json:
        sys.stdout.write(line({"hex": data.hex(), "bytes": len(data)}) + "\n")
    else:
        sys.stdout.write(data.hex() + "\n")
    return 0
