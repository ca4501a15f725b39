"""Python's logging and warnings in a worker, as log events with their own level and logger.

One record is one event, its traceback with it. Libraries warn from WARNING on, DSPy and the bridge speak from INFO on.
No secret of a job shows in them. What is printed past logging takes the pipe instead, and is not looked at.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from erlbridge.codec import term_to_binary
from erlbridge.core.lines import Rate, shortened
from erlbridge.programs.discretion import redacted
from erlbridge.wire.vocabulary import atom

_LOG: Final = atom("log")
_LEVELS: Final = ((logging.ERROR, atom("error")), (logging.WARNING, atom("warning")), (logging.INFO, atom("info")))
_DEBUG: Final = atom("debug")
_TALKATIVE: Final = ("dspy", "erlbridge")
_MOST_NAME_CHARACTERS: Final = 200
_TOLD: Final = "_erlbridge_told"

_log = logging.getLogger(__name__)


class Logs(logging.Handler):
    """Gives each record to `offer` as a frame for the node; what `offer` refuses, and what is above the rate, is
    counted, and the number told with the next."""

    def __init__(self, offer: Callable[[bytes], bool]) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter())
        self._offer = offer
        self._rate = Rate()
        self._dropped = 0

    def install(self) -> None:
        """From now on everything that this process logs, warns of or cannot raise goes this way."""
        logging.getLogger().addHandler(self)
        for name in _TALKATIVE:
            logger = logging.getLogger(name)
            logger.setLevel(logging.INFO)
            logger.handlers.clear()  # DSPy's own writes to standard error
            logger.propagate = True
        _replace_consoles(self.emit)
        logging.captureWarnings(True)
        threading.excepthook = _log_of_thread
        sys.unraisablehook = _log_unraisable

    def emit(self, record: logging.LogRecord) -> None:
        """Tells of a record, once, however many handlers it meets on its way."""
        if _TOLD in record.__dict__:
            return
        record.__dict__[_TOLD] = True
        if not self._rate.left(time.monotonic()):
            self._dropped += 1
            return
        self._rate.spend(1)
        try:
            text = shortened(redacted(self.format(record)))
        except Exception:  # noqa: BLE001 - a record whose arguments do not fit its message, most often
            self.handleError(record)
            return
        level = next((level for least, level in _LEVELS if record.levelno >= least), _DEBUG)
        self._say(level, text, record.name[:_MOST_NAME_CHARACTERS].encode(errors="replace"))

    def settle(self) -> None:
        """The job is over: tells how many of its records were dropped and not told of yet."""
        if self._dropped:
            self._say(_DEBUG, b"", b"")

    def _say(self, level: object, text: bytes, logger: bytes) -> None:
        dropped, self._dropped = self._dropped, 0
        if not self._offer(term_to_binary((_LOG, level, text, logger, dropped))):
            self._dropped += dropped + bool(text)


def _replace_consoles(emit: Callable[[logging.LogRecord], None]) -> None:
    """Libraries such as Optuna give their loggers a console of their own when they are first used, and keep them from
    the root's handlers. Whatever such a console is to write goes the way of everything else."""
    to_stream = logging.StreamHandler.emit

    def to_host(console: logging.StreamHandler[Any], record: logging.LogRecord) -> None:
        if console.stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            emit(record)
        else:
            to_stream(console, record)

    logging.StreamHandler.emit = to_host  # type: ignore[assignment, method-assign]


def _log_of_thread(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_value is not None and not issubclass(failed.exc_type, SystemExit):
        name = "?" if failed.thread is None else failed.thread.name
        _log.error("exception in thread %s", name, exc_info=failed.exc_value)


def _log_unraisable(failed: sys.UnraisableHookArgs) -> None:
    # Not what it failed in: an object that is being destroyed may not be shown any more.
    _log.error(failed.err_msg or "exception ignored", exc_info=failed.exc_value)
