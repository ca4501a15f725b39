"""The commands that do something: follow, step, edit, send, wait, replay, node. Each gives blocks while it goes on."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from typing import Final

from erlbridge.codec import term_to_binary
from erlbridge.errors import BridgeError, ValidationError
from erlbridge.tools.repl import looking
from erlbridge.tools.repl.blocks import Block, Column, Row, Table, Text, one_line
from erlbridge.tools.repl.compare import VOLATILE
from erlbridge.tools.repl.context import Context
from erlbridge.tools.repl.layout import NOTATIONS
from erlbridge.tools.repl.live import no_function
from erlbridge.tools.repl.replay import OBSERVING, Outcomes, Verdict, plan, replay
from erlbridge.tools.repl.said import Kind
from erlbridge.tools.repl.tape import Frame
from erlbridge.tools.repl.typed import editable, edited, read_bytes, read_term

_LOOK_S: Final = 0.1
_SHOWN_DIFFERENCES: Final = 5
_KEYS: Final = "space or ↓ next · ↑ back · g first · G last · v notation · h hex · t timeline · / filter off · q leave"


def follow(context: Context, text: str) -> Iterator[Block]:
    """New frames as they come, until Ctrl-C."""
    wanted = context.filter(text)
    if context.recording is None and not context.live.runs:
        raise ValidationError("there is no file to follow and no node; start with `erlbridge repl CAPTURE`", "follow")
    seen = len(context.tape.frames)
    yield Text("following; Ctrl-C ends it", "dim")
    notes = len(context.tape.notes)
    try:
        while True:
            context.refresh()
            found = wanted.of(context.tape.frames[seen:])
            new = context.tape.notes[notes:]
            seen, notes = len(context.tape.frames), len(context.tape.notes)
            if found or new:
                yield looking.frames(found, new)
            time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        return


def step(context: Context, text: str) -> Iterator[Block]:
    """Frames one by one, by single keys."""
    first, _, rest = text.partition(" ")
    begins_at = context.frame(first).number if first.removeprefix("#").isdecimal() else 1
    found = context.filter(rest if first.removeprefix("#").isdecimal() else text).of(context.tape.frames)
    if not found:
        raise ValidationError("no frame is left to step through", "step")
    at = next((index for index, frame in enumerate(found) if frame.number >= begins_at), len(found) - 1)
    view, notation = "show", context.settings.notation
    with context.hands.keys() as next_key:
        yield Text(_KEYS, "dim")
        while True:
            yield from _stepped(context, found[at], view, notation)
            yield Text(f"{at + 1} of {len(found)}", "dim")
            moved = at
            match next_key():
                case "q" | "escape" | "ctrl-c" | "ctrl-d" | "":
                    return
                case "space" | "down" | "right" | "enter" | "j" | "n":
                    moved = min(len(found) - 1, at + 1)
                case "up" | "left" | "backspace" | "k" | "p":
                    moved = max(0, at - 1)
                case "g" | "home":
                    moved = 0
                case "G" | "end":
                    moved = len(found) - 1
                case "v":
                    view, notation = "show", NOTATIONS[(NOTATIONS.index(notation) + 1) % len(NOTATIONS)]
                case "h":
                    view = "hex" if view != "hex" else "show"
                case "t":
                    view = "timeline" if view != "timeline" else "show"
                case "/":
                    number, found = found[at].number, list(context.tape.frames)
                    moved = number - 1
                case _:
                    yield Text(_KEYS, "dim")
            at = moved


def _stepped(context: Context, frame: Frame, view: str, notation: str) -> Iterator[Block]:
    if view == "hex":
        yield Text(looking.heading(frame), "dim")
        yield from looking.hexadecimal(frame.data)
    elif view == "timeline" and frame.request:
        yield from looking.timeline(context.tape, context.tape.frames[frame.request - 1])
    else:
        yield from looking.show(frame, notation, width=context.hands.width, limit=context.settings.limit)


# -- what is sent


def edit(context: Context, text: str) -> Iterator[Block]:
    """A frame, or what was typed before, in the editor; or a term in place of it."""
    word = text.strip()
    if not word and context.text is None and context.draft is None:
        raise ValidationError("expected a frame's number or a term", "edit")
    if word and not word.removeprefix("#").removeprefix("-").isdecimal():
        context.draft = term_to_binary(read_term(text, context.settings.notation))
    else:
        # What is cut or redacted can be edited all the same: that is how it is mended.
        data = context.frame(word).data if word else context.draft or b""
        unread = None if word else context.text
        offered, suffix = unread or editable(data, context.hands.width)
        changed = context.hands.edit(offered, suffix)
        if changed is None:
            yield Text("given up; nothing is changed", "dim")
            return
        context.text = (changed, suffix)
        context.draft = edited(changed, suffix)
    context.text = None
    yield Text(f"{len(context.draft)} bytes; `send` sends them", "good")


def send(context: Context, text: str) -> Iterator[Block]:
    """Sends a frame, a term, or what was edited or typed last, and waits for the answer."""
    data = _to_send(context, text.strip())
    sent = context.live.send(data)
    yield looking.frames([sent])
    yield from _await(context, sent)


def _to_send(context: Context, text: str) -> bytes:
    if not text:
        if context.draft is None:
            raise ValidationError("expected a frame's number or a term: nothing was edited or typed yet", "send")
        return context.draft
    if text.startswith("hex:"):
        return read_bytes(text)
    if not text.removeprefix("#").removeprefix("-").isdecimal():
        return term_to_binary(read_term(text, context.settings.notation))
    frame = context.frame(text)
    if frame.is_worker:
        raise ValidationError(f"frame {frame.number} is of a worker's wire; a node takes those of the host's", "send")
    if not frame.inward:
        raise ValidationError(
            f"frame {frame.number} is the node's own; `edit {frame.number}` makes another of it", "send"
        )
    if frame.cut:
        raise ValidationError(f"of frame {frame.number} only the first {len(frame.data)} bytes are known", "send")
    context.live.outcome = Outcomes(context.tape.frames)
    return frame.data


def wait(context: Context, text: str) -> Iterator[Block]:
    """Waits for the answer to a request that was sent before."""
    word = text.strip()
    unanswered = [
        frame for frame in context.tape.requests() if frame.wire == "repl" and context.tape.answer(frame.number) is None
    ]
    if not word and not unanswered:
        raise ValidationError("every request that was sent here is answered", "wait")
    yield from _await(context, context.request(word) if word else unanswered[-1])


def _await(context: Context, sent: Frame) -> Iterator[Block]:
    if sent.request != sent.number:
        found = context.live.receive(_LOOK_S)  # an answer there is none; perhaps it says something all the same
        if found is not None:
            yield looking.frames([found])
        return
    shown = sent.number
    deadline = time.monotonic() + context.settings.wait_s
    try:
        while context.tape.answer(sent.number) is None and time.monotonic() < deadline and context.live.runs:
            context.live.receive(_LOOK_S)
            heard = context.tape.frames[shown:]
            shown = len(context.tape.frames)
            events = [frame for frame in heard if frame.said.kind is Kind.EVENT]
            if events:
                yield looking.frames(events)
    except KeyboardInterrupt:
        yield Text("still in flight; `wait` waits on, `send {:cancel, …}` ends it", "warning")
        return
    answer = context.tape.answer(sent.number)
    if answer is None:
        raise ValidationError(f"no answer within {context.settings.wait_s:.0f} s; `wait` waits on", "send")
    yield from looking.show(answer, context.settings.notation, width=context.hands.width, limit=context.settings.limit)


# -- the node


def node(context: Context, text: str) -> Iterator[Block]:
    """The node that is spoken with: about it, start a fresh one with settings, or stop it."""
    try:
        what, *arguments = shlex.split(text) or [""]
    except ValueError as error:
        raise ValidationError(str(error), "node") from None
    match what:
        case "":
            pass
        case "start":
            context.live.start(arguments or None)
        case "stop":
            code = context.live.stop()
            yield Text("no node ran" if code is None else f"the node exited with {code}")
            return
        case _:
            raise ValidationError("expected start (with arguments of `erlbridge serve`) or stop", "node")
    yield Text(context.live.about)


def replayed(context: Context, text: str) -> Iterator[Block]:
    """The capture's requests against a fresh node, with a verdict on each answer."""
    planned = plan(context.tape, context.filter(text).of(context.tape.frames))
    if not planned.steps:
        raise ValidationError("no request of a host is among these frames", "replay")
    context.live.start()
    context.live.outcome = Outcomes(context.tape.frames)
    verdicts: list[Verdict] = []
    try:
        verdicts.extend(replay(context.tape, planned, context.live, timeout_s=context.settings.wait_s))
    except KeyboardInterrupt:
        yield Text(f"stopped after {len(verdicts)} of {len(planned.steps)}", "warning")
    finally:
        context.live.outcome = no_function
        context.live.stop()
    yield _verdicts(verdicts)
    for verdict in verdicts:
        yield from _where(verdict)
    for frame, reason in planned.left_out:
        yield Text(f"#{frame.number} {looking.says(frame)} was left out: {reason}", "warning")
    if any(verdict.step.frame.redacted for verdict in verdicts):
        yield Text("secrets of some requests are redacted in the capture: what needs them fails here", "warning")
    yield Text(
        f"ids are replaced; not compared: {', '.join(sorted(VOLATILE))}; of {', '.join(OBSERVING)} only success",
        "dim",
    )
    differing = sum(verdict.same is False for verdict in verdicts)
    counted = (
        f"{len(verdicts)} requests sent again, {sum(verdict.same is True for verdict in verdicts)} answered the same"
    )
    if differing:
        raise Differs(f"{counted}, {differing} not")
    yield Text(counted, "good")


