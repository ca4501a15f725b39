"""The commands that look: frames, show, hex, timeline, diff, stats. Frames in, blocks out; nothing is changed."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import unified_diff
from itertools import groupby, islice
from typing import Final

from erlbridge.codec.annotate import Annotation, annotate
from erlbridge.errors import DecodeError
from erlbridge.tools.repl.blocks import Block, Column, Row, Source, Style, Table, Text, one_line
from erlbridge.tools.repl.compare import differences
from erlbridge.tools.repl.layout import laid_out
from erlbridge.tools.repl.said import Kind, decoded
from erlbridge.tools.repl.tape import Frame, Note, Tape
from erlbridge.tools.wording import size

_FRAMES: Final = (
    Column("n", right=True), Column("time"), Column("wire"), Column("dir"), Column("size", right=True), Column("says"),
    Column("id", gives_way=True), Column("about", gives_way=True),
)  # fmt: skip
_HEX_BYTES: Final = 12
"""So many bytes stand in a line of hex; of a longer piece, such as a text, the first."""
HEX_LINES: Final = 200
_DEPTH: Final = 20
"""What is nested deeper is not indented further."""
_AROUND: Final = 8
"""Annotations up to the broken one that are shown with it."""
_BAR: Final = 24
_ALIKE: Final = 3
"""More than so many events of a kind in a row are one line of a timeline."""
_LONG_GAP: Final = 0.2
"""A pause of this share of the whole, or more, is marked."""


# -- words


def clock(wall_ns: int) -> str:
    """The time of day, to the millisecond; empty where a file holds none.

    >>> len(clock(1)), clock(0)
    (12, '')
    """
    if not wall_ns:
        return ""
    return datetime.fromtimestamp(wall_ns / 1e9).astimezone().strftime("%H:%M:%S.%f")[:-3]


def span(duration_ns: int) -> str:
    """A time span in the unit that fits it.

    >>> span(1_500), span(2_000_000), span(65_000_000_000)
    ('2 µs', '2.0 ms', '65.0 s')
    """
    if abs(duration_ns) < 1e6:
        return f"{duration_ns / 1e3:.0f} µs"
    return f"{duration_ns / 1e6:.1f} ms" if abs(duration_ns) < 1e9 else f"{duration_ns / 1e9:.1f} s"


def says(frame: Frame) -> str:
    """A frame's kind in a word or two: the verb, or the message and the verb that it belongs to."""
    own = frame.said.head
    return own if frame.verb in ("", own) else f"{own} {frame.verb}"


def style(frame: Frame) -> Style:
    """How a frame's line stands out."""
    match frame.said.kind:
        case Kind.BROKEN:
            return "bad"
        case _ if frame.said.error:
            return "bad"
        case Kind.ANSWER:
            return "good"
        case Kind.REQUEST:
            return "accent"
        case _:
            return "dim"


def about(frame: Frame) -> str:
    """The line about a frame."""
    line = frame.said.summary
    if frame.said.offset is not None:
        line = f"no term: {line} (byte {frame.said.offset} of {len(frame.data)})"
    marks = [*(["cut"] if frame.cut else []), *(["redacted"] if frame.redacted else [])]
    took = "" if frame.took_ns is None else f"after {span(frame.took_ns)}: "
    return f"{took}{line}" + (f" [{', '.join(marks)}]" if marks else "")


def heading(frame: Frame) -> str:
    """What stands above a frame that is shown."""
    inner, outer = ("worker", "node") if frame.is_worker else ("node", "host")
    way = f"{outer} → {inner}" if frame.inward else f"{inner} → {outer}"
    line = f"#{frame.number}  {clock(frame.wall_ns)}  {frame.wire}: {way}  {size(frame.size)}  {says(frame)}"
    if frame.said.id:
        line += f"  id {frame.said.id}"
    if frame.request and frame.request != frame.number:
        line += f" (request #{frame.request})"
    return line + ("" if frame.took_ns is None else f"  after {span(frame.took_ns)}")


# -- commands


def frames(found: Sequence[Frame], notes: Iterable[Note] = ()) -> Table:
    """A line for each frame, with what the capture says of the places between them."""
    said = defaultdict(list)
    for note in notes:
        said[note.after].append(note)
    rows: list[Row] = []
    for index, frame in enumerate(found):
        before = found[index - 1].number if index else 0
        rows += [_note(note) for number in range(before, frame.number) for note in said.pop(number, ())]
        rows.append(_row(frame))
    rows += [_note(note) for number in sorted(said) for note in said[number]]
    return Table(_FRAMES, tuple(rows))


