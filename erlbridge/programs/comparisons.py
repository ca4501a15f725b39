"""How two values compare, 0.0 to 1.0: what the example has, and what the program gave.

Knows plain values; knows neither examples nor models.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from typing import Final

_PUNCTUATION: Final = re.compile(r"[^\w\s]|_")
_NUMBER: Final = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def exact_match(gold: object, found: object) -> float:
    """1.0 when both are equal; a list or map is compared whole."""
    return float(gold == found and isinstance(gold, bool) == isinstance(found, bool))


def normalized_match(gold: object, found: object) -> float:
    """1.0 when both are equal but for case, white space, punctuation and Unicode's compatibility forms."""
    return float(normalized(gold) == normalized(found))


def f1(gold: object, found: object) -> float:
    """Harmonic mean of precision and recall over the words of both, each word counted as often as it occurs."""
    wanted, given = Counter(_words(gold)), Counter(_words(found))
    if not wanted or not given:
        return float(wanted == given)
    common = (wanted & given).total()
    return 2 * common / (wanted.total() + given.total())


def contains(gold: object, found: object) -> float:
    """1.0 when the prediction contains the example's text, case and punctuation aside; nothing contains no text."""
    wanted, given = " ".join(_words(gold)), " ".join(_words(found))
    return float(wanted in given if wanted else not given)


def numeric(gold: object, found: object, tolerance: float = 0.0) -> float:
    """1.0 when both are numbers at most `tolerance` apart. Raises `ValueError` when the example's is no number."""
    wanted = _number(gold)
    if wanted is None:
        raise ValueError(f"the metric `numeric` needs a number in the example, got {gold!r}")
    given = _number(found)
    if given is None:
        return 0.0
    return float(math.isclose(wanted, given, rel_tol=1e-9, abs_tol=tolerance))


def set_overlap(gold: object, found: object) -> float:
    """The distinct elements that both have, of all that either has (Jaccard's index); 1.0 when neither has any.

    Elements are compared as `normalized_match` does. A value that is no list is a list of itself, nil an empty one.

    >>> set_overlap(["red", "blue"], ["Blue", "green"])
    0.3333333333333333
    """
    wanted, given = set(_elements(gold)), set(_elements(found))
    return len(wanted & given) / len(wanted | given) if wanted or given else 1.0


def list_overlap(gold: object, found: object) -> float:
    """Harmonic mean of precision and recall over the elements, in any order, each counted as often as it occurs.

    Elements are compared as `normalized_match` does. A value that is no list is a list of itself, nil an empty one.

    >>> list_overlap(["a", "a", "b"], ["a", "c"])
    0.4
    """
    wanted, given = Counter(_elements(gold)), Counter(_elements(found))
    total = wanted.total() + given.total()
    return 2 * (wanted & given).total() / total if total else 1.0


COMPARISONS: Final[Mapping[str, Callable[[object, object], float]]] = {
    "exact_match": exact_match,
    "normalized_match": normalized_match,
    "f1": f1,
    "contains": contains,
    "numeric": numeric,
    "set_overlap": set_overlap,
    "list_overlap": list_overlap,
}


def normalized(value: object) -> object:
    """The value with its texts as `normalized_match` compares them: words in lower case, without punctuation."""
    match value:
        case str():
            return " ".join(_words(value))
        case list():
            return [normalized(item) for item in value]
        case dict():
            return {normalized(key): normalized(item) for key, item in value.items()}
        case _:
            return value


def _words(value: object) -> list[str]:
    match value:
        case None:
            return []
        case list():
            return [word for item in value for word in _words(item)]
        case dict():
            return [word for item in value.values() for word in _words(item)]
        case _:
            return _PUNCTUATION.sub(" ", unicodedata.normalize("NFKC", str(value)).casefold()).split()


def _number(value: object) -> float | None:
    """The number that a value is, or the only one that its text names."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        named: list[str] = _NUMBER.findall(value)
        if len(named) != 1:
            return None
        value = float(named[0].replace(",", ""))
    try:
        found = float(value)
    except OverflowError:  # an integer beyond any float
        return None
    return found if math.isfinite(found) else None


def _elements(value: object) -> list[Hashable]:
    items = value if isinstance(value, list) else [] if value is None else [value]
    return [_hashable(normalized(item)) for item in items]


def _hashable(value: object) -> Hashable:
    """A value that may stand in a set, equal where the values are; a boolean is no number."""
    match value:
        case bool():
            return ("boolean", value)
        case list():
            return ("list", *(_hashable(item) for item in value))
        case dict():
            return ("map", frozenset((key, _hashable(item)) for key, item in value.items()))
        case _:
            assert isinstance(value, Hashable)  # noqa: S101 - text, a number, bytes or nil: `plain` leaves no other
            return value
