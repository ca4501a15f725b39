"""Terms as people type them: Elixir's notation, Erlang's, or hexadecimal bytes; and such text of a frame to edit."""

from __future__ import annotations

import re

from erlbridge.codec import term_to_binary
from erlbridge.codec.notation import from_elixir, from_erlang
from erlbridge.errors import DecodeError, NotationError, ValidationError
from erlbridge.tools.repl.layout import laid_out
from erlbridge.tools.repl.said import decoded

_HEX = re.compile(r"(?:0x|hex:)?((?:[0-9a-fA-F]{2}[\s:]*)+)")


def read_term(text: str, notation: str) -> object:
    """The term that a text stands for, in Elixir's or Erlang's notation: in the one that is set if it fits that, else
    in the other. A full stop at the end is Erlang's.

    Raises `NotationError` of the notation in which more of the text makes sense.
    """
    readers = (
        [from_erlang, from_elixir]
        if notation == "erlang" or text.rstrip().endswith(".")
        else [from_elixir, from_erlang]
    )
    failures: list[NotationError] = []
    for read in readers:
        try:
            return read(text)
        except NotationError as error:
            failures.append(error)
    raise max(failures, key=lambda error: (error.line, error.column))


def read_bytes(text: str) -> bytes:
    """Bytes from hexadecimal digits; blanks, colons and lines between them are passed over, as is what stands behind
    `|` or `;` on a line. Raises `ValidationError`."""
    digits = " ".join(re.split(r"[|;]", line)[0] for line in text.splitlines()).strip()
    match = _HEX.fullmatch(digits)
    if match is None:
        raise ValidationError("expected hexadecimal digits, two for each byte, such as 836400026f6b", "hex")
    return bytes.fromhex(re.sub(r"[\s:]", "", match[1]))


def editable(data: bytes, width: int) -> tuple[str, str]:
    """A frame as a text to edit, and the suffix of the file: Elixir's notation, or of what is no term the bytes."""
    try:
        return laid_out(decoded(data), "elixir", width=width) + "\n", ".exs"
    except DecodeError as error:
        lines = [data[at : at + 16].hex(" ") for at in range(0, len(data), 16)]
        return "\n".join([f"; no term: {error}", *lines, ""]), ".hex"


def edited(text: str, suffix: str) -> bytes:
    """The frame that an edited text stands for. Raises `NotationError`, `ValidationError`, or `EncodeError`."""
    return read_bytes(text) if suffix == ".hex" else term_to_binary(read_term(text, "elixir"))
