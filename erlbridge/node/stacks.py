"""The node's end of the pipes into which workers write their stacks. Knows descriptors and times; no processes."""

from __future__ import annotations

import math
import os
import selectors
import time
from collections.abc import Callable, Iterator
from typing import Final

from erlbridge.core.allotment import STACKS_END
from erlbridge.limits import MAX_STACK_CHARACTERS, TRACE_GRACE_S

_ANSWER_S: Final = 0.04
"""How long a worker may take to begin with its stacks before its threads are asked one by one: something keeps the
interpreter's lock."""
_PATIENCE_S: Final = TRACE_GRACE_S - 0.02
"""How long stacks may take in all: what is there by then reaches whoever waits for it."""
_QUIET_S: Final = 0.02
"""A thread's own stack has no end mark; it is taken to be whole when nothing more of it has come for so long."""
_READ_BYTES: Final = 64 * 1024
_MOST_BYTES: Final = 256 * 1024
_HALF: Final = MAX_STACK_CHARACTERS // 2
"""The youngest thread comes first and the main thread last; of a stack that is too long both ends are kept."""


class StackPipe:
    """Where one worker writes its stacks. `theirs` is its end, which the owner hands over and then calls `handed_over`.

    `on_stack` is called once for each `expect`, also when nothing comes: then with an empty text. `on_silence` is
    called before that when nothing has begun to come; each step through what it gives asks one thread for its own
    stack. They are asked in turn: of two that write at once the interpreter leaves out the second.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        on_stack: Callable[[str], None],
        on_silence: Callable[[], Iterator[int]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ours, self.theirs = os.pipe()
        os.set_blocking(self._ours, False)
        self._selector = selector
        self._on_stack = on_stack
        self._on_silence = on_silence
        self._clock = clock
        self._threads: Iterator[int] | None = None
        self._look_at = self._end_at = math.inf
        self._text = bytearray()
        selector.register(self._ours, selectors.EVENT_READ, lambda _events: self._read())
        self._open = True

    def handed_over(self) -> None:
        """The worker has its end."""
        os.close(self.theirs)

    def expect(self) -> bool:
        """A stack has been asked for; False when one is on its way already."""
        if self._end_at < math.inf:
            return False
        self._text.clear()
        self._threads = None
        now = self._clock()
        self._look_at, self._end_at = now + _ANSWER_S, now + _PATIENCE_S
        return True

    def next_deadline(self) -> float | None:
        """When `expire` has something to do."""
        return min(self._look_at, self._end_at) if self._end_at < math.inf else None

    def expire(self, now: float) -> None:
        """Asks the next thread, and gives what was waited for, if it is whole or will not come."""
        if self._look_at <= now:
            if self._threads is None:
                self._threads = self._on_silence()
            if next(self._threads, None) is not None:
                self._look_at = now + _ANSWER_S
            elif self._text:
                self._end_at = now
            else:
                self._look_at = math.inf
        if self._end_at <= now:
            self._give()

    def close(self) -> str:
        """The worker is gone; gives what it has written since it was last asked, such as the stack of its crash."""
        if self._open:
            self._read()
        if self._open:
            self._selector.unregister(self._ours)
        os.close(self._ours)
        return self._taken()

    def _give(self) -> None:
        self._look_at = self._end_at = math.inf
        self._on_stack(self._taken())

    def _taken(self) -> str:
        text = self._text.replace(STACKS_END, b"").decode(errors="replace").strip()
        self._text.clear()
        return text if len(text) <= MAX_STACK_CHARACTERS else f"{text[:_HALF]}\n  …\n{text[-_HALF:]}"

    def _read(self) -> None:
        try:
            data = os.read(self._ours, _READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._open = False
            self._selector.unregister(self._ours)
            return
        self._text += data[: _MOST_BYTES - len(self._text)]
        if self._end_at == math.inf:
            return
        if data.endswith(STACKS_END):
            self._give()
        else:
            self._look_at = math.inf if self._threads is None else self._clock() + _QUIET_S
