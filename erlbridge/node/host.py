"""The host as the node speaks to it: answers, events and calls as frames that it may have, under credit, and audited.

Knows the wire's outgoing side and what waits on it; decides nothing about jobs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from erlbridge.codec import term_to_binary
from erlbridge.core.credit import CreditLine
from erlbridge.core.events import Ask
from erlbridge.core.queue import Entry
from erlbridge.core.sharing import Follower
from erlbridge.errors import BridgeError, Cancelled, SerializationError, ValidationError
from erlbridge.limits import MAX_ID_SHARE, MAX_UNSENT_ANSWER_BYTES, MAX_UNSENT_BYTES, MAX_UNSENT_EVENT_BYTES
from erlbridge.node.audit import Audit
from erlbridge.node.channel import Channel
from erlbridge.node.sending import Sending
from erlbridge.node.transfer_verbs import chunk_bytes
from erlbridge.node.watcher import Watcher
from erlbridge.wire import messages
from erlbridge.wire.messages import Request, Term


def key_of(request_id: Term) -> bytes:
    """An id in its one canonical form, since any term may be an id, hashable in Python or not."""
    return term_to_binary(request_id, deterministic=True)


class Host:
    """Says what the node has to say on `channel`, in frames of at most `max_frame_bytes`."""

    def __init__(
        self, channel: Channel, credit: int, audit: Audit, max_frame_bytes: int, watcher: Watcher | None = None
    ) -> None:
        self.channel = channel
        self.credit = CreditLine(credit)
        self.audit = audit
        self._watcher = watcher or Watcher()
        self._max_frame_bytes = max_frame_bytes
        self._owed: deque[tuple[bytes, Term, Term]] = deque()
        self._sending = Sending(chunk_bytes(max_frame_bytes))

    # -- requests

    def key_for(self, request_id: Term) -> bytes:
        """The key of an id. Raises `ValidationError` for an id that no answer could hold."""
        key = key_of(request_id)
        if not self._may_answer(key):
            limit = self._max_frame_bytes // MAX_ID_SHARE
            raise ValidationError(f"expected an id of at most {limit} bytes, an eighth of a frame", "id")
        return key

    def asked(self, key: bytes, request: Request, frame: bytes | memoryview) -> None:
        """A request has come in, and will be answered."""
        self.audit.arrived(key, frame, request)
        self._watcher.arrived(key, request, len(frame))

    def grant(self, count: int) -> None:
        """The host takes so many more events."""
        self._emit(self.credit.grant(count))
        self._send_chunks()

    def may_have(self, request_id: Term) -> bool:
        """Whether an id is short enough for an answer to hold it."""
        return self._may_answer(key_of(request_id))

    def _may_answer(self, key: bytes) -> bool:
        return len(key) <= self._max_frame_bytes // MAX_ID_SHARE

    # -- answers

    def answer(self, request_id: Term, result: Term, key: bytes | None = None) -> None:
        """The one answer to a request: its result. A host that does not read gets it later: one job may answer so many
        requests that no pause of workers bounds what waits, and here it is one value however often it is owed."""
        if key is None:
            key = key_of(request_id)
        if self.channel.writer.pending_bytes > MAX_UNSENT_BYTES:
            self._owed.append((key, request_id, result))
        else:
            self._give(key, request_id, result)

    def settle_all(self) -> None:
        """Gives what is owed, whether or not the host reads."""
        while self._owed:
            self._give(*self._owed.popleft())

    def _give(self, key: bytes, request_id: Term, result: Term) -> None:
        self._emit(self.credit.settle(key))
        self.credit.forget(key)
        self._answer(key, request_id, messages.ok(request_id, result))

    def answer_error(self, request_id: Term, description: Term) -> None:
        """The same: an error that a worker has described."""
        key = key_of(request_id)
        self.credit.forget(key)
        self._answer(key, request_id, messages.error_as(request_id, description))

    def refuse(self, request_id: Term, failure: BridgeError, unread: bytes | memoryview | None = None) -> None:
        """The same: an error of ours. `unread` is the frame that held no request, and so has not been heard of yet."""
        key = key_of(request_id)
        if unread is not None:
            self.audit.arrived(key, unread, None)
        self._answer(key, request_id, messages.error(request_id, failure))

    def done(self, request_id: Term) -> None:
        """A job is over; what waits of its events is void."""
        self.credit.forget(key_of(request_id))

    def _answer(self, key: bytes, request_id: Term, answer: tuple[Term, ...]) -> None:
        """Sends an answer; a result above the frame limit goes in chunks, an error becomes one that says so."""
        if (first := self._sending.take_again(key, request_id, answer[-1])) is not None:
            self._begin_chunks(key, answer, first)
            return
        frame = messages.encode(answer)
        if len(frame) > self._max_frame_bytes:
            if str(answer[0]) == "ok":
                first = self._sending.take(key, request_id, answer[-1], frame)
                if first is not None:
                    self._begin_chunks(key, answer, first)
                    return
            answer = messages.error(request_id, self._too_long("answer", frame, "ask for less at once"))
            frame = messages.encode(answer)
        self._tell_answer(key, answer, frame)

    def _tell_answer(self, key: bytes, answer: tuple[Term, ...], frame: bytes) -> None:
        self._send(frame)
        self.audit.answered(key, answer, frame)
        self._watcher.answered(key, answer, len(frame))

    # -- answers in chunks

    def _begin_chunks(self, key: bytes, answer: tuple[Term, ...], first: tuple[Term, ...]) -> None:
        self._tell_answer(key, answer, messages.encode(first))
        self._send_chunks()

    def sends(self, key: bytes) -> bool:
        """Whether chunks of the answer to the request with this key wait."""
        return self._sending.holds(key)

    def stop_sending(self, request_id: Term) -> None:
        """Somebody has cancelled a request whose answer is on its way: who waits for the rest hears that none comes."""
        self._sending.stop(key_of(request_id))
        failure = Cancelled("cancelled while the answer was on its way; the rest of it is not sent")
        self._send(messages.encode(messages.error(request_id, failure)))

    def send_the_rest(self) -> None:
        """The node ends: what waits goes out without credit, as far as the host still reads."""
        while self._sending:
            self._emit([self._sending.next()])

    def _send_chunks(self) -> None:
        """Sends chunks while the host has credit for them and takes what was sent."""
        while self._sending and self.channel.writer.pending_bytes <= MAX_UNSENT_EVENT_BYTES and self.credit.take():
            self._emit([self._sending.next()])

    # -- events

    def progress(self, asker: Entry | Follower, state: Term) -> None:
        """How far a job is, where its host wants to know."""
        if asker.request.meta.progress:
            self._emit(self.credit.progress(asker.key, messages.progress(asker.request.id, state)))

    def chunk(self, asker: Entry | Follower, piece: Mapping[Term, Term]) -> None:
        """The next piece of an output of a job."""
        self._emit(self.credit.chunk(asker.key, messages.chunk(asker.request.id, piece)))

    def log(
        self, level: str, line: bytes, *, worker: int | None = None, job: Term = None, logger: bytes | None = None
    ) -> None:
        """A line for the host's log."""
        metadata = {"worker": worker, "job": job, "logger": logger}
        self._watcher.logged(level, line, worker, job, logger)
        self.tell(messages.log(level, line, metadata))

    def tell(self, event: tuple[Term, ...]) -> None:
        """An event that may be dropped: a log line, a sample."""
        self._emit(self.credit.droppable(event))

    def _emit(self, happened: list[tuple[Term, ...]]) -> None:
        """Sends events; one above the frame limit is dropped and counted."""
        for event in happened:
            frame = messages.encode(event)
            if len(frame) > self._max_frame_bytes:
                self.credit.drop(str(event[0]))
            else:
                self._send(frame)

    # -- calls

    def ask(self, call: Ask) -> BridgeError | None:
        """Has the host call a function, for which it needs no credit; gives why it cannot be asked."""
        frame = messages.encode(messages.call(call.call_id, call.id, call.name, call.arguments), head=4)
        if len(frame) > self._max_frame_bytes:
            return self._too_long("call", frame, "give its function less")
        self._send(frame)
        return None

    def release(self, call_id: int) -> None:
        """Tells the host that a function need not go on, though its request does."""
        self._send(messages.encode(messages.call_over(call_id)))

    # -- what waits

    def hold_back(self) -> bool:
        """Holds events and requests back while the host does not take what is there, and lets them go again. Gives
        whether workers shall wait with their answers too."""
        self._sending.let_go()
        unsent = self.channel.writer.pending_bytes
        if unsent <= MAX_UNSENT_EVENT_BYTES and not (
            self._owed or self.channel.paused or self.credit.held or self._sending
        ):
            return False  # asked after each frame, of which nearly none finds a host that does not read
        while self._owed and self.channel.writer.pending_bytes <= MAX_UNSENT_ANSWER_BYTES:
            self._give(*self._owed.popleft())
        unsent = self.channel.writer.pending_bytes
        self.channel.pause(unsent > MAX_UNSENT_ANSWER_BYTES)
        if self.credit.held != (unsent > MAX_UNSENT_EVENT_BYTES):
            self._emit(self.credit.hold(not self.credit.held))
        self._send_chunks()
        return unsent > MAX_UNSENT_BYTES

    def _send(self, frame: bytes) -> None:
        self._watcher.frame(True, frame)
        self.channel.send(frame)

    def _too_long(self, what: str, frame: bytes, remedy: str) -> SerializationError:
        limit = self._max_frame_bytes
        text = f"{what} of {len(frame)} bytes, limit {limit}; {remedy}"
        return SerializationError(text, context={"limit": limit})
