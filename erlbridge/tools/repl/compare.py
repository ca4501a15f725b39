"""Where two terms differ: by path, however deep, and no more of them than somebody reads.

Used to compare two frames, and what a node answers with what it answered once. What differs from run to run whatever
happens is known here by the names of the fields.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from erlbridge.codec import Atom, ImproperList
from erlbridge.tools.repl.said import id_key, short

VOLATILE: Final = frozenset((
    "os_pid", "worker", "duration_ms", "uptime_ms", "elapsed_ms", "retry_after_ms", "stored_at_ms", "used_at_ms",
    "timestamp", "rss_bytes", "cpu_percent", "traceback", "stack", "latency_ms", "cached",
))  # fmt: skip
"""Fields that say when, how long and by which process: they differ each time and mean nothing by it."""
MISSING: Final = "(not there)"
_LIMIT: Final = 200
_DEPTH: Final = 100
"""What stands deeper is shown as a whole: each level is compared anew, and nobody reads so long a path."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A place at which two terms differ, with what each has there."""

    path: str
    left: str
    right: str


def differences(left: object, right: object, *, ignored: Collection[str] = (), limit: int = _LIMIT) -> list[Difference]:
    """Where two terms differ, at most `limit` places. Fields of `ignored` names are passed over, in maps of any
    depth."""
    found: list[Difference] = []
    waiting: list[tuple[str, object, object, int]] = [("", left, right, 0)]
    while waiting and len(found) < limit:
        path, one, other, depth = waiting.pop()
        if one is not _NOTHING and other is not _NOTHING and id_key(one) == id_key(other):
            continue
        whole = one is _NOTHING or other is _NOTHING or depth >= _DEPTH
        inside = None if whole else _inside(one, other, ignored)
        if inside is None:
            found.append(Difference(path.removeprefix(".") or "(all)", _shown(one), _shown(other)))
        else:
            waiting += reversed([(path + step, mine, theirs, depth + 1) for step, mine, theirs in inside])
    return found


_NOTHING: Final = object()


def _inside(one: object, other: object, ignored: Collection[str]) -> Iterator[tuple[str, object, object]] | None:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return _entries(one, other, ignored)
    if isinstance(one, tuple | list) and type(one) is type(other):
        return _elements(one, other)
    if isinstance(one, ImproperList) and isinstance(other, ImproperList):
        return _elements([*one.elements, one.tail], [*other.elements, other.tail])
    return None


def _elements(one: Collection[object], other: Collection[object]) -> Iterator[tuple[str, object, object]]:
    for index, (left, right) in enumerate(zip_longest(one, other, fillvalue=_NOTHING)):
        yield f"[{index}]", left, right


def _entries(
    one: Mapping[object, object], other: Mapping[object, object], ignored: Collection[str]
) -> Iterator[tuple[str, object, object]]:
    mine, theirs = ({id_key(key): (key, value) for key, value in term.items()} for term in (one, other))
    for place in [*mine, *(key for key in theirs if key not in mine)]:
        key = (mine.get(place) or theirs[place])[0]
        name = _name(key)
        if name not in ignored:
            values = (entries[place][1] if place in entries else _NOTHING for entries in (mine, theirs))
            # An atom and a binary of the same name are two keys.
            yield f'."{name}"' if isinstance(key, bytes) else f".{name}", next(values), next(values)


def _name(key: object) -> str:
    match key:
        case Atom():
            return str(key)
        case bytes():
            return key.decode(errors="backslashreplace")
        case _:
            return short(key, 60)


def _shown(term: object) -> str:
    return MISSING if term is _NOTHING else short(term)
