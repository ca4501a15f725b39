"""Terms as JSON, for people and for other programs."""

from __future__ import annotations

import json
from collections.abc import Mapping

from erlbridge.codec import Atom
from erlbridge.errors import ValidationError


def as_json(term: object, path: str, *, lenient: bool = False) -> object:
    """A term as a value of JSON: binaries and atoms are texts, nil is null, tuples are arrays.

    Args:
        path: What an error calls it.
        lenient: Whether what JSON has no form for becomes a text that only people understand.

    Raises `ValidationError` for that otherwise.
    """
    match term:
        case None | bool() | int() | float() | str():
            return term
        case Atom():
            return str(term)
        case bytes():
            return _text(term, path, lenient=lenient)
        case list() | tuple():
            return [as_json(item, f"{path}[{index}]", lenient=lenient) for index, item in enumerate(term)]
        case Mapping():
            return _object(term, path, lenient=lenient)
        case _ if lenient:
            return repr(term)
        case _:
            raise ValidationError(f"expected what JSON has a form for, got {type(term).__name__}", path)


def line(value: object) -> str:
    """A value of JSON on one line, in UTF-8 as it stands."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _text(term: bytes, path: str, *, lenient: bool) -> str:
    try:
        return term.decode()
    except UnicodeDecodeError:
        if lenient:
            return term.decode(errors="backslashreplace")
        raise ValidationError("expected a text, got a binary that is no UTF-8", path) from None


def _object(term: Mapping[object, object], path: str, *, lenient: bool) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in term.items():
        name = as_json(key, path, lenient=lenient)
        if not isinstance(name, str):
            name = line(name)
            if not lenient:
                raise ValidationError(f"expected texts and atoms as keys, got {name}", path)
        if name in found and not lenient:
            raise ValidationError(f"two keys are the same in JSON: {name}", path)
        found[name] = as_json(value, f"{path}.{name}", lenient=lenient)
    return found
