"""The frames that were seen, in order, and which of them belong together.

A frame is what a capture's record holds or what the REPL itself sent or got. Each is decoded once, when it is put on
the tape, for a line about it; only the bytes are kept. Knows wires and ids; draws nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from erlbridge.codec import Atom
from erlbridge.errors import DecodeError
from erlbridge.tools.repl.said import Kind, Said, decoded, id_key, said

HOST: Final = "host"
"""The wire between the host and the node."""
OWN: Final = "repl"
"""The wire between the REPL and the node that it has started."""
_NIL: Final = id_key(None)


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame on the tape.

    Attributes:
        number: From 1, in the order in which frames were seen.
        wire: `host`, `repl`, or `worker` and its number.
        inward: Whether it went to the node, or on a worker's wire to the worker.
        monotonic_ns: When, on a clock that is never set; differences alone mean something.
        wall_ns: The same since 1970.
        data: Its bytes, perhaps `cut` or with secrets `redacted`.
        size: How long it was on the wire.
        verb: The verb of the request that it belongs to, empty for none.
        request: The number of that request's frame; of a request its own; 0 for none.
        took_ns: Of an answer, the time since its request.
    """

    number: int
    wire: str
    inward: bool
    monotonic_ns: int
    wall_ns: int
    data: bytes
    size: int
    cut: bool
    redacted: bool
    said: Said
    verb: str
    request: int
    took_ns: int | None = None

    @property
    def is_worker(self) -> bool:
        """Whether it went over a worker's wire."""
        return self.wire.startswith("worker")


@dataclass(frozen=True, slots=True)
class Note:
    """What a capture says besides frames: that some are missing, or that bytes of it are damaged. `after` is the frame
    before it."""

    after: int
    text: str
    bad: bool = True


class Tape:
    """Frames and notes, both in order; `frames[n - 1]` is frame n."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.notes: list[Note] = []
        self._open: dict[tuple[str, bytes], int] = {}
        """The request's frame of every id, the newest of those that had it."""
        self._running: dict[str, int] = {}
        """What runs on a worker's wire, by the number of the frame that started it."""
        self._of: defaultdict[int, list[int]] = defaultdict(list)
        self._answers: dict[int, int] = {}

    def add(
        self,
        data: bytes,
        *,
        wire: str,
        inward: bool,
        monotonic_ns: int,
        wall_ns: int,
        size: int | None = None,
        cut: bool = False,
        redacted: bool = False,
    ) -> Frame:
        """Puts a frame at the tape's end."""
        told = said(data, inward=inward, worker=wire.startswith("worker"))
        number = len(self.frames) + 1
        # What is no term is answered like a request, under nil.
        opens = told.kind is Kind.REQUEST or (told.kind is Kind.BROKEN and inward)
        request = self._request(number, wire, told, opens=opens)
        opened = None if not request or request == number else self.frames[request - 1]
        frame = Frame(
            number, wire, inward, monotonic_ns, wall_ns, data, len(data) if size is None else size, cut, redacted, told,
            verb=told.head if request == number else opened.said.head if opened else "",
            request=request,
            took_ns=monotonic_ns - opened.monotonic_ns if opened and told.kind is Kind.ANSWER else None,
        )  # fmt: skip
        self.frames.append(frame)
        if request:
            self._of[request].append(number)
            if told.kind is Kind.ANSWER:
                self._answers.setdefault(request, number)
        return frame

    def note(self, text: str, *, bad: bool = True) -> None:
        """Says something about the place behind the newest frame; `bad` is that something is missing there."""
        self.notes.append(Note(len(self.frames), text, bad))

    def frame(self, number: int) -> Frame | None:
        """The frame with this number."""
        return self.frames[number - 1] if 0 < number <= len(self.frames) else None

    def of(self, request: int) -> list[Frame]:
        """Every frame of a request, itself first."""
        return [self.frames[number - 1] for number in self._of.get(request, ())]

    def requests(self) -> Iterator[Frame]:
        """Every frame that is to be answered, of all wires."""
        return (frame for frame in self.frames if frame.request == frame.number)

    def answer(self, request: int) -> Frame | None:
        """What a request was answered with."""
        return self.frame(self._answers.get(request, 0))

    def runs(self, request: Frame) -> list[Frame]:
        """The frames in which workers were given a request's job: a job names no id, but holds the same verb and
        payload, and lies between the request and its answer."""
        payload = _payload(request)
        answer = self.answer(request.number)
        last = answer.number if answer else len(self.frames)
        return [
            frame
            for frame in self.frames[request.number : last]
            if frame.is_worker
            and frame.said.kind is Kind.REQUEST
            and frame.verb == request.verb
            and _payload(frame) == payload
        ]

    def _request(self, number: int, wire: str, told: Said, *, opens: bool) -> int:
        if wire.startswith("worker"):
            return self._of_worker(number, wire, told)
        if opens:
            self._open[(wire, told.key or _NIL)] = number
            return number
        return 0 if told.key is None else self._open.get((wire, told.key), 0)

    def _of_worker(self, number: int, wire: str, told: Said) -> int:
        if told.kind is Kind.REQUEST:
            self._running[wire] = number
        elif told.head == "booted":
            self._running.pop(wire, None)
        found = self._running.get(wire, 0)
        if told.kind is Kind.ANSWER:
            self._running.pop(wire, None)
        return found


def _payload(frame: Frame) -> object:
    try:
        term = decoded(frame.data)
    except DecodeError:
        return None
    if frame.is_worker:
        return term[2] if isinstance(term, tuple) and len(term) == 4 else None
    match term:
        case (Atom(), _, payload, *_):
            return payload
        case dict():
            return term.get(Atom("payload"), term.get(b"payload"))
        case _:
            return None
