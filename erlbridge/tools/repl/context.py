"""What the commands of a session share: the tape and the file behind it, the node, the settings, what is being
edited."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from erlbridge.errors import ValidationError
from erlbridge.tools.repl.filters import Filter, parse_filter
from erlbridge.tools.repl.layout import NOTATIONS
from erlbridge.tools.repl.live import Live
from erlbridge.tools.repl.source import Recording
from erlbridge.tools.repl.tape import Frame, Tape


class Hands(Protocol):
    """What only a terminal can do."""

    @property
    def width(self) -> int:
        """Characters in a line."""

    def edit(self, text: str, suffix: str) -> str | None:
        """The text as somebody has changed it in an editor, None when they have given up. Raises `ValidationError`
        where there is no editor."""

    def keys(self) -> AbstractContextManager[Callable[[], str]]:
        """Gives what waits for the next key and gives its name. Raises `ValidationError` where there are no keys."""


@dataclass(slots=True)
class Settings:
    """What `set` changes.

    Attributes:
        notation: How terms are shown, and which of Elixir and Erlang is tried first for what is typed.
        limit: After so many characters the rest of a term is left out; None for all of it.
        rows: How many frames are listed where `last` does not say; None for all.
        wait_s: How long an answer of the node is waited for.
    """

    notation: str = "elixir"
    limit: int | None = 4000
    rows: int | None = 500
    wait_s: float = 120.0

    def set(self, name: str, value: str) -> None:
        """Raises `ValidationError` for what is none, or has no such value."""
        match name:
            case "notation" if value in NOTATIONS:
                self.notation = value
            case "notation":
                raise ValidationError(f"expected one of {', '.join(NOTATIONS)}, got `{value[:40]}`", name)
            case "limit" if value == "all":
                self.limit = None
            case "rows" if value == "all":
                self.rows = None
            case "limit" | "rows" | "wait" if not value.isdecimal() or not int(value[:9]) > 0:
                raise ValidationError(f"expected a number from 1, got `{value[:40]}`", name)
            case "limit":
                self.limit = int(value[:9])
            case "rows":
                self.rows = int(value[:9])
            case "wait":
                self.wait_s = float(value[:9])
            case _:
                raise ValidationError("expected notation, limit, rows or wait", "set")

    def __str__(self) -> str:
        limits = f"limit {self.limit or 'all'}, rows {self.rows or 'all'}"
        return f"notation {self.notation}, {limits}, wait {self.wait_s:.0f}"


@dataclass(slots=True)
class Context:
    """A session's state. `draft` is the frame that `send` sends when nothing is named: what was edited or typed last.
    `text` is what was typed into the editor and was no term, with the suffix of its file, for another try."""

    tape: Tape
    live: Live
    hands: Hands
    recording: Recording | None = None
    settings: Settings = field(default_factory=Settings)
    draft: bytes | None = None
    text: tuple[str, str] | None = None

    def refresh(self) -> int:
        """Takes what has been written to the file and said by the node since; the number of new frames."""
        before = len(self.tape.frames)
        if self.recording is not None:
            self.recording.read()
        self.live.drain()
        return len(self.tape.frames) - before

    def filter(self, text: str) -> Filter:
        """Raises `ValidationError` for what is no filter."""
        return parse_filter(text, self.tape.frames)

    def frame(self, word: str) -> Frame:
        """The frame that a word names: its number, also as `#12`, or `-1` for the last. Raises `ValidationError`."""
        try:
            number = int(word.removeprefix("#")[:12])
        except ValueError:
            raise ValidationError(f"expected a frame's number, got `{word[:40]}`", "frame") from None
        count = len(self.tape.frames)
        found = self.tape.frame(number if number > 0 else count + 1 + number)
        if found is None:
            raise ValidationError(
                f"no frame {number}; there are {count}" if count else "there are no frames yet", "frame"
            )
        return found

    def request(self, word: str) -> Frame:
        """The request that a word means: its id in Elixir notation, else the number of one of its frames (`#12`).
        Of several with that id the last. Raises `ValidationError`."""
        if not word.startswith("#"):
            found = [frame for frame in self.tape.requests() if frame.said.id in (word, f'"{word}"', f":{word}")]
            if found:
                return found[-1]
            if not word.removeprefix("-").isdecimal():
                raise ValidationError(f"no request has the id {word[:80]}; #12 means the request of frame 12", "id")
        frame = self.frame(word)
        if not frame.request:
            raise ValidationError(f"frame {frame.number} belongs to no request", "frame")
        return self.tape.frames[frame.request - 1]
