"""`erlbridge repl` in a terminal of its own, which answers what a real one is asked."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import termios
import time
from pathlib import Path

PATIENCE_S = 10.0
PROMPT = "erlbridge>"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07|\x1b[=>]|\r")
_LIGHT = {b"\x1b]11;?\x07": b"\x1b]11;rgb:ffff/ffff/ffff\x07", b"\x1b]10;?\x07": b"\x1b]10;rgb:0000/0000/0000\x07"}
_DARK = {b"\x1b]11;?\x07": b"\x1b]11;rgb:0000/0000/0000\x07", b"\x1b]10;?\x07": b"\x1b]10;rgb:ffff/ffff/ffff\x07"}


class Terminal:
    """A REPL and the keys and screen of its terminal, 160 characters wide."""

    def __init__(self, home: Path, *arguments: str, light: bool = False, **environment: str) -> None:
        self._answers = (_LIGHT if light else _DARK) | {b"\x1b[6n": b"\x1b[1;1R"}
        self.raw = b""
        self._asked = 0
        self._read = 0
        variables = {"HOME": str(home), "XDG_STATE_HOME": str(home / "state"), "TERM": "xterm-256color"}
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in ("COLORFGBG", "NO_COLOR", "VISUAL", "COLUMNS", "LINES")
        }
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            command = [sys.executable, "-m", "erlbridge", "repl", *arguments]
            os.execve(sys.executable, command, kept | variables | environment)
        termios.tcsetwinsize(self.fd, (50, 160))

    def press(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def enter(self, line: str) -> None:
        self.press(line + "\r")

    def until(self, wanted: str) -> str:
        """What is shown from where the last look ended up to a text, without colours."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            screen = _ESCAPES.sub("", self.raw.decode(errors="ignore"))
            found = screen.find(wanted, self._read)
            if found >= 0:
                before, self._read = self._read, found + len(wanted)
                return screen[before : self._read]
            left = screen[self._read :]
            assert time.monotonic() < deadline, f"no {wanted!r} in {left!r}"
            assert self._more(deadline), f"ended without {wanted!r}: {left!r}"

    def ask(self, line: str, wanted: str) -> str:
        """Enters a line and gives what is shown up to a text and the next prompt behind it."""
        self.enter(line)
        return self.until(wanted) + self.until(PROMPT)

    def _more(self, deadline: float) -> bool:
        readable, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            return True
        try:
            data = os.read(self.fd, 1 << 16)
        except OSError:
            return False
        self.raw += data
        for question, answer in self._answers.items():
            for _ in range(self.raw.count(question, self._asked)):
                os.write(self.fd, answer)
        self._asked = len(self.raw)
        return bool(data)

    def end(self) -> int:
        """Waits for the REPL's end, and gives its exit code."""
        deadline = time.monotonic() + PATIENCE_S
        while self._more(deadline):
            assert time.monotonic() < deadline, "the REPL does not end"
        os.close(self.fd)
        self.fd = -1
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        if self.fd >= 0:
            os.kill(self.pid, signal.SIGKILL)
            os.close(self.fd)
            os.waitpid(self.pid, 0)
