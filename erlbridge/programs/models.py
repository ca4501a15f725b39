"""The language models of a job: from a checked description to a `dspy.LM` that retries in one place.

Knows endpoints, keys, retries and whose turn it is. DSPy's own retries are off, so that they do not
multiply with these, and every attempt passes the guard, so that each is counted and none starts past a limit.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import dspy  # type: ignore[import-untyped]
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential, wait_random

from erlbridge.core.lms import LM, RateLimit
from erlbridge.errors import LMFailed
from erlbridge.programs.caching import Calling, calling, data_directory, keep_answers
from erlbridge.programs.failures import Secrets, forget_data, is_transient, kind_of
from erlbridge.programs.guard import Guard
from erlbridge.programs.offline import AsyncOfflineEngine, OfflineEngine
from erlbridge.programs.predictions import text
from erlbridge.programs.rates import Rates, Turn

MAX_ATTEMPTS: Final = 4
"""Attempts of one call. What fails four times over some seconds is better reported to the host, who can wait longer."""

MAX_RETRY_AFTER_S: Final = 30.0
"""Longest wait that an endpoint may ask for; beyond it the error goes to the host with its `retry_after_ms`."""

_GUESSED_TOKENS: Final = 1000
"""What a call is charged against a limit on tokens before any call of its endpoint has told better."""

_BACKOFF: Final = wait_exponential(multiplier=0.25, max=8.0) + wait_random(0, 0.25)

_NO_KEY: Final = "none"
"""Sent to an address that the request named without naming a key: local servers want none, and the operator's own
key must not go wherever a request points."""


def build_lm(lm: LM, *, cache: bool, guard: Guard, secrets: Secrets, path: str) -> BridgeLM:
    """The model, ready for `dspy.context(lm=…)`; opens no connection.

    Args:
        lm: What the request says about it.
        cache: Whether answers are kept and looked for; never for the offline LM.
        guard: Counts and stops its calls.
        secrets: Kept out of its answers and its errors.
        path: Where the description stands in the request, for errors.

    Raises:
        LMFailed: Of kind `configuration`, for a key's variable that is not set or a model that DSPy refuses.
    """
    options: dict[str, Any] = {"temperature": lm.temperature, "max_tokens": lm.max_tokens}
    if lm.offline:
        engine = OfflineEngine(latency_s=lm.latency_s)
        options |= {"engine": engine, "async_engine": AsyncOfflineEngine(engine), "cache": False}
        return BridgeLM(lm, options, guard=guard, secrets=secrets)
    options |= {"timeout": lm.timeout_s, "cache": cache}
    if lm.api_key is not None:
        options["api_key"] = lm.api_key
    elif lm.api_key_env is not None:
        options["api_key"] = _key(lm.api_key_env, path)
    elif lm.api_base is not None:
        options["api_key"] = _NO_KEY
    if lm.api_base is not None:
        options["api_base"] = lm.api_base
    try:
        if _is_native(lm.model):
            # Not "auto": that would hand the calls to litellm because of a variable such as OPENAI_BASE_URL.
            options["engine"] = "lm15"
        return BridgeLM(lm, options, guard=guard, secrets=secrets)
    except (ValueError, TypeError, dspy.LMError) as error:
        raise LMFailed(
            f"DSPy refuses the model `{lm.model}`: {error}",
            kind="configuration",
            transient=False,
            context={"model": lm.model, "path": path},
        ) from error


@functools.cache
def rates() -> Rates:
    """The pace of endpoints, one for the process."""
    return Rates(data_directory())


def _key(variable: str, path: str) -> str:
    # Stripped: a secrets file ends with a newline, which no header can carry and which errors would show with the key.
    key = os.environ.get(variable, "").strip()
    if not key:
        shown = f"`{variable}`, " if variable.isupper() else ""  # else it may be a key that stands in the wrong place
        raise LMFailed(
            f"the environment variable {shown}named by {path}.api_key_env, is not set where the node runs, "
            "or is one that workers do not get",
            kind="configuration",
            transient=False,
            context={"path": f"{path}.api_key_env"},
        )
    return key


def _is_native(model: str) -> bool:
    """Whether DSPy's own client knows the provider; the rest goes through litellm, which takes seconds to import."""
    from dspy.clients.backend_selection import select_backend  # type: ignore[import-untyped]  # noqa: PLC0415

    try:
        return bool(select_backend(dspy.LM(model, engine="lm15", api_key=_NO_KEY)).native)
    except dspy.lm15.LM15Error:
        return False


