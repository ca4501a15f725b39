"""What the thread of HTTP asks the node's loop, and what the loop answers. Neither ever waits for the other."""

from __future__ import annotations

import contextlib
import functools
import os
import traceback
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from erlbridge.node.node import Node

Answer: TypeAlias = Callable[[Any], None]
Question: TypeAlias = "Callable[[Node, Answer], None]"
"""Done in the loop, with the node; calls the answer once, there and then or later, in the loop too."""

_WAKE_BYTES: Final = 4096


class Bell:
    """Wakes a selector that watches `fileno` from another thread. A full pipe has been rung often enough."""

    def __init__(self) -> None:
        self._ends = os.pipe()
        for end in self._ends:
            os.set_blocking(end, False)

    def fileno(self) -> int:
        """What the selector watches."""
        return self._ends[0]

    def ring(self) -> None:
        """Wakes it."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._ends[1], b"\0")

    def heard(self) -> None:
        """It is awake."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._ends[0], _WAKE_BYTES)


class Asked:
    """A question on its way. `done` is set behind `outcome`, by the loop."""

    __slots__ = ("done", "outcome", "question")

    def __init__(self, question: Question) -> None:
        self.question = question
        self.outcome: Any = None
        self.done = False


class Mailbox:
    """Takes questions to the loop. `on_answer` rings for who asked."""

    def __init__(self) -> None:
        self.bell = Bell()
        self.on_answer: Callable[[], None] = lambda: None
        self._questions: deque[Asked] = deque()

    def ask(self, question: Question) -> Asked:
        """Sends a question; called by the thread of HTTP."""
        asked = Asked(question)
        self._questions.append(asked)
        self.bell.ring()
        return asked

    def serve(self, node: Node) -> None:
        """Answers what was asked; called by the loop when the bell rings. A question that fails is told in the log and
        stays without an answer: who looks must not end the node that is looked at."""
        self.bell.heard()
        while self._questions:
            asked = self._questions.popleft()
            try:
                asked.question(node, functools.partial(self._answer, asked))
            except Exception:  # noqa: BLE001 - as said
                node.host.log("error", f"http: {traceback.format_exc()}".encode())

    def _answer(self, asked: Asked, outcome: Any) -> None:
        asked.outcome = outcome
        asked.done = True
        self.on_answer()
