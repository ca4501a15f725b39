"""Atoms, each name one object, and the base of immutable values.

Knows how names become atoms, from any thread, and that they are forgotten when nobody holds them. Of the wire it knows
only the bytes that an atom carries for the encoder.
"""

from __future__ import annotations

import weakref
from weakref import _remove_dead_weakref as remove_dead_weakref  # type: ignore[attr-defined]

from erlbridge.limits import MAX_ATOM_CHARACTERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

set_once = object.__setattr__


class Immutable:
    """Base of the values here: fields are set once, by the constructor, and copies are the value itself."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable, cannot set {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable, cannot delete {name!r}")


class _AtomRef(weakref.ref["Atom"]):
    """A weak reference that knows its atom's name, so that the table can drop the entry once the atom is gone."""

    __slots__ = ("name",)

    name: str


_INTERNED: dict[str, weakref.ref[Atom]] = {}


def _forget(ref: weakref.ref[Atom], remove: object = remove_dead_weakref, table: object = _INTERNED) -> None:
    # Drops the entry only if it is still a dead reference: another thread may have interned the name anew. What it uses
    # is bound as defaults, since atoms also die while the interpreter takes its modules apart.
    remove(table, ref.name)  # type: ignore[operator, attr-defined]


class Atom(Immutable):
    """An Erlang atom: `Atom("ok")`.

    Two atoms of one name are one object, so comparing and hashing cost what `is` costs. The table that ensures it holds
    atoms weakly: a peer that sends ever new atoms leaves nothing behind once its terms are gone. An atom never equals a
    `str` or `bytes` of the same text; `str(atom)` is its name.

    `Atom("true")`, `Atom("false")` and `Atom("nil")` can be made and are written as the atoms they name, but a decoded
    term always has `True`, `False` and `None` in their place, and an `Atom("true")` is not equal to `True`.

    Raises:
        TypeError: The name is not a `str`.
        ValueError: The name has more than 255 characters, or a lone surrogate.

    Source: External Term Format, SMALL_ATOM_UTF8_EXT and ATOM_UTF8_EXT.

    >>> Atom("ok") is Atom("ok"), Atom("ok") == "ok", str(Atom("ok"))
    (True, False, 'ok')
    """

    __slots__ = ("__weakref__", "name", "wire")

    name: str
    """The atom's text, without quotes or colon."""
    wire: bytes
    """The atom as it is written, tag included."""

    def __new__(cls, name: str) -> Atom:
        ref = _INTERNED.get(name)
        if ref is not None:
            known = ref()
            if known is not None:
                return known
        return _intern(name)

    def __init_subclass__(cls, **kwargs: object) -> None:
        raise TypeError("Atom cannot be subclassed: atoms are compared by identity")

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Atom({self.name!r})"

    def __reduce__(self) -> tuple[type[Atom], tuple[str]]:
        return Atom, (self.name,)

    def __copy__(self) -> Atom:
        return self

    def __deepcopy__(self, memo: object) -> Atom:
        return self


def _intern(name: str) -> Atom:
    """The one atom of this name, made now unless another thread is faster."""
    if not isinstance(name, str):
        raise TypeError(f"an atom's name is a str, not {type(name).__name__}")
    name = str.__str__(name)
    if len(name) > MAX_ATOM_CHARACTERS:
        raise ValueError(f"atom of {len(name)} characters, limit {MAX_ATOM_CHARACTERS}")
    text = name.encode()  # UnicodeEncodeError, a ValueError, for a lone surrogate
    size = len(text)
    fresh = object.__new__(Atom)
    set_once(fresh, "name", name)
    set_once(fresh, "wire", (b"w%c" % size if size < 256 else b"v" + size.to_bytes(2, "big")) + text)
    mine = _AtomRef(fresh, _forget)
    mine.name = name
    while True:
        # dict.setdefault is atomic for str keys: of threads that race here, all get the winner's reference.
        ref = _INTERNED.setdefault(name, mine)
        if ref is mine:
            return fresh
        known = ref()
        if known is not None:
            return known
        remove_dead_weakref(_INTERNED, name)
