"""What the terminal is like, and its single keys, by `term`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from termios import TCSADRAIN, TCSANOW, tcgetattr, tcsetattr
from typing import BinaryIO, Final, Literal

import term  # type: ignore[import-untyped]

from erlbridge.errors import ValidationError

_ESCAPE: Final = b"\x1b"
_NAMES: Final = {
    b" ": "space", b"\r": "enter", b"\n": "enter", b"\x7f": "backspace", b"\x08": "backspace", b"\x03": "ctrl-c",
    b"\x04": "ctrl-d", b"\x1b": "escape", b"[A": "up", b"[B": "down", b"[C": "right", b"[D": "left", b"[H": "home",
    b"[F": "end", b"[1~": "home", b"[4~": "end", b"[5~": "up", b"[6~": "down", b"OA": "up", b"OB": "down",
    b"OC": "right", b"OD": "left", b"OH": "home", b"OF": "end",
}  # fmt: skip


def background() -> Literal["dark", "light"]:
    """What the terminal is drawn on, as it says itself; dark where it does not. Takes up to 0.4 s where it is
    silent."""
    # Set by some that do not answer: the colours' numbers, the background's last; 7 and 15 are whites.
    told = os.environ.get("COLORFGBG", "").rpartition(";")[2]
    if told.isdecimal():
        return "light" if int(told) in (7, 15) else "dark"
    return "light" if term.islightmode() else "dark"


@contextmanager
def single_keys() -> Iterator[Callable[[], str]]:
    """Gives what waits for the next key and gives its name: `a`, `space`, `up`; empty when the terminal is gone.

    Raises `ValidationError` where there is no terminal.
    """
    with term.opentty() as tty:
        if tty is None:
            raise ValidationError("single keys need a terminal", "step")
        before = tcgetattr(tty)
        # For the whole time: what is typed between two reads must neither be echoed nor lost.
        term.setcbreak(tty, when=TCSANOW)
        try:
            yield lambda: _next_key(tty)
        finally:
            tcsetattr(tty, TCSADRAIN, before)


def _next_key(tty: BinaryIO) -> str:
    key = os.read(tty.fileno(), 1)
    if key == _ESCAPE:
        # The rest of an arrow comes at once, that of the key Escape never.
        term.setcbreak(tty, when=TCSANOW, min=0, time=1)
        rest = os.read(tty.fileno(), 8)
        term.setcbreak(tty, when=TCSANOW)
        return _NAMES.get(rest, "escape" if not rest else "unknown")
    while key and not _whole(key):
        key += os.read(tty.fileno(), 1)
    return _NAMES.get(key, key.decode(errors="replace"))


def _whole(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return len(key) >= 4
    return True
