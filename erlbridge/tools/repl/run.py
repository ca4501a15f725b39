"""A REPL from its arguments to its exit code: on a terminal with a prompt, else line by line from standard input."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from erlbridge.errors import ValidationError
from erlbridge.tools.command import EXIT_FAILED
from erlbridge.tools.repl.context import Context
from erlbridge.tools.repl.live import Live
from erlbridge.tools.repl.session import Leave, Session, opening
from erlbridge.tools.repl.source import Recording
from erlbridge.tools.repl.tape import Tape

if TYPE_CHECKING:
    from erlbridge.tools.repl.printing import Printer


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the command line says. `background` is `dark`, `light`, or None to ask the terminal."""

    capture: Path | None
    commands: Sequence[str]
    node: Sequence[str]
    json: bool
    background: str | None


def run(arguments: Arguments) -> int:
    """Runs a session; 1 when a command of a script was refused, or a replay differs, else 0.

    Raises `ImportError` where the extra `repl` is not installed, `OSError` and `CaptureError` for a file that cannot be
    read.
    """
    from erlbridge.tools.repl.printing import Drawing, JsonLines  # noqa: PLC0415 - rich, once it is needed

    typed = not arguments.commands and sys.stdin.isatty()
    terminal = sys.stdout.isatty() and not arguments.json
    printer: Printer
    if arguments.json:
        printer = JsonLines()
    else:
        printer = Drawing(terminal=terminal, background=_background(arguments.background, typed=typed and terminal))
    tape = Tape()
    live = Live(tape, arguments.node)
    recording = Recording(arguments.capture, tape) if arguments.capture else None
    context = Context(tape, live, _Hands(printer, terminal=typed and terminal), recording)
    if not terminal:
        context.settings.rows = None
    session = Session(context)
    try:
        if typed or not arguments.json:
            first = list(opening(context))
            printer.show(first if typed else [block for block in first if getattr(block, "style", "") == "warning"])
        with suppress(Leave):
            for line in _lines(arguments.commands, session, typed=typed and terminal):
                _carry_out(session, line, printer.show)
    finally:
        live.stop()
        if recording is not None:
            recording.close()
    return EXIT_FAILED if session.failed and not typed else 0


def _carry_out(session: Session, line: str, show: Callable[..., None]) -> None:
    try:
        show(session.run(line))
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise


def _lines(commands: Sequence[str], session: Session, *, typed: bool) -> Iterable[str]:
    if commands:
        return commands
    if not typed:
        return sys.stdin
    from erlbridge.tools.repl.prompt import lines  # noqa: PLC0415 - prompt_toolkit, for a terminal alone

    return lines(session)


def _background(asked: str | None, *, typed: bool) -> Literal["dark", "light"]:
    if asked:
        return "light" if asked == "light" else "dark"
    if not typed:
        return "dark"
    from erlbridge.tools.repl.keys import background  # noqa: PLC0415 - term, for a terminal alone

    return background()


class _Hands:
    def __init__(self, printer: Printer, *, terminal: bool) -> None:
        self._printer = printer
        self._terminal = terminal

    @property
    def width(self) -> int:
        return self._printer.width

    def edit(self, text: str, suffix: str) -> str | None:
        from erlbridge.tools.repl.editor import edit_text  # noqa: PLC0415

        return edit_text(text, suffix)

    def keys(self) -> AbstractContextManager[Callable[[], str]]:
        if not self._terminal:
            raise ValidationError("single keys need a terminal; `frames` and `show` do without", "step")
        from erlbridge.tools.repl.keys import single_keys  # noqa: PLC0415

        return single_keys()
