"""Terms over several lines, as a formatter would break them: what fits on a line stays on one.

`notation` says the words; this says only where lines end. Beyond a depth, and for what is neither tuple, list nor map,
the notation's own single line stands.
"""

from __future__ import annotations

import json
import pprint
from collections.abc import Iterator, Mapping
from sys import maxsize
from typing import Final

from erlbridge.codec import Atom
from erlbridge.codec.notation import to_elixir, to_erlang
from erlbridge.errors import ValidationError
from erlbridge.tools.json_view import as_json

NOTATIONS: Final = ("elixir", "erlang", "python", "json")
_DEPTH: Final = 40
_INDENT: Final = "  "


def laid_out(term: object, notation: str, *, width: int, limit: int | None = None) -> str:
    """A term's text in one of `NOTATIONS`, broken after at most about `width` characters.

    Args:
        limit: After about so many characters the rest is left out; None for all of it.

    >>> print(laid_out([1, {"a": [2, 3]}], "elixir", width=12))
    [
      1,
      %{
        "a" =>
          [2, 3]
      }
    ]
    """
    match notation:
        case "elixir":
            return "\n".join(_Elixir(width, limit).lines(term, 0))
        case "erlang":
            return "\n".join(_Erlang(width, limit).lines(term, 0))
        case "python":
            return _cut(_python(term, width, limit), limit)
        case "json":
            return _cut(_json(term, limit), limit)
        case _:
            raise ValidationError(f"expected one of {', '.join(NOTATIONS)}, got `{notation[:40]}`", "notation")


def _python(term: object, width: int, limit: int | None) -> str:
    try:
        return pprint.pformat(term, width=width, sort_dicts=False)
    except (ValueError, RecursionError):  # an integer of more digits, or nesting deeper, than Python takes on
        return to_elixir(term, limit=limit)


def _json(term: object, limit: int | None) -> str:
    try:
        return json.dumps(as_json(term, "term", lenient=True), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return json.dumps(to_elixir(term, limit=limit), ensure_ascii=False)


def _cut(text: str, limit: int | None) -> str:
    return text if limit is None or len(text) <= limit else f"{text[:limit]} ..."


class _Layout:
    """What both notations have in common: brackets around lines of elements, and entries with a key."""

    map_open = "%{"
    short_keys = False

    def __init__(self, width: int, limit: int | None) -> None:
        self._width = width
        self._left = maxsize if limit is None else limit
        """Characters that may still be shown."""

    def text(self, term: object, limit: int) -> str:
        """A term on one line, of about `limit` characters at most."""
        raise NotImplementedError

    def lines(self, term: object, depth: int) -> list[str]:
        """A term's lines, without indentation of the first level."""
        room = max(0, self._width - len(_INDENT) * depth)
        nested = isinstance(term, tuple | list | Mapping) and term and depth < _DEPTH
        # What is elided is longer than the room, so that nothing is written out in full to see that it is too long.
        line = self.text(term, min(self._left, room + 1) if nested else self._left)
        if not nested or len(line) <= min(room, self._left):
            self._left -= len(line)
            return [line]
        if isinstance(term, Mapping):
            short = self.short_keys and all(map(_is_short, term))
            entries = (self._entry(_short_key(key) if short else key, value, depth) for key, value in term.items())
            return self._bracketed(self.map_open, "}", entries, len(term))
        assert isinstance(term, tuple | list)  # noqa: S101 - nested, and no map
        if self.short_keys and isinstance(term, list) and all(map(_is_keyword, term)):
            return self._bracketed("[", "]", (self._entry(_short_key(key), it, depth) for key, it in term), len(term))
        opening, closing = ("{", "}") if isinstance(term, tuple) else ("[", "]")
        return self._bracketed(opening, closing, (self.lines(item, depth + 1) for item in term), len(term))

    def _entry(self, key: object, value: object, depth: int) -> list[str]:
        lead = key if isinstance(key, str) else f"{self.text(key, self._left)} => "
        self._left -= len(lead)
        found = self.lines(value, depth + 1)
        if len(found) == 1 and len(lead) + len(found[0]) > self._width - len(_INDENT) * (depth + 1):
            return [lead.rstrip(), _INDENT + found[0]]
        return [lead + found[0], *found[1:]]

    def _bracketed(self, opening: str, closing: str, elements: Iterator[list[str]], count: int) -> list[str]:
        lines = [opening]
        for index in range(count):
            if self._left <= 0:
                lines.append(f"{_INDENT}... {count - index} more")
                break
            element = next(elements)
            lines += [_INDENT + line for line in element]
            if index < count - 1:
                lines[-1] += ","
        lines.append(closing)
        return lines


class _Elixir(_Layout):
    short_keys = True
    """As inspect has it: `key: value` where every key of a map or of pairs in a list is such an atom."""

    def text(self, term: object, limit: int) -> str:
        return to_elixir(term, limit=limit)


class _Erlang(_Layout):
    map_open = "#{"

    def text(self, term: object, limit: int) -> str:
        return to_erlang(term, limit=limit)


def _is_short(key: object) -> bool:
    return isinstance(key, Atom) and to_elixir({key: None}).endswith(": nil}")


def _is_keyword(pair: object) -> bool:
    return isinstance(pair, tuple) and len(pair) == 2 and _is_short(pair[0])


def _short_key(key: object) -> str:
    return to_elixir({key: None}).removeprefix("%{").removesuffix("nil}")