class Differs(BridgeError):
    """Answers of a replay are not what they were."""


def _verdicts(verdicts: list[Verdict]) -> Table:
    names = ("n", "request", "id", "was", "took", "is", "takes", "")
    rows = [
        Row(
            (
                f"#{verdict.step.frame.number}", verdict.step.frame.said.head, one_line(verdict.step.frame.said.id, 30),
                *_outcome(verdict.was), *_outcome(verdict.now),
                _judgement(verdict),
            ),
            "warning" if verdict.same is None else "good" if verdict.same else "bad",
        )
        for verdict in verdicts
    ]  # fmt: skip
    return Table(tuple(Column(name, name in ("n", "took", "takes"), name == "") for name in names), tuple(rows))


def _judgement(verdict: Verdict) -> str:
    word = "unknown" if verdict.same is None else "same" if verdict.same else "differs"
    return f"{word}: {verdict.problem}" if verdict.problem else word


def _outcome(frame: Frame | None) -> tuple[str, str]:
    if frame is None:
        return "", ""
    return frame.said.error or "ok", "" if frame.took_ns is None else looking.span(frame.took_ns)


def _where(verdict: Verdict) -> Iterator[Block]:
    if not verdict.where:
        return
    columns = (Column(f"#{verdict.step.frame.number}"), Column("was", gives_way=True), Column("is", gives_way=True))
    yield Table(columns, tuple(Row((each.path, each.left, each.right)) for each in verdict.where[:_SHOWN_DIFFERENCES]))
    if len(verdict.where) > _SHOWN_DIFFERENCES:
        assert verdict.was is not None and verdict.now is not None  # noqa: S101, PT018 - two answers differ
        yield Text(f"`diff {verdict.was.number} {verdict.now.number}` shows all", "dim")
