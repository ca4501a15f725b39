"""One connection: its requests one after the other, and what it gets. h11 knows the protocol; here are the limits.

A client that sends slowly, reads slowly or sends too much costs a connection for seconds, and nothing else.
"""

from __future__ import annotations

import selectors
import socket
import traceback
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import h11

from erlbridge.node.http.admission import HEADERS, Admission
from erlbridge.node.http.mailbox import Asked
from erlbridge.node.http.messages import HttpRequest, InLoop, Reply, Response, Stream, compact, read_request, refusal
from erlbridge.node.http.routes import Desk, reply

Made = TypeVar("Made", bound=Reply)

_MOST_HEADER_BYTES: Final = 16 * 1024
_MOST_BODY_BYTES: Final = 64 * 1024
_READ_BYTES: Final = 16 * 1024
_RECEIVE_S: Final = 10.0
"""How long a request may take to come, from the connection's begin or the answer before it."""
_SEND_S: Final = 20.0
"""How long a client may take nothing of what waits for it."""
_UNREAD_BYTES: Final = 256 * 1024
"""What may wait for who follows events; the news stay where they are above it, and are fewer when they come."""
_KEEP_ALIVE_S: Final = 15.0
_FOLLOW_AGAIN_S: Final = 10
"""When one that may not follow is to ask again."""


