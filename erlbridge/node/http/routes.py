"""Which path gives what. A handler takes the desk and the request and gives a `Reply`; it runs in HTTP's thread."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from erlbridge.node.http import library, pages
from erlbridge.node.http.chronicle import Chronicle
from erlbridge.node.http.frames import FrameViews
from erlbridge.node.http.mailbox import Answer, Mailbox
from erlbridge.node.http.messages import (
    HttpRequest,
    InLoop,
    Reply,
    Response,
    Stream,
    json_response,
    refusal,
)
from erlbridge.node.http.metrics import Metrics

if TYPE_CHECKING:
    from erlbridge.node.node import Node

_ALIVE_WITHIN_S: Final = 1.0
_DONE_WITHIN_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Desk:
    """What handlers have: what the loop has told, and a way to ask it."""

    chronicle: Chronicle
    mailbox: Mailbox
    metrics: Metrics
    frames: FrameViews

    def say(self, level: str, text: str) -> None:
        """Tells the host's log."""
        self.mailbox.ask(lambda node, _answer: node.host.log(level, text.encode()))


Handler: TypeAlias = Callable[[Desk, HttpRequest], Reply]


def _healthz(_desk: Desk, _request: HttpRequest) -> Reply:
    def then(outcome: Any) -> Response:
        if outcome is None:
            return refusal(503, f"the node's loop has not answered within {_ALIVE_WITHIN_S:g} s")
        return Response(200, b"ok\n")

    return InLoop(lambda _node, answer: answer(True), _ALIVE_WITHIN_S, then)


def _readyz(_desk: Desk, _request: HttpRequest) -> Reply:
    def then(outcome: Any) -> Response:
        if outcome is None:
            return refusal(503, f"the node's loop has not answered within {_ALIVE_WITHIN_S:g} s")
        return refusal(503, outcome) if outcome else Response(200, b"ready\n")

    return InLoop(lambda node, answer: answer(node.scheduler.admission.unready() or ""), _ALIVE_WITHIN_S, then)


def _state(desk: Desk, _request: HttpRequest) -> Reply:
    return json_response(desk.chronicle.state()[1])


def _frames(desk: Desk, _request: HttpRequest) -> Reply:
    return json_response({"frames": desk.frames.of(desk.chronicle.frames())})


def _metrics(desk: Desk, request: HttpRequest) -> Reply:
    def look(node: Node, answer: Answer) -> None:
        desk.chronicle.beat(node.health(), keep=False)
        answer(True)

    def then(_outcome: Any) -> Response:  # a loop that does not answer leaves what was seen last
        text, content_type = desk.metrics.text(request.header("accept"))
        return Response(200, text, content_type)

    return InLoop(look, _ALIVE_WITHIN_S, then)


def _events(_desk: Desk, _request: HttpRequest) -> Reply:
    return Stream()


def _cancel(desk: Desk, request: HttpRequest) -> Reply:
    try:
        asked = json.loads(request.body)
    except (ValueError, RecursionError):
        return refusal(400, "expected JSON")
    number = asked.get("job") if isinstance(asked, dict) else None
    if type(number) is not int:
        return refusal(400, 'expected {"job": number}')
    key = desk.chronicle.key_of(number)
    if key is None:
        return refusal(404, f"no job {number} waits or runs; it may be over")

    def cancel(node: Node, answer: Answer) -> None:
        answer(node.cancel(key))

    def then(outcome: Any) -> Response:
        if outcome is None:
            return refusal(503, f"the node's loop has not answered within {_DONE_WITHIN_S:g} s")
        if not outcome:
            return refusal(404, f"job {number} is over")
        return json_response({"status": "cancelling"})

    return InLoop(cancel, _DONE_WITHIN_S, then)


ROUTES: Final[Mapping[str, Mapping[str, Handler]]] = {
    "/healthz": {"GET": _healthz},
    "/readyz": {"GET": _readyz},
    "/metrics": {"GET": _metrics},
    "/api/state": {"GET": _state},
    "/api/frames": {"GET": _frames},
    "/api/events": {"GET": _events},
    "/api/cancel": {"POST": _cancel},
    "/api/programs": {"GET": library.programs},
    "/api/report": {"GET": library.report},
    **{path: {"GET": pages.page} for path in pages.FILES},
}
"""Handlers by path and method; HEAD is answered as GET is."""


def reply(desk: Desk, request: HttpRequest) -> Reply:
    """What a request gets."""
    methods = ROUTES.get(request.path)
    if methods is None:
        return refusal(404, "there is nothing here")
    handler = methods.get("GET" if request.method == "HEAD" else request.method)
    if handler is None:
        return refusal(405, "this path takes another method", {"Allow": ", ".join(methods)})
    return handler(desk, request)