def _row(frame: Frame) -> Row:
    return Row(
        (
            str(frame.number), clock(frame.wall_ns), frame.wire, "→" if frame.inward else "←", size(frame.size),
            says(frame), frame.said.id, about(frame),
        ),
        style(frame),
    )  # fmt: skip


def _note(note: Note) -> Row:
    return Row(("", "", "", "", "", "", "", f"-- {note.text}"), "warning" if note.bad else "dim")


def show(frame: Frame, notation: str, *, width: int, limit: int | None) -> Iterator[Block]:
    """A frame's term in a notation; of one that is no term, where it stops making sense, and the bytes around it."""
    yield Text(heading(frame), "dim")
    try:
        yield Source(laid_out(decoded(frame.data), notation, width=width, limit=limit), notation)
    except DecodeError as error:
        yield Text(f"no term: {error.message}", "bad")
        if frame.cut:
            yield Text(f"only the first {len(frame.data)} of its {frame.size} bytes are in the capture", "warning")
        yield where_broken(frame.data)


def hexadecimal(data: bytes, *, lines: int | None = HEX_LINES) -> Iterator[Block]:
    """Every byte with its tag and what it means, at most so many lines; what was unpacked has places of its own, after
    a `z`."""
    found = annotate(data)
    yield _annotated(data, islice(found, lines))
    if next(found, None) is not None:
        yield Text("... `hex N all` shows the rest", "dim")


def where_broken(data: bytes) -> Table:
    """The last bytes that make sense, and those that do not."""
    return _annotated(data, deque(annotate(data), _AROUND))


def _annotated(data: bytes, pieces: Iterable[Annotation]) -> Table:
    columns = (Column("offset"), Column("bytes"), Column("tag"), Column("meaning", gives_way=True))
    rows = [
        Row(
            (
                f"z{piece.offset:05x}" if piece.packed else f"{piece.offset:06x}",
                "" if piece.packed else _bytes(data, piece.offset, piece.size),
                piece.tag,
                "  " * min(piece.depth, _DEPTH) + piece.meaning,
            ),
            "bad" if piece.broken else "plain",
        )
        for piece in pieces
    ]
    return Table(columns, tuple(rows))


def _bytes(data: bytes, offset: int, count: int) -> str:
    shown = data[offset : offset + min(count, _HEX_BYTES)].hex(" ")
    return shown if count <= _HEX_BYTES else f"{shown} … ({count} bytes)"


def timeline(tape: Tape, request: Frame) -> Iterator[Block]:
    """A request from its arrival to its answer, on all wires, with the time since its arrival and since the line
    before."""
    runs = tape.runs(request) if not request.is_worker else []
    of_workers = [frame for run in runs for frame in tape.of(run.number)]
    every = sorted([*tape.of(request.number), *of_workers], key=lambda frame: frame.number)
    begin = request.monotonic_ns
    whole = max(1, every[-1].monotonic_ns - begin)
    yield Text(f"{heading(request)}\n{about(request)}", "dim")
    rows: list[Row] = []
    before = begin
    for same in _alike(every):
        first, last = same[0], same[-1]
        gap = first.monotonic_ns - before
        long = gap > whole * _LONG_GAP and len(every) > 1
        times = f" x{len(same)}" if len(same) > 1 else ""
        place = "#" + (str(first.number) if first is last else f"{first.number}-{last.number}")
        wires = ", ".join(dict.fromkeys(frame.wire for frame in same))
        rows.append(
            Row(
                (
                    f"+{span(first.monotonic_ns - begin)}", span(gap) if rows else "",
                    _bar(before - begin, first.monotonic_ns - begin, whole), place, wires,
                    "→" if first.inward else "←", says(first) + times, about(last),
                ),
                "warning" if long else style(first),
            )
        )  # fmt: skip
        before = last.monotonic_ns
    names = ("at", "gap", "when", "n", "wire", "dir", "says", "about")
    right = ("at", "gap")
    yield Table(tuple(Column(name, name in right, name == "about") for name in names), tuple(rows))
    yield Text(_phases(tape, request, runs), "plain")


def _alike(every: Sequence[Frame]) -> Iterator[list[Frame]]:
    """Runs of events of one kind together when there are many; the node passes each on from a worker's wire to the
    host's."""
    for alike, run in groupby(every, _of_a_kind):
        same = list(run)
        if alike and len(same) > _ALIKE:
            yield same
        else:
            yield from ([frame] for frame in same)


def _of_a_kind(frame: Frame) -> str:
    """Equal for events that are told in one line, such as progress of one stage; empty for what is none."""
    if frame.said.kind is not Kind.EVENT:
        return ""
    return f"{frame.said.head} {frame.said.summary.partition(' ')[0] if frame.said.head == 'progress' else ''}"