class Connection:
    """One client. `now` is the monotonic clock wherever it is asked for.

    Args:
        may_follow: Whether there is a place left for one that follows events.
    """

    def __init__(
        self, client: socket.socket, admission: Admission, desk: Desk, may_follow: Callable[[], bool], now: float
    ) -> None:
        self.client = client
        self.closed = False
        self.follows = False
        self.version = -1
        self._admission = admission
        self._desk = desk
        self._may_follow = may_follow
        self._wire = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_HEADER_BYTES)
        self._head: h11.Request | None = None
        self._body = b""
        self._unsent = bytearray()
        self._asked: tuple[Asked, InLoop, float] | None = None
        self._last = False
        self._due_at = now + _RECEIVE_S
        self._said_at = now

    @property
    def wants_to_write(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._unsent)

    @property
    def wants_to_read(self) -> bool:
        """Whether more may be taken from the client: not while it is answered."""
        return self._asked is None and (not self._unsent or self.follows)

    @property
    def idle(self) -> bool:
        """Whether nobody would miss anything if it were closed."""
        return self._asked is None and not self._unsent and not self.follows

    # -- what happens

    def happened(self, events: int, now: float) -> None:
        """What the selector has seen."""
        if events & selectors.EVENT_READ:
            self.read(now)
        if events & selectors.EVENT_WRITE and not self.closed:
            self.write(now)

    def read(self, now: float) -> None:
        """Takes what has come."""
        try:
            data = self.client.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or self.follows:  # who follows has nothing more to say
            self.closed = self.closed or not data
            return
        try:
            self._wire.receive_data(data)
            self._take(now)
        except h11.RemoteProtocolError as error:
            self._give_up(refusal(error.error_status_hint, "this is no request that is understood"), now)

    def write(self, now: float) -> None:
        """Sends what the client takes."""
        try:
            sent = self.client.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            self.closed = True
            return
        del self._unsent[:sent]
        if sent:
            self._due_at = now + _SEND_S
        if not self._unsent and not self.follows:
            self._rest(now)

    def look(self, now: float) -> None:
        """Sees to what is due: the loop's answer, news, and an end of patience."""
        if self._asked is not None:
            asked, wanted, until = self._asked
            if asked.done or now >= until:
                self._asked = None
                self._answer(self._made(lambda: wanted.then(asked.outcome if asked.done else None)), now)
        elif self.follows:
            self._tell_news(now)
            if self._unsent and now >= self._due_at:
                self.closed = True
        elif now >= self._due_at:
            self.closed = True

    def close(self) -> None:
        """Ends it."""
        self.client.close()

    # -- requests

    def _take(self, now: float) -> None:
        while True:
            event = self._wire.next_event()
            if isinstance(event, h11.Request):
                self._head, self._body = event, b""
                if self._wire.they_are_waiting_for_100_continue:
                    self._send(self._wire.send(h11.InformationalResponse(status_code=100, headers=[])), now)
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > _MOST_BODY_BYTES:
                    self._give_up(refusal(413, f"at most {_MOST_BODY_BYTES} bytes are taken"), now)
                    return
            elif isinstance(event, h11.EndOfMessage):
                self._serve(now)
                return
            else:
                self.closed = event is not h11.NEED_DATA and not self._unsent
                return

    def _serve(self, now: float) -> None:
        assert self._head is not None  # noqa: S101 - h11 gives a request before its end
        try:
            request = read_request(self._head.method, self._head.target, list(self._head.headers), self._body)
        except ValueError:
            self._give_up(refusal(400, "this is no request that is understood"), now)
            return
        self._carry_out(self._made(lambda: self._admission.refuse(request) or reply(self._desk, request)), request, now)

    def _made(self, make: Callable[[], Made]) -> Made | Response:
        """What a handler gives; its fault is one request's."""
        try:
            return make()
        except Exception:  # noqa: BLE001 - as said
            self._desk.say("error", f"http: {traceback.format_exc()}")
            return refusal(500, "a fault of the node, which its log tells of")

    def _carry_out(self, given: Reply, request: HttpRequest, now: float) -> None:
        match given:
            case Response():
                self._answer(given, now)
            case InLoop():
                self._asked = self._desk.mailbox.ask(given.question), given, now + given.within_s
            case Stream() if request.method == "HEAD":
                self._answer(Response(200, b"", "text/event-stream"), now)
            case Stream() if not self._may_follow():
                again = {"Retry-After": f"{_FOLLOW_AGAIN_S}"}
                self._answer(refusal(503, "too many follow the events of this node", again), now)
            case Stream():
                self._follow(now)

    # -- answers

    def _answer(self, response: Response, now: float) -> None:
        self._begin(response, {"Content-Length": str(len(response.body))}, now)
        if response.body and (self._head is None or self._head.method != b"HEAD"):
            self._send(self._wire.send(h11.Data(data=response.body)), now)
        self._send(self._wire.send(h11.EndOfMessage()), now)

    def _begin(self, response: Response, more: Mapping[str, str], now: float) -> None:
        headers = {**HEADERS, "Content-Type": response.content_type, **more, **response.headers}
        if self._last:
            headers["Connection"] = "close"
        reason = b""
        self._send(
            self._wire.send(h11.Response(status_code=response.status, headers=list(headers.items()), reason=reason)),
            now,
        )

    def _give_up(self, response: Response, now: float) -> None:
        """Answers what cannot be understood, where that may still be said, and ends."""
        self._last = True
        if self._wire.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._answer(response, now)
        else:
            self.closed = True

    def _send(self, data: bytes | None, now: float) -> None:
        if not self._unsent:
            self._due_at = now + _SEND_S
        self._unsent += data or b""

    def _rest(self, now: float) -> None:
        """All has been sent; the next request may come, or has."""
        if self._asked is not None or self._wire.our_state is h11.SEND_RESPONSE:
            return  # it was told to go on
        if self._last or self._wire.our_state is not h11.DONE or self._wire.their_state is not h11.DONE:
            self.closed = True
            return
        self._wire.start_next_cycle()
        self._head = None
        self._due_at = now + _RECEIVE_S
        try:
            self._take(now)
        except h11.RemoteProtocolError as error:
            self._give_up(refusal(error.error_status_hint, "this is no request that is understood"), now)

    # -- events

    def _follow(self, now: float) -> None:
        self.follows = True
        self._begin(Response(200, b"", "text/event-stream"), {"X-Accel-Buffering": "no"}, now)
        self.version, state = self._desk.chronicle.state()
        self._tell("state", state, now)

    def _tell_news(self, now: float) -> None:
        if len(self._unsent) > _UNREAD_BYTES:
            return
        self.version, news = self._desk.chronicle.news(self.version)
        for name, value in news:
            self._tell(name, value, now)
        if now - self._said_at >= _KEEP_ALIVE_S:
            self._said_at = now
            self._send(self._wire.send(h11.Data(data=b": still here\n\n")), now)

    def _tell(self, name: str, value: object, now: float) -> None:
        self._said_at = now
        event = b"event: %s\ndata: %s\n\n" % (name.encode(), compact(value))
        self._send(self._wire.send(h11.Data(data=event)), now)
