"""The node's end of the pipes into which workers write their stacks. Knows descriptors and times; no processes."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable
from typing import Final

from erlbridge.limits import MAX_STACK_CHARACTERS

_ANSWER_S: Final = 0.04
"""How long a worker may take to begin with its stacks before its threads are asked one by one: something keeps the
interpreter's lock."""
_PATIENCE_S: Final = 0.15
"""How long a stack may take to begin. A deadline is answered at most so much late because of it."""
_QUIET_S: Final = 0.02
"""A stack has no end mark; it is taken to be whole when nothing more of it has come for so long."""
_READ_BYTES: Final = 64 * 1024
_MOST_BYTES: Final = 256 * 1024
_HALF: Final = MAX_STACK_CHARACTERS // 2
"""The youngest thread comes first and the main thread last; of a stack that is too long both ends are kept."""


class StackPipe:
    """Where one worker writes its stacks. `theirs` is its end, which the owner hands over and then calls `handed_over`.

    `on_stack` is called once for each `expect`, also when nothing comes: then with an empty text. `on_silence` is
    called before that, when nothing has begun to come.
    """

    def __init__(
        self, selector: selectors.BaseSelector, on_stack: Callable[[str], None], on_silence: Callable[[], None]
    ) -> None:
        self._ours, self.theirs = os.pipe()
        os.set_blocking(self._ours, False)
        self._selector = selector
        self._on_stack = on_stack
        self._on_silence = on_silence
        self._answer_by: float | None = None
        self._text = bytearray()
        self._end_at: float | None = None
        selector.register(self._ours, selectors.EVENT_READ, lambda _events: self._read())
        self._open = True

    def handed_over(self) -> None:
        """The worker has its end."""
        os.close(self.theirs)

    def expect(self) -> bool:
        """A stack has been asked for; False when one is on its way already."""
        if self._end_at is not None:
            return False
        self._text.clear()
        now = time.monotonic()
        self._answer_by, self._end_at = now + _ANSWER_S, now + _PATIENCE_S
        return True

    def next_deadline(self) -> float | None:
        """When `expire` has something to do."""
        return self._answer_by or self._end_at

    def expire(self, now: float) -> None:
        """Gives the stack that was waited for, if it is whole or will not come."""
        if self._answer_by is not None and self._answer_by <= now:
            self._answer_by = None
            self._on_silence()
        if self._end_at is not None and self._end_at <= now:
            self._answer_by = self._end_at = None
            stack = self._taken()
            self._on_stack(stack)

    def close(self) -> str:
        """The worker is gone; gives what it has written since it was last asked, such as the stack of its crash."""
        if self._open:
            self._read()
        if self._open:
            self._selector.unregister(self._ours)
        os.close(self._ours)
        return self._taken()

    def _taken(self) -> str:
        text = self._text.decode(errors="replace").strip()
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
        if self._end_at is not None:
            self._answer_by = None
            self._end_at = time.monotonic() + _QUIET_S
