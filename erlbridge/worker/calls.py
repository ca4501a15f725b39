"""The calls of Elixir functions that the threads of one worker's job wait for. Numbers them; knows no job."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count

from erlbridge.codec import Atom
from erlbridge.core.functions import value_of
from erlbridge.errors import BridgeError, InternalError
from erlbridge.wire.messages import encode
from erlbridge.wire.vocabulary import atom

_CALL = atom("call")


class Calls:
    """Asks by `send`, which takes a frame, and hands each outcome to the future that waits for it.

    Between two jobs and in a job that is being stopped nothing is asked: every call fails with the reason.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._waiting: dict[int, tuple[Atom | bytes, Future[object]]] = {}
        self._reason: BridgeError | None = InternalError("no job runs")

    def begin(self) -> None:
        """A job begins."""
        with self._lock:
            self._reason = None

    def ask(self, name: Atom | bytes, arguments: list[object], timeout_ms: int | None) -> Future[object]:
        """Asks the host, from any thread; the future raises what `core.functions.value_of` says, or why all stopped."""
        answer: Future[object] = Future()
        with self._lock:
            if self._reason is not None:
                answer.set_exception(self._reason)
                return answer
            number = next(self._numbers)
            self._waiting[number] = (name, answer)
        try:
            self._send(encode((_CALL, number, timeout_ms, name, arguments), head=4))
        except BridgeError as error:  # an argument that no term stands for
            self._fail(number, error)
        return answer

    def take(self, number: int, outcome: object) -> None:
        """An outcome has come; one that nobody waits for any more is dropped."""
        with self._lock:
            name, answer = self._waiting.pop(number, (b"", None))
        if answer is None:
            return
        try:
            answer.set_result(value_of(outcome, name))
        except BridgeError as error:
            answer.set_exception(error)

    def stop(self, reason: BridgeError) -> None:
        """Every call that is open, and every further one of this job, fails with this reason."""
        with self._lock:
            self._reason = reason
            waiting, self._waiting = self._waiting, {}
        for _, answer in waiting.values():
            answer.set_exception(reason)

    def _fail(self, number: int, error: BridgeError) -> None:
        with self._lock:
            _, answer = self._waiting.pop(number, (b"", None))
        if answer is not None:
            answer.set_exception(error)
