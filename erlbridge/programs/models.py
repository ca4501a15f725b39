"""The language models of a job: from a checked description to a `dspy.LM` that retries in one place.

Knows endpoints, keys (by the name of their variable) and retries. DSPy's own retries are off, so that they do not
multiply with these, and every attempt passes the guard, so that each is counted and none starts past a limit.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final

import dspy  # type: ignore[import-untyped]
from dspy.clients.cache import Cache  # type: ignore[import-untyped]
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential, wait_random

from erlbridge.core.lms import LM
from erlbridge.errors import LMFailed
from erlbridge.programs.failures import Secrets, is_transient
from erlbridge.programs.guard import Guard
from erlbridge.programs.offline import AsyncOfflineEngine, OfflineEngine
from erlbridge.programs.predictions import text

MAX_ATTEMPTS: Final = 4
"""Attempts of one call. What fails four times over some seconds is better reported to the host, who can wait longer."""

MAX_RETRY_AFTER_S: Final = 30.0
"""Longest wait that an endpoint may ask for; beyond it the error goes to the host with its `retry_after_ms`."""

MAX_CACHED_ANSWERS: Final = 10_000
"""Answers a worker remembers, of some 10 kB each; the oldest are dropped."""

_BACKOFF: Final = wait_exponential(multiplier=0.25, max=8.0) + wait_random(0, 0.25)

_NO_KEY: Final = "none"
"""Sent to an address that the request named without naming a key: local servers want none, and the operator's own
key must not go wherever a request points."""


def build_lm(lm: LM, *, cache: bool, guard: Guard, secrets: Secrets, path: str) -> BridgeLM:
    """The model, ready for `dspy.context(lm=…)`; opens no connection.

    Args:
        lm: What the request says about it.
        cache: Whether answers come from and go to DSPy's cache; never for the offline LM.
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
        return BridgeLM(lm.model, options, guard=guard, secrets=secrets, free=True)
    if cache:
        keep_cache_in_memory()
    options |= {"timeout": lm.timeout_s, "cache": cache}
    if lm.api_key_env is not None:
        options["api_key"] = _key(lm.api_key_env, path)
    elif lm.api_base is not None:
        options["api_key"] = _NO_KEY
    if lm.api_base is not None:
        options["api_base"] = lm.api_base
    try:
        if _is_native(lm.model):
            # Not "auto": that would hand the calls to litellm because of a variable such as OPENAI_BASE_URL.
            options["engine"] = "lm15"
        return BridgeLM(lm.model, options, guard=guard, secrets=secrets, endpoint=lm.api_base)
    except (ValueError, TypeError, dspy.LMError) as error:
        raise LMFailed(
            f"DSPy refuses the model `{lm.model}`: {error}",
            kind="configuration",
            transient=False,
            context={"model": lm.model, "path": path},
        ) from error


@functools.cache
def keep_cache_in_memory() -> None:
    """Gives DSPy a bounded cache in memory, once. Its own lies on disk and unpickles what it finds there."""
    dspy.cache = _CleanCache(
        enable_disk_cache=False, enable_memory_cache=True, disk_cache_dir=None, memory_max_entries=MAX_CACHED_ANSWERS
    )


_asking: ContextVar[Secrets | None] = ContextVar("_asking", default=None)
"""The secrets of the call that runs here, for the cache, which DSPy fills before it hands the answer to anyone."""


class _CleanCache(Cache):  # type: ignore[misc]
    """A cache that keeps no answer with a secret in it: a later job may read it and know nothing of that key."""

    def put(self, request: dict[str, Any], value: Any, *rest: Any, **options: Any) -> None:
        secrets = _asking.get()
        if secrets is None or not secrets.keys_show_in(repr(value)):
            super().put(request, value, *rest, **options)


def _key(variable: str, path: str) -> str:
    # Stripped: a secrets file ends with a newline, which no header can carry and which errors would show with the key.
    key = os.environ.get(variable, "").strip()
    if not key:
        raise LMFailed(
            f"the environment variable `{variable}`, named by {path}.api_key_env, is not set where the node runs",
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
        model: DSPy's name of the model.
        options: Further arguments of `dspy.LM`.
        free: Whether its answers cost nothing.
        endpoint: The address, which joins the cache key; DSPy's own key would let two servers share their answers.
    """

    def __init__(
        self,
        model: str,
        options: Mapping[str, Any],
        *,
        guard: Guard,
        secrets: Secrets,
        free: bool = False,
        endpoint: str | None = None,
    ) -> None:
        super().__init__(model, num_retries=0, **options)
        self._guard = guard
        self._secrets = secrets
        self._free = free
        self._endpoint = endpoint
        # With its own engines DSPy makes a request for each of `n` candidates; litellm asks for all of them at once.
        self._one_each = "engine" in options
        self._warned_zero_temp_rollout = True  # the rollout below is ours, not a wish for another answer

    def __deepcopy__(self, memo: dict[int, Any]) -> BridgeLM:
        copied: BridgeLM = self.copy()
        return copied

    def __call__(self, prompt: Any = None, *, messages: Any = None, **options: Any) -> Any:
        """Answers as `dspy.LM` does, with no secret and no lone surrogate in any text of the answer: it goes into
        predictions, demos and programs, and from demos into prompts. Raises DSPy's LM errors, with no secret in them,
        or the guard's `Stop`."""
        if self._endpoint is not None and self.cache:
            rollout = options.get("rollout_id", self.kwargs.get("rollout_id"))
            options["rollout_id"] = f"{self._endpoint} {rollout}"
        asking = _asking.set(self._secrets)
        try:
            return _with_texts(self._candidates(prompt, messages, options), self._clean)
        except Exception as error:
            self._secrets.scrub(error)
            self._guard.gave_up(error)
            raise
        finally:
            _asking.reset(asking)

    def update_history(self, entry: dict[str, Any]) -> None:
        """Takes the cost from DSPy's history entry and keeps nothing: a history is a leak in a long-lived worker."""
        self._guard.add_cost(self.model, 0.0 if self._free else entry["cost"])

    def _clean(self, answer: str) -> str:
        return text(self._secrets.redact_answer(answer))

    def _candidates(self, prompt: Any, messages: Any, options: dict[str, Any]) -> Any:
        """The answer, or those to a call for `n` of them: a call each where each is a request, so that each is counted,
        can be stopped, and is tried again alone."""
        count = options.get("n", self.kwargs.get("n")) or 1
        if count == 1 or not self._one_each:
            return self._attempts(prompt, messages, options)
        rollout = options.get("rollout_id", self.kwargs.get("rollout_id"))
        found: list[Any] = []
        for index in range(count):
            one = {**options, "n": 1}
            if self.cache:
                one["rollout_id"] = f"{rollout} {index}"  # or the first answer would be all of them
            found += self._attempts(prompt, messages, one)
        return found

    def _attempts(self, prompt: Any, messages: Any, options: dict[str, Any]) -> Any:
        retrying = Retrying(
            stop=stop_after_attempt(MAX_ATTEMPTS),
            retry=retry_if_exception(_is_worth_another),
            wait=_wait_s,
            sleep=self._guard.sleep,
            reraise=True,
        )
        return retrying(super().__call__, prompt, messages=messages, **options)


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
