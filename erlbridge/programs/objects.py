"""Nested objects as pydantic models, which DSPy's adapters describe to the model and parse its answer into.

The names of a schema come from outside, and pydantic and Python take many names for themselves (`model_config`,
`__class__`, `copy`). So a model's own fields are numbered, and the schema's names stand as their aliases, under which
values are read, described and written.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Any, Literal, Optional

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, create_model, model_serializer

from erlbridge.core.field_types import Bounds, FieldType

_WORD = re.compile(r"[A-Za-z0-9]+")


class Written(BaseModel):
    """What is common to all objects: an entry that was left out is left out of what is written, too."""

    @model_serializer(mode="wrap")
    def written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The entries that were given, by their names in the schema."""
        fields = type(self).model_fields
        left_out = {field.alias for name, field in fields.items() if name not in self.model_fields_set}
        return {name: value for name, value in handler(self).items() if name not in left_out}


@lru_cache(64)
def build_model(kind: FieldType, name: str) -> type[BaseModel]:
    """The model of an object. It is built once for all programs of a job: some milliseconds for each object in it.

    Args:
        kind: Of the kind `object`.
        name: What the object is, such as a field's name; the model is called after it.
    """
    return _build(kind, name)


def _build(kind: FieldType, name: str) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for number, entry in enumerate(kind.properties):
        inner = inner_annotation(entry.type, f"{name} {entry.name}")
        fixed = {"alias": entry.name, "description": entry.description}
        default = ... if entry.required else None
        fields[f"field_{number}"] = (inner, Field(default, **fixed))  # type: ignore[call-overload]
    extra = "forbid" if kind.items is None else "allow"
    base: type[BaseModel] = type(
        "Object",
        (Written,),
        {
            "__module__": __name__,
            "__annotations__": {}
            if kind.items is None
            else {"__pydantic_extra__": dict[str, inner_annotation(kind.items, f"{name} entry")]},  # type: ignore[misc]
            "model_config": ConfigDict(extra=extra, serialize_by_alias=True),  # type: ignore[typeddict-item]
        },
    )
    return create_model(model_name(name), __base__=base, __module__=__name__, **fields)


def model_name(name: str) -> str:
    """What a model is called in a prompt.

    >>> model_name("order line_items"), model_name("__")
    ('OrderLineItems', 'Object')
    """
    return "".join(word[0].upper() + word[1:] for word in _WORD.findall(name))[:80] or "Object"


def inner_annotation(kind: FieldType, name: str) -> Any:
    """The Python type of a value inside of an object or a list, with its bounds."""
    items: Any = Any if kind.items is None or kind.kind == "object" else inner_annotation(kind.items, name)
    match kind.kind:
        case "object":
            return _build(kind, name)
        case "enum":
            return Literal[kind.values]
        case "optional":
            return Optional[items]  # noqa: UP045 - `items` is a value here
        case "list":
            return _bounded(list[items], kind.bounds)
        case "map":
            return dict[str, items]
        case scalar:
            return _bounded(
                {"string": str, "integer": int, "number": float, "boolean": bool, "any": Any}[scalar], kind.bounds
            )


def _bounded(annotation: Any, bounds: Bounds) -> Any:
    if not bounds:
        return annotation
    return Annotated[
        annotation,
        Field(
            ge=bounds.minimum,
            le=bounds.maximum,
            min_length=bounds.min_items if bounds.min_length is None else bounds.min_length,
            max_length=bounds.max_items if bounds.max_length is None else bounds.max_length,
            pattern=bounds.pattern,
        ),
    ]
