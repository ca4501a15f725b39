"""Training and validation data: the host's maps, checked field by field against a signature.

Knows terms and field types; knows no DSPy. A job keeps the raw list, or where a dataset lies, and reads it in the
worker, so that many examples cost the node nothing but their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from erlbridge.codec import Atom
from erlbridge.core.bounds import check_items, check_number, check_text
from erlbridge.core.datasets import Dataset
from erlbridge.core.field_types import ANY, FieldType
from erlbridge.core.lazy import Lazy
from erlbridge.core.signatures import Field, Signature
from erlbridge.errors import ValidationError
from erlbridge.wire.place import Place, listed

_MAX_VALUE_DEPTH = 64

MAX_INTEGER_DIGITS: Final = 1000
"""Longest integer of an example or an input. DSPy writes it into a prompt and reads one from an answer, and Python
refuses both above 4,300 digits; this leaves room for what is worked out from it."""

_TOO_LARGE: Final = 10**MAX_INTEGER_DIGITS


@dataclass(frozen=True, slots=True)
class Examples:
    """A list of examples as the host sent it, or a stored dataset, not read yet."""

    place: Place

    @classmethod
    def at(cls, place: Place) -> Examples:
        """The examples at a place: a list that is not empty, or a dataset, which never is."""
        if not isinstance(place.term, Dataset) and (not isinstance(place.term, list) or not place.term):
            raise place.refused("a list of at least one example, or {:dataset, name}")
        return cls(place)

    def __len__(self) -> int:
        found = self.place.term
        assert isinstance(found, list | Dataset)  # noqa: S101 - `at` has seen to it
        return len(found)

    @property
    def stored(self) -> bool:
        """Whether they are those of a dataset, each read when it is asked for."""
        return isinstance(self.place.term, Dataset)

    def read(self, signature: Signature) -> Sequence[dict[str, object]]:
        """Each example as field name to value, both inputs and outputs, in order.

        An example is a flat map, or `%{input: …, output: …}`. Entries that the signature does not name are left out.
        Raises `ValidationError` with the path of the first wrong value. Those of a dataset are read, and refused, when
        they are asked for, each time anew; their paths count its examples as they are stored, whatever the view.
        """

        def fields(item: Place) -> dict[str, object]:
            return read_fields(_flat(item, signature), signature.fields, item.path)

        found, path = self.place.term, self.place.path
        if isinstance(found, Dataset):
            term = found.term
            return Lazy(lambda place: fields(Place(term(place), f"{path}[{place}]")), found.order)
        return [fields(item) for item in self.place.items()]


def read_inputs(place: Place, signature: Signature) -> dict[str, object]:
    """The input fields of one map."""
    return read_fields(place.entries(), signature.input_fields, place.path)


def read_fields(entries: Mapping[str, Place], fields: Iterable[Field], path: str) -> dict[str, object]:
    """The value of each field, checked against its type."""
    found: dict[str, object] = {}
    for field in fields:
        place = entries.get(field.name)
        if place is None:
            if field.type.kind != "optional":
                raise ValidationError(f"expected the field `{field.name}`, got {listed(entries)}", path)
            found[field.name] = None
        else:
            found[field.name] = read_value(place, field.type)
    return found


def _flat(item: Place, signature: Signature) -> Mapping[str, Place]:
    entries = item.entries()
    if set(entries) == {"input", "output"} and not {"input", "output"} <= {field.name for field in signature.fields}:
        return {**entries["input"].entries(), **entries["output"].entries()}
    return entries


def read_value(place: Place, kind: FieldType, depth: int = _MAX_VALUE_DEPTH) -> object:
    """A term as the Python value that its field's type says, within its bounds; text comes from binaries and atoms."""
    match kind.kind:
        case "string":
            text = place.name()
            check_text(place, text, kind.bounds)
            return text
        case "enum":
            return _read_enum(place, kind)
        case "integer":
            integer = _short(place, place.integer())
            check_number(place, integer, kind.bounds)
            return integer
        case "number":
            number = place.number()
            check_number(place, number, kind.bounds)
            return number
        case "boolean":
            return place.boolean()
        case "optional":
            return None if place.term is None else read_value(place, kind.items or ANY, depth)
        case "list":
            items = kind.items or ANY
            check_items(place, len(place.elements()), kind.bounds)
            return [read_value(item, items, depth - 1) for item in place.items()]
        case "map":
            values = kind.items or ANY
            return {name: read_value(value, values, depth - 1) for name, value in place.entries().items()}
        case "object":
            return _read_object(place, kind, depth)
        case _:
            return plain(place, depth)


def _read_enum(place: Place, kind: FieldType) -> str | int:
    if all(isinstance(value, str) for value in kind.values):
        return place.choice([str(value) for value in kind.values])
    found = place.term if isinstance(place.term, int) and not isinstance(place.term, bool) else place.name()
    if found not in kind.values:
        raise place.refused(f"one of {', '.join(map(str, kind.values))}")
    return found


def _read_object(place: Place, kind: FieldType, depth: int) -> dict[str, object]:
    entries = place.entries()
    known = {entry.name: entry for entry in kind.properties}
    if kind.items is None and (unknown := [name for name in entries if name not in known]):
        raise ValidationError(f"expected only {listed(known)}, got {listed(unknown)}", place.path)
    found: dict[str, object] = {}
    for name, entry in known.items():
        value = entries.get(name)
        if value is None:
            if entry.required:
                raise ValidationError(f"expected the key `{name}`, got {listed(entries)}", place.path)
        elif value.term is not None or entry.required or entry.type.kind in ("optional", "any"):
            found[name] = read_value(value, entry.type, depth - 1)
        # else nil stands for an entry that is left out, as it does in a struct of Elixir
    rest = {name: value for name, value in entries.items() if name not in known}
    return found | {name: read_value(value, kind.items or ANY, depth - 1) for name, value in rest.items()}


def plain(place: Place, depth: int = _MAX_VALUE_DEPTH) -> object:
    """Any term that has a JSON-like Python value; the rest (pids, funs, bitstrings …) is refused."""
    if depth == 0:
        raise ValidationError(f"expected a value nested at most {_MAX_VALUE_DEPTH} deep", place.path)
    match place.term:
        case None | bool() | float():
            return place.term
        case int():
            return _short(place, place.term)
        case Atom() | bytes() | str():
            return place.name()
        case list():
            return [plain(item, depth - 1) for item in place.items()]
        case tuple() as elements:
            return [plain(Place(element, f"{place.path}[{i}]"), depth - 1) for i, element in enumerate(elements)]
        case dict() | Mapping():  # the first is told by its type alone
            return {name: plain(value, depth - 1) for name, value in place.entries().items()}
        case _:
            raise place.refused("text, a number, a boolean, nil, a list or a map")


def _short(place: Place, value: int) -> int:
    if abs(value) >= _TOO_LARGE:
        raise place.refused(f"an integer of at most {MAX_INTEGER_DIGITS} digits")
    return value
