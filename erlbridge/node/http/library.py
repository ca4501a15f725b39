"""The stored programs, for the console. The store is asked by the thread of the node's disk, as requests ask it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from erlbridge.codec import Atom
from erlbridge.errors import BridgeError
from erlbridge.node.http.mailbox import Answer
from erlbridge.node.http.messages import HttpRequest, InLoop, Reply, Response, json_response, refusal
from erlbridge.node.http.views import plain
from erlbridge.wire.messages import Term

if TYPE_CHECKING:
    from erlbridge.node.node import Node

_SHOWN: Final = 50
_WITHIN_S: Final = 5.0


def programs(_desk: object, _request: HttpRequest) -> Reply:
    """The newest programs as JSON: `{"programs": […], "more": bool}`, each as `list_programs` has it."""

    def ask(node: Node, answer: Answer) -> None:
        shelves = node.stock.shelves
        node.disk.run("list_programs", lambda: shelves.ask("list_programs", {Atom("limit"): _SHOWN}), answer)

    return InLoop(ask, _WITHIN_S, _listed)


def _listed(outcome: Any) -> Response:
    if failure := _failure(outcome):
        return failure
    found: Mapping[str, Any] = plain(outcome)
    return json_response({"programs": found["programs"], "more": found["next"] is not None})


def _failure(outcome: Term | BridgeError) -> Response | None:
    """Why there is nothing, where that is so."""
    if outcome is None:
        return refusal(503, f"the disk has not answered within {_WITHIN_S:g} s")
    return refusal(503, str(outcome)) if isinstance(outcome, BridgeError) else None
