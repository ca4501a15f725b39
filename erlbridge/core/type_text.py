"""Types as text, in Python's spellings, JSON Schema's and pipeline_ex's, and back.

Reads with a scanner of its own: nothing is imported or evaluated, and a name that is in no table gives no type.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from erlbridge.core.field_types import ANY, MAX_TYPE_DEPTH, FieldType, Reading, optional
from erlbridge.errors import ValidationError
from erlbridge.limits import MAX_ENUM_VALUES
from erlbridge.wire.place import nearest

_SCALARS: Final = {
    "string": "string", "str": "string", "text": "string",
    "integer": "integer", "int": "integer",
    "number": "number", "float": "number",
    "boolean": "boolean", "bool": "boolean",
    "array": "list", "list": "list",
    "object": "map", "dict": "map", "map": "map",
    "any": "any",
}  # fmt: skip
_CONTAINERS: Final = {"list": "list", "array": "list", "dict": "map", "map": "map", "object": "map"}
_CHOICES: Final = ("literal", "enum")
_KNOWN: Final = (*_SCALARS, "list[TYPE]", "dict[string, TYPE]", "optional[TYPE]", "literal['a', 'b']", "TYPE | None")

_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<name>[A-Za-z_][A-Za-z0-9_.]*) | (?P<number>-?[0-9]{1,18}(?![0-9A-Za-z_.]))
      | (?P<text>'(?:[^'\\\n]|\\['"\\nt])*' | "(?:[^"\\\n]|\\['"\\nt])*") | (?P<mark>[\[\],|])
    )""",
    re.VERBOSE,
)
_ESCAPE: Final = re.compile(r"\\(.)")
_ESCAPES: Final = {"n": "\n", "t": "\t"}
_CUSTOM: Final = re.compile(r"[A-Z][A-Za-z0-9_]*\Z")
_MAX_TOKENS: Final = 2 * MAX_ENUM_VALUES + 1000


class _NoType(Exception):
    """The text is no type; the whole of it is shown to the host."""


def parse_type(text: str, path: str, reading: Reading | None = None) -> FieldType:
    """The type that a text names: `string`, `list[int]`, `dict[str, float]`, `Optional[str]`, `Literal['a', 'b']` …

    A custom name such as `CustomerRecord` is a map with a warning, as pipeline_ex has it; without a `reading`, which
    takes the warning, it is refused. Raises `ValidationError` for whatever else is in no table.

    >>> type_text(parse_type("List[int | None]", "type"))
    'list[optional[integer]]'
    """
    try:
        parser = _Parser(_tokens(text), path, reading)
        found = parser.union(MAX_TYPE_DEPTH)
        parser.end()
    except _NoType:
        shown = text.strip()[:60]
        raise ValidationError(
            f"unknown type `{shown}`{nearest(shown, _KNOWN)}; known are {', '.join(_KNOWN)}", path
        ) from None
    return found


def type_text(kind: FieldType) -> str:
    """A type as `parse_type` reads it, without what a text cannot show: bounds, an object's inside, enums' values.

    >>> type_text(FieldType("map", FieldType("optional", FieldType("number"))))
    'dict[string, optional[number]]'
    """
    match kind.kind:
        case "list":
            return "list" if kind.items is None else f"list[{type_text(kind.items)}]"
        case "map":
            return "dict" if kind.items is None else f"dict[string, {type_text(kind.items)}]"
        case "optional":
            return f"optional[{type_text(kind.items or ANY)}]"
        case scalar:
            return scalar


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        found = _TOKEN.match(text, position)
        if found is None or found.lastgroup is None or len(tokens) == _MAX_TOKENS:
            raise _NoType
        tokens.append((found.lastgroup, found[found.lastgroup]))
        position = found.end()
    return tokens


class _Parser:
    """Reads one type from its tokens."""

    def __init__(self, tokens: Sequence[tuple[str, str]], path: str, reading: Reading | None) -> None:
        self._tokens = tokens
        self._next = 0
        self._path = path
        self._reading = reading

    def union(self, depth: int) -> FieldType:
        """`T`, `T | None` or `None | T`."""
        found = [self._one(depth)]
        while self._takes("|"):
            found.append(self._one(depth))
        return self._joined(found)

    def end(self) -> None:
        """Refuses what stands behind the type."""
        if self._next != len(self._tokens):
            raise _NoType

    def _joined(self, found: list[FieldType | None]) -> FieldType:
        kinds = [kind for kind in found if kind is not None]
        if len(kinds) != 1:
            if len(kinds) > 1:
                raise ValidationError("expected one type, or one type and None, not a choice of several", self._path)
            raise _NoType
        return optional(kinds[0]) if len(found) > 1 else kinds[0]

    def _one(self, depth: int) -> FieldType | None:
        if depth == 0:
            raise ValidationError(f"expected a type nested at most {MAX_TYPE_DEPTH} deep", self._path)
        name = self._take("name").removeprefix("typing.")
        lowered = name.lower()
        if self._reading is not None:
            self._reading.part(self._path)
        if self._takes("["):
            return self._inside(lowered, depth)
        if lowered in ("none", "null", "nil"):
            return None
        if lowered in _SCALARS:
            return FieldType(_SCALARS[lowered])
        if self._reading is not None and _CUSTOM.match(name) and lowered not in ("optional", "union", *_CHOICES):
            self._reading.warnings.append(
                f"{self._path}: the type `{name[:60]}` is not known here; it is read as a map"
            )
            return FieldType("map")
        raise _NoType

    def _inside(self, name: str, depth: int) -> FieldType:
        if name in _CHOICES:
            return self._choice()
        container = _CONTAINERS.get(name)
        if container == "map":
            keys = self._take("name")
            if keys not in ("string", "str") or not self._takes(","):
                raise ValidationError("expected `dict[string, TYPE]`, maps have text as keys", self._path)
            found = FieldType("map", self.union(depth - 1))
        elif container == "list":
            found = FieldType("list", self.union(depth - 1))
        elif name == "optional":
            found = optional(self.union(depth - 1))
        elif name == "union":
            parts = [self._one(depth - 1)]
            while self._takes(","):
                parts.append(self._one(depth - 1))
            found = self._joined(parts)
        else:
            raise _NoType
        if not self._takes("]"):
            raise _NoType
        return found

    def _choice(self) -> FieldType:
        values = [self._value()]
        while self._takes(","):
            values.append(self._value())
        if not self._takes("]"):
            raise _NoType
        if len(set(values)) != len(values) or len(values) > MAX_ENUM_VALUES:
            raise ValidationError(f"expected at most {MAX_ENUM_VALUES} distinct values", self._path)
        return FieldType("enum", values=tuple(values))

    def _value(self) -> str | int:
        kind, token = self._peek()
        self._next += 1
        match kind:
            case "text":
                return _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[1]), token[1:-1])
            case "number":
                return int(token)
            case _:
                raise _NoType

    def _peek(self) -> tuple[str, str]:
        if self._next == len(self._tokens):
            raise _NoType
        return self._tokens[self._next]

    def _take(self, kind: str) -> str:
        found, token = self._peek()
        if found != kind:
            raise _NoType
        self._next += 1
        return token

    def _takes(self, mark: str) -> bool:
        if self._next < len(self._tokens) and self._tokens[self._next] == ("mark", mark):
            self._next += 1
            return True
        return False