class BridgeLM(dspy.LM):  # type: ignore[misc]
    """A `dspy.LM` whose attempts are guarded, and whose transient failures are tried again with growing waits.

    Each attempt is one call of DSPy's own `__call__`, with its callbacks, so it counts and can be stopped on its own.
    Copies, such as the ones that optimizers make for other temperatures, share the guard.

    Args:
        lm: What the request says about it.
        options: Further arguments of `dspy.LM`.
        guard: Counts and stops its calls.
        secrets: Kept out of its answers and its errors.
    """

    def __init__(self, lm: LM, options: Mapping[str, Any], *, guard: Guard, secrets: Secrets) -> None:
        keep_answers()  # whatever this model keeps: DSPy must never come to its own cache
        super().__init__(lm.model, num_retries=0, **options)
        self._described = lm
        self._one_by_one = self.engine != "auto"  # litellm asks for several answers in one request
        self._guard = guard
        self._secrets = secrets
        self._turns = threading.local()

    def __deepcopy__(self, memo: dict[int, Any]) -> BridgeLM:
        copied: BridgeLM = self.copy()
        return copied

    def __call__(self, prompt: Any = None, *, messages: Any = None, **options: Any) -> Any:
        """Answers as `dspy.LM` does, with no secret and no lone surrogate in any text of the answer: it goes into
        predictions, demos and programs, and from demos into prompts. Raises DSPy's LM errors, with no secret in them,
        or the guard's `Stop`."""
        count = options.get("n", self.kwargs.get("n")) or 1
        if not self._one_by_one or count == 1:
            return self._answer(prompt, messages, options, 0)
        # DSPy makes as many calls of it under one name; each is to be counted, paced, tried again and kept by itself.
        found = [self._answer(prompt, messages, {**options, "n": 1}, sample)[0] for sample in range(count)]
        if any(isinstance(answer, dict) for answer in found):
            return [answer if isinstance(answer, dict) else {"text": answer} for answer in found]
        return found

    def _answer(self, prompt: Any, messages: Any, options: dict[str, Any], sample: int) -> Any:
        endpoint, guard = self._described.endpoint, self._guard
        token = calling.set(Calling(endpoint, sample, self._secrets, self._go_out, guard.answered_from_cache))
        try:
            return _with_texts(self._attempts(prompt, messages, options), self._clean)
        except Exception as error:
            self._secrets.scrub(error)
            forget_data(error)
            guard.gave_up(error)
            raise
        finally:
            calling.reset(token)

    def update_history(self, entry: dict[str, Any]) -> None:
        """Takes cost and usage from DSPy's history entry and keeps nothing: a history is a leak in a long-lived
        worker."""
        self._guard.add_cost(self.model, 0.0 if self._described.offline else entry["cost"])
        turn, self._turns.taken = getattr(self._turns, "taken", None), None
        if turn is not None and self._described.rate_limit is not None:
            used = sum(entry["usage"].get(name) or 0 for name in ("prompt_tokens", "completion_tokens"))
            rates().settle(self._described.endpoint, self._described.rate_limit, turn, used)

    def _go_out(self) -> None:
        """Before each attempt that the cache does not answer: waits for its turn, and is counted. Raises `Stop`."""
        if self._described.rate_limit is not None:
            self._guard.check_budget()
            self._turns.taken = self._turn(self._described.rate_limit)
        self._guard.admit()

    def _turn(self, limit: RateLimit) -> Turn:
        while (turn := rates().turn(self._described.endpoint, limit, _GUESSED_TOKENS)).wait_s:
            self._guard.progress.tell(f"waiting {turn.wait_s:.1f} s for the rate limit of `{self.model}`")
            self._guard.sleep(turn.wait_s)
        return turn

    def _clean(self, answer: str) -> str:
        return text(self._secrets.redact_answer(answer))

    def _attempts(self, prompt: Any, messages: Any, options: dict[str, Any]) -> Any:
        retrying = Retrying(
            stop=stop_after_attempt(MAX_ATTEMPTS),
            retry=retry_if_exception(_is_worth_another),
            wait=_wait_s,
            before_sleep=self._say_why,
            sleep=self._guard.sleep,
            reraise=True,
        )
        return retrying(self._attempt, prompt, messages, options)

    def _say_why(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        kind = "unknown" if error is None else kind_of(error)
        attempt = f"failed attempt {state.attempt_number} of {MAX_ATTEMPTS} ({kind})"
        self._guard.progress.tell(f"waiting {state.upcoming_sleep:.1f} s after {attempt} of `{self.model}`")

    def _attempt(self, prompt: Any, messages: Any, options: dict[str, Any]) -> Any:
        if not options.get("cache", self.cache):
            self._go_out()  # else the cache says so, when it has no answer
        return super().__call__(prompt, messages=messages, **options)


def _with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """The answer with every text in it changed: DSPy's list of texts or dicts, or the `Response` to a `Request`."""
    match value:
        case str():
            return change(value)
        case list() | tuple():
            return type(value)(_with_texts(item, change) for item in value)
        case dict():
            made = copy.copy(value)  # of the same class: DSPy's dicts have attributes
            made.clear()
            made.update({_with_texts(key, change): _with_texts(item, change) for key, item in value.items()})
            return made
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {part.name: getattr(value, part.name) for part in dataclasses.fields(value) if part.init}
        return dataclasses.replace(value, **{name: _with_texts(part, change) for name, part in parts.items()})
    return value


def _is_worth_another(error: BaseException) -> bool:
    return is_transient(error) and (_retry_after_s(error) or 0.0) <= MAX_RETRY_AFTER_S


def _wait_s(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    asked = _retry_after_s(error)
    return _BACKOFF(state) if asked is None else asked


def _retry_after_s(error: BaseException | None) -> float | None:
    found = getattr(error, "retry_after", None)
    return float(found) if isinstance(found, int | float) and found >= 0 else None
