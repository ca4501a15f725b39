"""The stored programs and their reports, for the console. The store is asked by the thread of the node's disk, as
requests ask it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from erlbridge.codec import Atom
from erlbridge.errors import BridgeError, NotFound, ValidationError
from erlbridge.node.http.mailbox import Answer
from erlbridge.node.http.messages import HttpRequest, InLoop, Reply, Response, json_response, refusal
from erlbridge.node.http.views import plain
from erlbridge.wire.messages import Term
from erlbridge.wire.vocabulary import atom

if TYPE_CHECKING:
    from erlbridge.node.node import Node

_SHOWN: Final = 50
_WITHIN_S: Final = 5.0
_FENCE: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; sandbox"
"""A report holds what jobs wrote, so its page has no origin and runs nothing, whatever stands in it."""


def programs(_desk: object, _request: HttpRequest) -> Reply:
    """The newest programs as JSON: `{"programs": […], "more": bool}`, each as `list_programs` has it and with `report`,
    whether one is kept."""

    def work(node: Node) -> dict[str, Any]:
        found = plain(node.stock.shelves.ask("list_programs", {Atom("limit"): _SHOWN}))
        listed = [{**one, "report": node.store.reports.has(one["program_id"])} for one in found["programs"]]
        return {"programs": listed, "more": found["next"] is not None}

    return _asked("list_programs", work, json_response)


def report(_desk: object, request: HttpRequest) -> Reply:
    """The report on the program that `?program=` names, as it would be written into a file."""
    payload: Term = {Atom("program_id"): request.query.get("program", "").encode()}

    def work(node: Node) -> str:
        found: Any = node.stock.shelves.ask("get_report", payload)
        return str(found[atom("report")][atom("html")])

    def then(html: str) -> Response:
        return Response(200, html.encode(), "text/html; charset=utf-8", {"Content-Security-Policy": _FENCE})

    return _asked("get_report", work, then)


def _asked(what: str, work: Callable[[Node], Any], then: Callable[[Any], Response]) -> InLoop:
    """Has the disk's thread do something; `then` makes an answer of what comes of it, where that is no error."""

    def ask(node: Node, answer: Answer) -> None:
        node.disk.run_if_room(what, lambda: work(node), answer)

    def finish(outcome: Any) -> Response:
        match outcome:
            case None:
                return refusal(503, f"the disk has not answered within {_WITHIN_S:g} s")
            case NotFound():
                return refusal(404, str(outcome))
            case ValidationError():
                return refusal(400, str(outcome))
            case BridgeError():
                return refusal(503, str(outcome))
            case _:
                return then(outcome)

    return InLoop(ask, _WITHIN_S, finish)
