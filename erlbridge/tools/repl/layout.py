"""Terms over several lines, as a formatter would break them: what fits on a line stays on one.

`notation` says the words; this says only where lines end. Beyond a depth, and for what is neither tuple, list nor map,
the notation's own single line stands.
"""

from __future__ import annotations

import json
import pprint
from collections.abc import Iterable, Mapping
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
        limit: How many elements of a list, map or tuple, and how many characters of a text, are shown; None for all.

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
            return _python(term, width)
        case "json":
            return json.dumps(as_json(term, "term", lenient=True), ensure_ascii=False, indent=2)
        case _:
            raise ValidationError(f"expected one of {', '.join(NOTATIONS)}, got `{notation[:40]}`", "notation")


def _python(term: object, width: int) -> str:
    try:
        return pprint.pformat(term, width=width, sort_dicts=False)
    except ValueError:  # an integer of more digits than Python spells in good time
        return to_elixir(term)


class _Layout:
    """What both notations have in common: brackets around lines of elements, and entries with a key."""

    map_open = "%{"
    short_keys = False

    def __init__(self, width: int, limit: int | None) -> None:
        self._width = width
        self._limit = limit

    def text(self, term: object) -> str:
        """A term on one line."""
        raise NotImplementedError

    def key(self, key: object) -> str:
        """A map's key with what stands between it and the value."""
        return f"{self.text(key)} => "

    def lines(self, term: object, depth: int) -> list[str]:
        """A term's lines, without indentation of the first level."""
        room = self._width - len(_INDENT) * depth
        if depth >= _DEPTH or not isinstance(term, tuple | list | Mapping) or not term:
            return [self.text(term)]
        if len(term) <= room and len(line := self.text(term)) <= room:
            return [line]
        if isinstance(term, Mapping):
            key = _short_key if self.short_keys and all(map(_is_short, term)) else self.key
            return self._bracketed(
                self.map_open, "}", (self._entry(key(name), value, depth) for name, value in term.items()), len(term)
            )
        opening, closing = ("{", "}") if isinstance(term, tuple) else ("[", "]")
        return self._bracketed(opening, closing, (self.lines(item, depth + 1) for item in term), len(term))

    def _entry(self, key: str, value: object, depth: int) -> list[str]:
        found = self.lines(value, depth + 1)
        if len(found) == 1 and len(key) + len(found[0]) > self._width - len(_INDENT) * (depth + 1):
            return [key.rstrip(), _INDENT + found[0]]
        return [key + found[0], *found[1:]]

    def _bracketed(self, opening: str, closing: str, elements: Iterable[list[str]], count: int) -> list[str]:
        lines = [opening]
        for index, element in enumerate(elements):
            if self._limit is not None and index >= self._limit:
                lines.append(f"{_INDENT}... {count - index} more")
                break
            comma = "," if index < count - 1 else ""
            lines += [_INDENT + line for line in element[:-1]]
            lines.append(_INDENT + element[-1] + comma)
        lines.append(closing)
        return lines


class _Elixir(_Layout):
    short_keys = True
    """As inspect has it: `key: value` where every key is such an atom, else `=>` for all."""

    def text(self, term: object) -> str:
        return to_elixir(term, limit=self._limit)


class _Erlang(_Layout):
    map_open = "#{"

    def text(self, term: object) -> str:
        return to_erlang(term, limit=self._limit)


def _is_short(key: object) -> bool:
    return isinstance(key, Atom) and to_elixir({key: None}).endswith(": nil}")


def _short_key(key: object) -> str:
    return to_elixir({key: None}).removeprefix("%{").removesuffix("nil}")
