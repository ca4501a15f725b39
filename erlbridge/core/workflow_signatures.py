"""Signatures, templates and examples of a workflow's steps, read with `core.signatures` and `core.examples`.

Those end at the first mistake; here each field and each example is read by itself once something is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from erlbridge.core.examples import Examples
from erlbridge.core.problems import Problems, said
from erlbridge.core.signatures import Signature, check_signature, parse_signature
from erlbridge.core.workflow_prompts import checked_template
from erlbridge.core.workflow_templates import Template
from erlbridge.errors import ValidationError
from erlbridge.wire.place import Place, nearest

_SIDES: Final = ("input_fields", "output_fields")
_PROBE: Final = "probe_of_this_field"
_PLACEHOLDER: Final = "..."


def read_signature(
    place: Place, signatures: Mapping[str, Place], problems: Problems
) -> tuple[object, Signature | None]:
    """The signature at a place, as a term that `parse_signature` reads and as what it reads; None when it is wrong."""
    if isinstance(place.term, str) and "->" not in place.term:
        name = place.term.strip()
        if name not in signatures:
            hint = nearest(name, [*signatures])
            message = f"no signature is called `{name[:60]}`{hint}; send it with the request, under `signatures`"
            problems.error(place.path, message)
            return None, None
        return read_signature(Place(signatures[name].term, place.path), {}, problems)
    try:
        signature = parse_signature(place)
    except ValidationError as error:
        if not _read_each_field(place.term, place.path, problems):
            problems.error(error.path, said(error))
        return None, None
    problems.attempt(check_signature, signature, place.path)
    for warning in signature.warnings:
        path, _, message = warning.partition(": ")
        problems.warn(path, message)
    return place.term, signature


def field_templates(place: Place, steps: Sequence[str], problems: Problems) -> dict[str, Template]:
    """The templates of a signature's input fields."""
    found: dict[str, Template] = {}
    fields = place.term.get("input_fields") if isinstance(place.term, Mapping) else None
    for index, field in enumerate(fields if isinstance(fields, list) else []):
        if not isinstance(field, Mapping) or field.get("template") is None:
            continue
        inner = Place(field["template"], f"{place.path}.input_fields[{index}].template")
        text = problems.attempt(inner.text)
        if text is not None:
            found[str(field.get("name"))] = checked_template(text, inner.path, steps, problems)
    return found


def check_examples(place: Place, signature: Signature | None, problems: Problems) -> Place | None:
    """The examples of a step, None when there are none; each that does not fit the signature is an error."""
    if not isinstance(place.term, list):
        problems.error(place.path, said(place.refused("a list of examples")))
        return None
    if signature is not None:
        _each(place, lambda one: Examples.at(one).read(signature), problems)
    return place if place.term else None


def fits(place: Place, signature: Signature) -> bool:
    """Whether examples that are meant for a whole workflow are examples of this signature too."""
    try:
        Examples.at(place).read(signature)
    except ValidationError:
        return False
    return True


def _read_each_field(term: object, path: str, problems: Problems) -> bool:
    """Whether a field by itself is wrong; if so, every such field is reported."""
    wrong = False
    for side in _SIDES:
        if not isinstance(term, Mapping) or side not in term:
            continue  # what `parse_signature` has said of the whole is all there is to say
        fields = term[side]
        if isinstance(fields, list) and _PLACEHOLDER in fields:
            message = f"`{side}: [...]` is how documents leave the fields out; list them, each with `name` and `type`"
            problems.error(f"{path}.{side}", message)
            wrong = True
            continue
        other = _SIDES[1 - _SIDES.index(side)]

        def read(one: Place, side: str = side, other: str = other) -> object:
            return parse_signature(Place({side: one.term, other: [_PROBE]}, path))

        place = Place(fields, f"{path}.{side}")
        if isinstance(fields, list) and fields:
            wrong |= _each(place, read, problems)
        else:
            problems.error(place.path, said(place.refused("a list of at least one field")))
            wrong = True
    return wrong


def _each(place: Place, read: Callable[[Place], object], problems: Problems) -> bool:
    """Reads each element of a list by itself, in a list of one; whether one was wrong."""
    wrong = False
    for item in place.items():
        try:
            read(Place([item.term], place.path))
        except ValidationError as error:
            wrong = True
            inner = error.path.removeprefix(f"{place.path}[0]") if error.path.startswith(place.path) else ""
            problems.error(f"{item.path}{inner}", said(error))
    return wrong
