"""Views of a dataset: some of its examples in some order, without a list of them. Splits and samples are both views.

`%{seed: 7, skip: 0.8, take: 500}` shuffles by the seed, leaves out the first four fifths and gives 500 of the rest. As
a view's shares fall on the same places whatever else it says, what one takes another can skip: nothing is in both.
`limit` keeps the first of what is left, a sample of a part that has shares. Knows numbers; knows no example.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Final, overload

from erlbridge.errors import ValidationError
from erlbridge.wire.place import Place, given, shown

_MOST_SEED: Final = 2**32 - 1
_MOST_COUNT: Final = 2**62
_PARTS: Final = 10**15
"""Shares are counted in these parts of the whole: 0.7 and 0.2 together are 0.9, as they are on paper."""
_ROUNDED: Final = 100
"""Parts that a share which was added up may be off: what is half an example on paper goes up all the same."""

_ROUNDS: Final = 8
_WORD: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class View:
    """Which examples, and in which order.

    Attributes:
        seed: Of their order; None is the order of the stream.
        skip, take: How many of them are left out at the beginning, and how many follow at most: integers are counts,
            floats from 0.0 to 1.0 shares of the whole. `take` None is all that follow.
        limit: How many there are at most; the first of them stay.
    """

    seed: int | None = None
    skip: int | float = 0
    take: int | float | None = None
    limit: int | None = None

    def of(self, examples: int) -> Order:
        """The places of its examples in a dataset of so many. There may be none.

        >>> list(View(skip=0.5, take=2).of(10)), list(View(take=0.8).of(5)), list(View(skip=0.8).of(5))
        ([5, 6], [0, 1, 2, 3], [4])
        """
        skipped = _part(self.skip, examples)
        if self.take is None:
            end = examples
        elif isinstance(self.take, float) and isinstance(self.skip, float):
            end = _share(_parts(self.skip) + _parts(self.take), examples)  # where the view behind it begins
        else:
            end = skipped + _part(self.take, examples)
        span = range(min(skipped, examples), min(max(skipped, end), examples))
        return Order(examples, self.seed, span[: self.limit])


def _part(size: int | float, examples: int) -> int:
    return _share(_parts(size), examples) if isinstance(size, float) else size


def _parts(share: float) -> int:
    return round(share * _PARTS)


def _share(parts: int, examples: int) -> int:
    return ((parts + _ROUNDED) * examples + _PARTS // 2) // _PARTS


def parse_view(place: Place) -> View:
    """The view that a map describes. Raises `ValidationError` with the path."""
    entries = place.only(("seed", "skip", "take", "limit"))
    return View(
        entries["seed"].integer(minimum=0, maximum=_MOST_SEED) if given(entries, "seed") else None,
        _size(entries["skip"]) if given(entries, "skip") else 0,
        _size(entries["take"]) if given(entries, "take") else None,
        entries["limit"].integer(minimum=1, maximum=_MOST_COUNT) if given(entries, "limit") else None,
    )


def _size(place: Place) -> int | float:
    match place.term:
        case float() as share if 0.0 <= share <= 1.0:
            return share
        case int() as count if not isinstance(count, bool) and 0 <= count <= _MOST_COUNT:
            return count
        case _:
            raise place.refused("a count, an integer, or a share, a float from 0.0 to 1.0")


class Order(Sequence[int]):
    """Places in a dataset, in the order of a view; a slice is another such order. Takes no room, however many they are.

    >>> order = Order(1000, 7, range(1000))
    >>> sorted(order) == list(range(1000)), list(order[10:13]) == [order[10], order[11], order[12]]
    (True, True)
    """

    def __init__(self, examples: int, seed: int | None, span: range) -> None:
        self.examples = examples
        self.seed = seed
        self.span = span

    @classmethod
    def of_all(cls, examples: int) -> Order:
        """Every place, as in the stream."""
        return cls(examples, None, range(examples))

    def __len__(self) -> int:
        return len(self.span)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Order: ...
    def __getitem__(self, index: int | slice) -> int | Order:
        if isinstance(index, slice):
            return Order(self.examples, self.seed, self.span[index])
        found = self.span[index]
        return found if self.seed is None else self._shuffle.place(found)

    def __iter__(self) -> Iterator[int]:
        return iter(self.span) if self.seed is None else map(self._shuffle.place, self.span)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Order):
            return NotImplemented
        return (self.examples, self.seed, self.span) == (other.examples, other.seed, other.span)

    def __hash__(self) -> int:
        return hash((self.examples, self.seed, self.span))

    def __repr__(self) -> str:
        first = ", ".join(map(str, islice(self, 3)))
        return f"<{len(self)} of {self.examples} examples: {first} …>"

    @cached_property
    def _shuffle(self) -> Shuffle:
        assert self.seed is not None  # noqa: S101 - who asks has looked
        return Shuffle(self.examples, self.seed)


class Shuffle:
    """A permutation of the first integers that a seed decides, the same on every machine and in every version.

    A Feistel network over a rectangle of about `size` fields; the few places that come to lie outside are sent through
    it again until they do not. (J. Black and P. Rogaway, Ciphers with Arbitrary Finite Domains, 2002.)

    >>> shuffle = Shuffle(6, seed=7)
    >>> sorted(map(shuffle.place, range(6)))
    [0, 1, 2, 3, 4, 5]
    """

    def __init__(self, size: int, seed: int) -> None:
        import hashlib  # noqa: PLC0415 - 5 ms that the node's start does not wait for
        from math import isqrt  # noqa: PLC0415 - beside it

        self._size = size
        self._rows = isqrt(max(size - 1, 0)) + 1
        self._columns = -(-size // self._rows)
        keys = hashlib.shake_256(b"erlbridge view 1 %d" % seed).digest(8 * _ROUNDS)
        self._keys = [int.from_bytes(keys[at : at + 8]) for at in range(0, len(keys), 8)]

    def place(self, index: int) -> int:
        """Where an index comes to lie."""
        while True:
            index = self._once(index)
            if index < self._size:
                return index

    def _once(self, index: int) -> int:
        columns, rows, keys = self._columns, self._rows, self._keys
        row, column = divmod(index, columns)
        for at in range(0, _ROUNDS, 2):
            row = (row + _mixed(column, keys[at])) % rows
            column = (column + _mixed(row, keys[at + 1])) % columns
        return row * columns + column


def _mixed(number: int, key: int) -> int:
    """64 bits of a number and a key in which each bit depends on all (the finalizer of SplitMix64)."""
    mixed = (number * 0x9E3779B97F4A7C15 + key) & _WORD
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _WORD
    return mixed ^ (mixed >> 31)


def read_order(view: View, examples: int, name: str, place: Place) -> Order:
    """The order of a view of a dataset. Raises `ValidationError`, with the view's path, when it holds no example."""
    found = view.of(examples)
    if not found:
        raise ValidationError(
            f"expected a view of at least one example, got {shown(place.term)} that leaves none of {name}, which has "
            f"{examples}",
            place.path,
        )
    return found
