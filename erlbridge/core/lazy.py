"""Sequences whose elements are made when they are asked for, and kept by nobody: lists without their memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, overload

Item = TypeVar("Item")
Other = TypeVar("Other")


class Lazy(Sequence[Item]):
    """A sequence of what `make` gives for each number of `order`. A slice of it is a list, as that of a list.

    >>> squares = Lazy(lambda number: number * number, range(5))
    >>> len(squares), squares[-1], squares[1:3], list(squares.ordered([4, 0]))
    (5, 16, [1, 4], [16, 0])
    >>> list(squares.mapped(str))
    ['0', '1', '4', '9', '16']
    """

    def __init__(self, make: Callable[[int], Item], order: Sequence[int]) -> None:
        self._make = make
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self._make(number) for number in self._order[index]]
        return self._make(self._order[index])

    def __iter__(self) -> Iterator[Item]:
        return map(self._make, self._order)

    def mapped(self, function: Callable[[Item], Other]) -> Lazy[Other]:
        """What a function gives for each element, at the time when it is asked for."""
        make = self._make
        return Lazy(lambda number: function(make(number)), self._order)

    def ordered(self, order: Sequence[int]) -> Lazy[Item]:
        """The elements at these places, in their order."""
        return Lazy(lambda place: self[place], order)
