"""Python's own objects as maps: dataclasses, pydantic models, msgspec structs, and what an enum stands for.

Knows how each tells its fields; imports none of their packages, as a value of theirs exists only where they are loaded
already. One way only: which class a map was made from, nothing in a term tells.
"""

from __future__ import annotations

import sys
from dataclasses import fields, is_dataclass
from enum import Enum

from erlbridge.codec.atoms import Atom

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def object_to_term(value: object) -> object:
    """The term that stands for the object, with its fields' own values; NotImplemented if the object is none of these.

    Fields have their Python names, as atoms. Of a pydantic model, fields it was told to exclude stay out, extra ones
    have binaries as keys (their names come from data, and atoms are never freed), and a RootModel is its root.
    """
    if isinstance(value, type):
        return NotImplemented
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return {Atom(field.name): getattr(value, field.name) for field in fields(value)}
    pydantic: Any = sys.modules.get("pydantic.main")
    if pydantic is not None and isinstance(value, pydantic.BaseModel):
        return _model(value)
    msgspec: Any = sys.modules.get("msgspec")
    if msgspec is not None and isinstance(value, msgspec.Struct):
        held = {name: getattr(value, name) for name in type(value).__struct_fields__}
        return {Atom(name): part for name, part in held.items() if part is not msgspec.UNSET}
    return NotImplemented


def _model(value: Any) -> object:
    declared = type(value).model_fields
    if type(value).__pydantic_root_model__:
        return value.root
    term: dict[object, object] = {
        Atom(name): getattr(value, name) for name, field in declared.items() if not field.exclude
    }
    for name, part in (value.model_extra or {}).items():
        term[name.encode()] = part
    return term
