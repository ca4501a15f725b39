"""Many requests of a node at once, their answers in whichever order they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from node_client import NodeClient

Asked: TypeAlias = tuple[str, object, object]
"""A verb, its payload, and its meta or None."""


def pipelined(node: NodeClient, requests: Iterable[Asked], in_flight: int) -> int:
    """Keeps so many requests in flight until all are answered; gives how many there were. An error ends it."""
    left: Iterator[Asked] = iter(requests)
    waiting = answered = 0
    more = True
    while more or waiting:
        while more and waiting < in_flight:
            if (asked := next(left, None)) is None:
                more = False
            else:
                node.request(*asked)
                waiting += 1
        if waiting:
            term: Any = node.until(lambda term: str(term[0]) in ("ok", "error"))
            assert str(term[0]) == "ok", term
            waiting -= 1
            answered += 1
    node.events.clear()
    return answered
