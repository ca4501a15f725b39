"""A session: lines in, blocks out. Knows every command by its name, and what a line may go on with; knows no
terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from erlbridge.codec import term_to_binary
from erlbridge.codec.notation import to_elixir, to_erlang
from erlbridge.errors import BridgeError, DecodeError, NotationError, ValidationError
from erlbridge.tools.repl import acting, filters, looking
from erlbridge.tools.repl.blocks import Block, Column, Row, Source, Table, Text
from erlbridge.tools.repl.context import Context
from erlbridge.tools.repl.layout import NOTATIONS
from erlbridge.tools.repl.said import Kind, decoded
from erlbridge.tools.repl.tape import Frame
from erlbridge.tools.repl.typed import read_bytes, read_term
from erlbridge.tools.wording import size
from erlbridge.wire.capture import CaptureError
from erlbridge.wire.place import nearest

Takes: TypeAlias = Literal["filter", "frame", "request", "settings", "node", "command", "term", "nothing"]
"""What a command's words are, for completion."""

_HEX_SHOWN: Final = 256
_IDS: Final = 100


class Leave(Exception):
    """Somebody wants to leave."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command: what it takes, what it does, and who carries it out."""

    usage: str
    about: str
    run: Callable[[Context, str], Iterator[Block]]
    takes: Takes


