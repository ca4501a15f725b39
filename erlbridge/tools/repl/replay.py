"""A capture's requests, sent again in their order, and whether a node answers them as it did.

A request goes out once the answers that stood before it in the capture have come, so that what depended on them can.
Ids are replaced, since those of several sessions may be equal; Elixir functions that the node asks for give what they
gave in the capture. `plan` and `judged` decide; `replay` asks a node.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from erlbridge.codec import Atom, term_to_binary
from erlbridge.errors import DecodeError
from erlbridge.tools.repl.compare import VOLATILE, Difference, differences
from erlbridge.tools.repl.live import Live, no_function
from erlbridge.tools.repl.said import Kind, decoded, id_key
from erlbridge.tools.repl.tape import HOST, Frame, Tape

OBSERVING: Final = ("health_check", "stats", "list_programs", "list_datasets")
"""Verbs whose results tell of the node itself and what it keeps: that they are answered is compared, and no more."""
_NEVER: Final = {"shutdown": "it would end the node"}


@dataclass(frozen=True, slots=True)
class Step:
    """A request to send: its frame in the capture, its bytes under the new id, and the requests that had been answered
    when it was sent, as far as no step before it waits for them."""

    frame: Frame
    data: bytes
    after: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sent, in order, and what is not, with why."""

    steps: tuple[Step, ...]
    left_out: tuple[tuple[Frame, str], ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a step. `same` is None when nothing can be compared; `problem` says why, or what differs in a
    word."""

    step: Step
    was: Frame | None
    now: Frame | None
    same: bool | None
    problem: str = ""
    where: tuple[Difference, ...] = ()


def plan(tape: Tape, found: Sequence[Frame]) -> Plan:
    """What to send of these frames: the requests of the host's wire."""
    steps: list[Step] = []
    left_out: list[tuple[Frame, str]] = []
    renamed: dict[bytes, int] = {}
    waiting: list[tuple[int, int]] = []
    for frame in found:
        if frame.wire != HOST or frame.request != frame.number:
            continue
        if frame.cut:
            left_out.append((frame, f"the capture has only the first {len(frame.data)} of its {frame.size} bytes"))
        elif frame.said.kind is Kind.REQUEST and frame.said.head in _NEVER:
            left_out.append((frame, _NEVER[frame.said.head]))
        else:
            after = tuple(request for answer, request in waiting if answer < frame.number)
            waiting = [pair for pair in waiting if pair[0] > frame.number]
            steps.append(Step(frame, _renamed(frame, renamed), after))
            if (answer := tape.answer(frame.number)) is not None:
                waiting.append((answer.number, frame.number))
    return Plan(tuple(steps), tuple(left_out))


def _renamed(frame: Frame, renamed: dict[bytes, int]) -> bytes:
    """A request under an id of its own; `renamed` has those of the requests before it, by which others may name
    them."""
    if frame.said.kind is Kind.BROKEN or frame.said.key is None:
        return frame.data
    number = renamed[frame.said.key] = frame.number
    match decoded(frame.data):
        case (Atom() as verb, _, payload, *meta):
            if str(verb) == "cancel":
                payload = _with(payload, "id", renamed)
            return term_to_binary((verb, number, payload, *(_with(each, "parent", renamed) for each in meta)))
        case Mapping() as message:
            inner = {Atom("metadata"): "parent", b"metadata": "parent"}
            fields = {
                key: _with(value, inner[key], renamed) if key in inner else value for key, value in message.items()
            }
            mine = next((key for key in fields if key in (Atom("message_id"), b"message_id")), None)
            return term_to_binary(fields if mine is None else {**fields, mine: number})
        case _:
            return frame.data


def _with(term: object, name: str, renamed: Mapping[bytes, int]) -> object:
    """A map in which the id under a name is the new one of that request."""
    if not isinstance(term, dict):
        return term
    return {
        key: renamed.get(id_key(value), value) if key in (Atom(name), name.encode()) else value
        for key, value in term.items()
    }


class Outcomes:
    """What Elixir functions gave in a capture, by name and arguments; of equal calls the first outcome first, the last
    for all further ones."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        calls: dict[tuple[str, bytes], bytes] = {}
        self._known: defaultdict[bytes, deque[object]] = defaultdict(deque)
        for frame in frames:
            if frame.is_worker or frame.said.head not in ("call", "result") or frame.said.kind is Kind.BROKEN:
                continue
            match decoded(frame.data):
                case (_, call_id, _, name, arguments):
                    calls[frame.wire, id_key(call_id)] = id_key((name, arguments))
                case (_, call_id, outcome) if (frame.wire, id_key(call_id)) in calls:
                    self._known[calls[frame.wire, id_key(call_id)]].append(outcome)

    def __call__(self, name: object, arguments: object) -> object:
        """The outcome of a call."""
        known = self._known.get(id_key((name, arguments)))
        if not known:
            return no_function(name, arguments)
        return known.popleft() if len(known) > 1 else known[0]


def replay(tape: Tape, planned: Plan, live: Live, *, timeout_s: float) -> Iterator[Verdict]:
    """Sends the steps and gives a verdict on each, in their order.

    Args:
        timeout_s: How long an answer is waited for.

    Raises `NodeGone` when the node ends.
    """
    sent: dict[int, Frame] = {}
    for step in planned.steps:
        for number in step.after:
            live.answer(sent[number], timeout_s)
        sent[step.frame.number] = live.send(step.data)
    for step in planned.steps:
        was = tape.answer(step.frame.number)
        now = live.answer(sent[step.frame.number], timeout_s if was else 0)
        yield judged(step, was, now)


def judged(step: Step, was: Frame | None, now: Frame | None) -> Verdict:
    """Whether an answer is what it was."""
    if was is None:
        return Verdict(step, was, now, None, "was not answered in the capture")
    if now is None:
        return Verdict(step, was, now, False, "is not answered in time")
    if was.said.error != now.said.error:
        return Verdict(step, was, now, False, f"was {was.said.error or 'ok'}, is {now.said.error or 'ok'}")
    if was.cut or step.frame.said.head in OBSERVING:
        return Verdict(step, was, now, True)
    try:
        left, right = _result(was), _result(now)
    except DecodeError as error:
        return Verdict(step, was, now, None, f"the capture's answer is no term: {error}")
    where = tuple(differences(left, right, ignored=VOLATILE))
    places = "1 place" if len(where) == 1 else f"{len(where)} places"
    return Verdict(step, was, now, not where, f"in {places}" if where else "", where)


def _result(frame: Frame) -> object:
    match decoded(frame.data):
        case (_, _, (Atom() as tag, _, about)) if str(tag) == "transfer":
            return about  # under a name that the node makes up
        case (_, _, result):
            return result
        case other:
            return other