def _bar(begin: int, end: int, whole: int) -> str:
    # The clock of a damaged capture, or of one that went on behind a restart, may go back.
    left, right = (max(0, min(_BAR - 1, at * _BAR // whole)) for at in (begin, end))
    return ("·" * left + "─" * (right - left) + "●").ljust(_BAR, "·")


def _phases(tape: Tape, request: Frame, runs: Sequence[Frame]) -> str:
    answer = tape.answer(request.number)
    if answer is None:
        return "not answered in this capture"
    whole = f"answered after {span(answer.monotonic_ns - request.monotonic_ns)}"
    done = tape.answer(runs[-1].number) if runs else None
    if not runs or done is None:
        return whole
    waited, ran = runs[0].monotonic_ns - request.monotonic_ns, done.monotonic_ns - runs[-1].monotonic_ns
    back = answer.monotonic_ns - done.monotonic_ns
    return (
        f"{whole}: {span(waited)} until {runs[0].wire} had it, {span(ran)} there, {span(back)} from there to the host"
    )


def diff(one: Frame, other: Frame, *, width: int, as_text: bool) -> Iterator[Block]:
    """Where two frames differ: by path, or as the lines of their notation."""
    left, right = decoded(one.data), decoded(other.data)
    if as_text:
        texts = [laid_out(term, "elixir", width=width).splitlines() for term in (left, right)]
        lines = list(unified_diff(texts[0], texts[1], f"#{one.number}", f"#{other.number}", lineterm=""))
        yield Source("\n".join(lines), "diff") if lines else Text("the same", "good")
        return
    found = differences(left, right)
    if not found:
        yield Text("the same", "good")
        return
    columns = (Column("path"), Column(f"#{one.number}", gives_way=True), Column(f"#{other.number}", gives_way=True))
    yield Table(columns, tuple(Row((each.path, each.left, each.right)) for each in found))


@dataclass(slots=True)
class _Tally:
    ok: int = 0
    open: int = 0
    took: list[int] = field(default_factory=list)
    bytes_in: int = 0
    bytes_out: int = 0
    errors: Counter[str] = field(default_factory=Counter)


def stats(tape: Tape, found: Sequence[Frame]) -> Iterator[Block]:
    """Counts, times and bytes by wire and verb, and errors by type."""
    if not found:
        yield Text("no frames", "dim")
        return
    tallies: defaultdict[tuple[str, str], _Tally] = defaultdict(_Tally)
    wires: Counter[str] = Counter()
    for frame in found:
        wires[frame.wire] += frame.size
        where = "workers" if frame.is_worker else frame.wire
        tally = tallies[where, frame.verb or "(no request)"]
        if frame.inward:
            tally.bytes_in += frame.size
        else:
            tally.bytes_out += frame.size
        if frame.request == frame.number and tape.answer(frame.number) is None:
            tally.open += 1
        if frame.said.kind is Kind.ANSWER:
            tally.took += [] if frame.took_ns is None else [frame.took_ns]
            if frame.said.error is None:
                tally.ok += 1
            else:
                tally.errors[frame.said.error] += 1
    duration = found[-1].monotonic_ns - found[0].monotonic_ns
    total = sum(frame.size for frame in found)
    times = f"{span(duration)}, from {clock(found[0].wall_ns)} to {clock(found[-1].wall_ns)}"
    yield Text(
        f"{len(found)} frames, {size(total)}, {times}\n"
        + ", ".join(f"{wire} {size(count)}" for wire, count in sorted(wires.items()))
    )
    names = ("wire", "verb", "ok", "error", "open", "median", "95 %", "longest", "in", "out", "errors")
    rows = [
        Row(
            (
                wire, verb, str(tally.ok), str(tally.errors.total()), str(tally.open), *_times(tally.took),
                size(tally.bytes_in), size(tally.bytes_out),
                one_line(", ".join(f"{name} x{n}" for name, n in tally.errors.most_common()), 80),
            ),
            "bad" if tally.errors else "plain",
        )
        for (wire, verb), tally in sorted(tallies.items())
    ]  # fmt: skip
    yield Table(
        tuple(Column(name, name not in ("wire", "verb", "errors"), name == "errors") for name in names), tuple(rows)
    )
    yield from missing(tape)


def missing(tape: Tape) -> Iterator[Text]:
    """What a capture lacks, and where."""
    for note in tape.notes:
        if note.bad:
            yield Text(f"behind #{note.after}: {note.text}", "warning")


def _times(took: Sequence[int]) -> tuple[str, str, str]:
    if not took:
        return ("", "", "")
    ordered = sorted(took)
    return (
        span(ordered[len(ordered) // 2]),
        span(ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)]),
        span(ordered[-1]),
    )