class Session:
    """What the REPL does with lines. `failed` is whether any was refused, or said that something is not as it should
    be."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.failed = False

    def run(self, line: str) -> Iterator[Block]:
        """Carries a line out. What is wrong with it is a block as well. Raises `Leave`."""
        text = line.strip()
        if not text or text.startswith("# "):
            return
        name, _, rest = text.partition(" ")
        try:
            # What came meanwhile belongs on the tape first; a replay or an editor is not held up by it.
            self.context.refresh()
            command = COMMANDS.get(_ALIASES.get(name, name))
            if command is not None:
                yield from command.run(self.context, rest.strip())
            elif name.isidentifier() and name == text and name.islower():
                known = [*COMMANDS, *_ALIASES]
                raise ValidationError(f"unknown{nearest(name, known)}; `help` lists what there is", name[:40])
            else:
                yield from _typed(self.context, text)
        except (BridgeError, CaptureError, OSError) as error:
            self.failed = True
            yield Text(_told(error, text), "bad")

    def completions(self, before: str) -> list[str]:
        """What the word before the cursor may go on as, whole words."""
        name, blank, rest = before.lstrip().partition(" ")
        if not blank:
            return [each for each in COMMANDS if each.startswith(name)]
        command = COMMANDS.get(_ALIASES.get(name, name))
        if command is None:
            return []
        *earlier, word = rest.split(" ")
        return [
            each for each in self._words(command.takes, word, len(earlier)) if each.startswith(word) and each != word
        ]

    def _words(self, takes: Takes, word: str, position: int) -> list[str]:
        frames = self.context.tape.frames
        match takes:
            case "filter":
                key, equals, _ = word.partition("=")
                return _values(frames, key) if equals else [*(f"{key}=" for key in filters.KEYS), "error"]
            case "frame":
                return [*NOTATIONS, "all", "text"] if position else [str(len(frames))] if frames else []
            case "request":
                ids = dict.fromkeys(
                    frame.said.id for frame in reversed(frames) if frame.said.kind is Kind.REQUEST and frame.said.id
                )
                return list(ids)[:_IDS]
            case "settings":
                return ["notation", "limit", "rows", "wait"] if not position else list(NOTATIONS)
            case "node":
                return ["start", "stop"] if not position else ["--workers", "--data", "--config"]
            case "command":
                return list(COMMANDS)
            case _:
                return []


def _values(frames: list[Frame], key: str) -> list[str]:
    read = filters.TEXTS.get(key)
    found = dict.fromkeys(read(frame) for frame in reversed(frames)) if read else {}
    return [f"{key}={value}" for value in list(found)[:_IDS] if value and " " not in value]


def _told(error: Exception, line: str) -> str:
    if not isinstance(error, NotationError):
        return str(error)
    # The place in what was typed, pointed at where that is one line.
    shown = line.splitlines()[error.line - 1 : error.line]
    offset = 0
    name, _, rest = line.partition(" ")
    if _ALIASES.get(name, name) in COMMANDS and error.line == 1:
        offset = len(line) - len(rest.lstrip())
    return f"{error}" + (
        f"\n  {shown[0]}\n  {' ' * (offset + error.column - 1)}^" if shown and len(shown[0]) < 200 else ""
    )


# -- commands that have no module of their own


def _typed(context: Context, text: str) -> Iterator[Block]:
    term = read_term(text, context.settings.notation)
    context.draft = data = term_to_binary(term)
    yield from _both(context, term, data)


def _both(context: Context, term: object, data: bytes) -> Iterator[Block]:
    limit = context.settings.limit
    yield Source(to_elixir(term, limit=limit), "elixir")
    yield Source(to_erlang(term, limit=limit), "erlang")
    more = f" … ({len(data)} bytes)" if len(data) > _HEX_SHOWN else f"  ({len(data)} bytes)"
    yield Text(data[:_HEX_SHOWN].hex() + more, "dim")


def _encode(context: Context, text: str) -> Iterator[Block]:
    if not text:
        raise ValidationError("expected a term, such as {:ok, 1} or #{a => 1}", "encode")
    yield from _typed(context, text)


def _decode(context: Context, text: str) -> Iterator[Block]:
    context.draft = data = read_bytes(text)
    try:
        yield from _both(context, decoded(data), data)
    except DecodeError as error:
        yield Text(f"no term: {error.message}", "bad")
    yield from looking.hexadecimal(data)


def _frames(context: Context, text: str) -> Iterator[Block]:
    wanted = context.filter(text)
    found = wanted.of(context.tape.frames)
    rows = context.settings.rows
    left_out = 0 if rows is None or wanted.last is not None else max(0, len(found) - rows)
    if left_out:
        yield Text(f"... {left_out} before these; `frames last={len(found)}` and `set rows all` show them", "dim")
    shown = found[left_out:]
    first = shown[0].number if left_out else 0
    yield looking.frames(shown, () if text else [note for note in context.tape.notes if note.after >= first])
    if text:
        yield Text(f"{len(found)} of {len(context.tape.frames)} frames", "dim")


def _show(context: Context, text: str) -> Iterator[Block]:
    word, *options = text.split() or ["-1"]
    notation, limit = context.settings.notation, context.settings.limit
    for option in options:
        if option == "all":
            limit = None
        elif option in NOTATIONS:
            notation = option
        else:
            raise ValidationError(f"expected {', '.join(NOTATIONS)} or all, got `{option[:40]}`", "show")
    yield from looking.show(context.frame(word), notation, width=context.hands.width, limit=limit)


def _hex(context: Context, text: str) -> Iterator[Block]:
    word, *options = text.split() or ["-1"]
    if options not in ([], ["all"]):
        raise ValidationError("expected a frame's number, and perhaps all", "hex")
    frame = context.frame(word)
    yield Text(looking.heading(frame), "dim")
    yield from looking.hexadecimal(frame.data, lines=None if options else looking.HEX_LINES)


def _timeline(context: Context, text: str) -> Iterator[Block]:
    if not text:
        raise ValidationError("expected a request's id, or #12 for the request of frame 12", "timeline")
    yield from looking.timeline(context.tape, context.request(text))


def _diff(context: Context, text: str) -> Iterator[Block]:
    match text.split():
        case [one, other, *rest] if rest in ([], ["text"]):
            frames = context.frame(one), context.frame(other)
            yield from looking.diff(*frames, width=context.hands.width, as_text=bool(rest))
        case _:
            raise ValidationError("expected two frames' numbers, and perhaps text", "diff")


def _stats(context: Context, text: str) -> Iterator[Block]:
    yield from looking.stats(context.tape, context.filter(text).of(context.tape.frames))
    if context.recording is not None and context.recording.pending_bytes:
        yield Text(f"the file ends inside a record: {context.recording.pending_bytes} bytes of it are there", "warning")


def _set(context: Context, text: str) -> Iterator[Block]:
    if text:
        name, _, value = text.partition(" ")
        context.settings.set(name, value.strip())
    yield Text(str(context.settings))


def _help(_context: Context, text: str) -> Iterator[Block]:
    if text in ("filter", "filters"):
        yield Text(filters.HELP)
        return
    if text:
        command = COMMANDS.get(_ALIASES.get(text, text))
        if command is None:
            raise ValidationError(f"unknown{nearest(text, list(COMMANDS))}", text[:40])
        yield Text(f"{command.usage}\n  {command.about}")
        if command.takes == "filter":
            yield Text(filters.HELP, "dim")
        return
    rows = [Row((command.usage, command.about)) for command in COMMANDS.values()]
    yield Table((Column("command"), Column("what it does")), tuple(rows))
    yield Text(
        textwrap.dedent("""\
            N is a frame's number, -1 the last. FILTER is such as verb=predict error size>1MB after=12:03; see `help
            filters`. A term in Elixir's or Erlang's notation is encoded at once, and `send` sends it."""),
        "dim",
    )


def _quit(_context: Context, _text: str) -> Iterator[Block]:
    raise Leave


COMMANDS: Final = {
    "frames": Command("frames [FILTER]", "a line for each frame", _frames, "filter"),
    "show": Command("show N [elixir|erlang|python|json] [all]", "a frame's term; all: nothing elided", _show, "frame"),
    "hex": Command("hex N [all]", "every byte with its tag and meaning", _hex, "frame"),
    "timeline": Command("timeline ID|#N", "a request from arrival to answer, on all wires", _timeline, "request"),
    "diff": Command("diff N M [text]", "where two frames differ, by path or as text", _diff, "frame"),
    "stats": Command("stats [FILTER]", "counts, times, bytes and errors by verb", _stats, "filter"),
    "follow": Command("follow [FILTER]", "new frames of a live file; Ctrl-C ends it", acting.follow, "filter"),
    "step": Command("step [N] [FILTER]", "frames one by one, by single keys", acting.step, "filter"),
    "edit": Command("edit N|TERM", "a frame in $EDITOR, or a term, to send", acting.edit, "frame"),
    "send": Command("send [N|TERM|hex:...]", "send that, or what was edited or typed last", acting.send, "frame"),
    "wait": Command("wait [ID]", "wait on for the answer to what was sent", acting.wait, "request"),
    "replay": Command(
        "replay [FILTER]", "the requests to a fresh node, and compare answers", acting.replayed, "filter"
    ),
    "node": Command("node [start [ARGUMENTS]|stop]", "the node that `send` asks", acting.node, "node"),
    "encode": Command("encode TERM", "a term as bytes; as typing it alone", _encode, "term"),
    "decode": Command("decode HEX", "bytes as a term, with every byte annotated", _decode, "term"),
    "set": Command("set [notation|limit|rows|wait VALUE]", "how much is shown, and how", _set, "settings"),
    "help": Command("help [COMMAND|filters]", "this", _help, "command"),
    "quit": Command("quit", "leave; so does Ctrl-D", _quit, "nothing"),
}
"""In the order of `help`."""
_ALIASES: Final = {"f": "frames", "s": "show", "x": "hex", "t": "timeline", "exit": "quit", "q": "quit", "?": "help"}


def opening(context: Context) -> Iterator[Block]:
    """What is said first."""
    recording = context.recording
    if recording is None:
        yield Text("no capture; type a term, `send` one to a fresh node, or `help`", "dim")
        return
    found = recording.read()
    whole = sum(frame.size for frame in context.tape.frames)
    yield Text(f"{recording.path}: {found} frames, {size(whole)}; `frames` lists them, `help` the rest", "dim")
    if recording.pending_bytes:
        yield Text(f"the file ends inside a record: {recording.pending_bytes} bytes of it are there", "warning")
    yield from looking.missing(context.tape)
