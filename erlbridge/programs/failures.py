"""What went wrong with a model, in the bridge's own errors, and with no key in any text.

Knows DSPy's LM errors, their kinds and which of them no further call can mend; knows where keys may stand. Decides
nothing about a job.
"""

from __future__ import annotations

import os
import re
import traceback as traceback_module
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import dspy  # type: ignore[import-untyped]
from dspy.utils import exceptions as lm_errors  # type: ignore[import-untyped]

from erlbridge.errors import BridgeError, LMFailed

_KINDS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (lm_errors.LMAuthError, "auth"),
    (lm_errors.LMBillingError, "billing"),
    (lm_errors.LMRateLimitError, "rate_limit"),
    (lm_errors.LMTimeoutError, "timeout"),
    (lm_errors.LMServerError, "server"),
    (lm_errors.LMTransportError, "transport"),
    (lm_errors.LMLockTimeoutError, "transport"),
    (lm_errors.LMInvalidRequestError, "invalid_request"),
    (lm_errors.LMConfigurationError, "configuration"),
    (lm_errors.LMUnsupportedFeatureError, "configuration"),
)
_FATAL: Final = (
    lm_errors.LMAuthError,
    lm_errors.LMBillingError,
    lm_errors.LMConfigurationError,
    lm_errors.LMUnsupportedModelError,
    lm_errors.LMUnsupportedFeatureError,
)
_NAMES_A_SECRET: Final = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)\Z", re.IGNORECASE)
_SHORTEST_SECRET: Final = 6
_REDACTED: Final = "[redacted]"


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed when made again."""
    return bool(dspy.is_retryable_lm_error(error))


def is_fatal(error: BaseException) -> bool:
    """Whether every further call of this model would fail in the same way."""
    return isinstance(error, _FATAL)


def kind_of(error: BaseException) -> str:
    """The error's kind, one of `vocabulary.ERROR_KINDS`."""
    return next((kind for known, kind in _KINDS if isinstance(error, known)), "unknown")


def lm_failed(error: BaseException, *, failed_calls: int | None = None) -> LMFailed:
    """The wire error for an exception of a model call."""
    retry_after = getattr(error, "retry_after", None)
    context: dict[str, object] = {"model": getattr(error, "model", None)}
    if failed_calls is not None:
        context["failed_calls"] = failed_calls
    return LMFailed(
        f"{type(error).__name__}: {error}",
        kind=kind_of(error),
        transient=is_transient(error),
        traceback=traceback_text(error),
        retry_after_ms=round(retry_after * 1000) if isinstance(retry_after, int | float) else None,
        context=context,
    )


def traceback_text(error: BaseException) -> str:
    """Python's traceback of an exception and its causes."""
    return "".join(traceback_module.format_exception(error))


class Secrets:
    """Values that must not appear in any text that leaves the worker.

    >>> secrets = Secrets({"OPENAI_API_KEY": "sk-123456"})
    >>> secrets.redact("Incorrect key sk-123456 provided")
    'Incorrect key [redacted] provided'
    """

    def __init__(self, environment: Mapping[str, str], named: Iterable[str] = ()) -> None:
        names = {name for name in environment if _NAMES_A_SECRET.search(name)} | set(named)
        values = {environment[name] for name in names if len(environment.get(name, "")) >= _SHORTEST_SECRET}
        # The longest first: a key may begin with another one.
        self._pattern = re.compile("|".join(map(re.escape, sorted(values, key=len, reverse=True)))) if values else None

    @classmethod
    def of_process(cls, named: Iterable[str | None] = ()) -> Secrets:
        """The secrets of this process's environment, and the variables that a request names."""
        return cls(os.environ, [name for name in named if name is not None])

    def redact(self, text: str) -> str:
        """The text without secrets."""
        return text if self._pattern is None else self._pattern.sub(_REDACTED, text)

    def scrub(self, error: BaseException) -> None:
        """Takes the secrets out of an exception and its causes, in place, so that no log or traceback shows them."""
        if self._pattern is None:
            return
        for part in _chain(error):
            part.args = tuple(self.redact(item) if isinstance(item, str) else item for item in part.args)
            for name in ("message", "traceback"):
                found = getattr(part, name, None)
                if isinstance(found, str):
                    setattr(part, name, self.redact(found))
            if isinstance(part, BridgeError):
                part.context = {key: self._clean(value) for key, value in part.context.items()}

    def _clean(self, value: Any) -> object:
        return self.redact(value) if isinstance(value, str) else value


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        part = waiting.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        waiting += (part.__cause__, part.__context__)
