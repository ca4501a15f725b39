"""Watches one job from inside of DSPy: counts what it spends, and stops it; `telling` says how far it is.

DSPy swallows every `Exception` on its way (a dead key gives a "compiled" program after a hundred failed calls), so the
guard stops a job with a `BaseException`, raised where each model call starts and ends. One guard serves one job. Its
handlers run on many threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

from dspy.utils.callback import BaseCallback  # type: ignore[import-untyped]

from erlbridge.codec import Atom
from erlbridge.core.configs import Budget
from erlbridge.core.jobs import Observer
from erlbridge.errors import (
    BridgeError,
    BudgetExceeded,
    CallbackFailed,
    InternalError,
    MissingPackage,
    ValidationError,
)
from erlbridge.programs.failures import is_fatal, is_transient, lm_failed
from erlbridge.programs.ledger import Ledger, exceeded
from erlbridge.programs.telling import Telling

BREAKER_CALLS: Final = 8
"""Calls in a row that failed for good, each after its retries, before the endpoint counts as dead."""

_NAP_S: Final = 0.02
"""How often a wait between two attempts looks for a reason to stop."""

_BLINK_S: Final = 0.002


class Stop(BaseException):
    """Unwinds DSPy. Why is in `Guard.reason`."""


class Guard(BaseCallback):  # type: ignore[misc]
    """DSPy callback, usage tracker and stopwatch of one job.

    It is passed to `dspy.context` twice, as `callbacks=[guard]` and as `usage_tracker=guard`. DSPy copies a tracker for
    each of its threads and loses what the copies count; this one copies to itself.

    Args:
        observer: Who is told about progress and asked for a reason to stop.
        budget: What the job may spend. `max_lm_calls` is exact; tokens and cost are known when a call ends, so the
            calls in flight at that moment can go over.
        clock: Seconds that only go up.
    """

    def __init__(self, observer: Observer, budget: Budget, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.reason: BridgeError | None = None
        self.ledger = Ledger()
        self._observer = observer
        self._budget = budget
        self._clock = clock
        self._started = clock()
        self._lock = threading.RLock()
        self.progress = Telling(observer, self.ledger, self._lock, lambda: self.elapsed_s, self.check)
        self._thread = threading.local()
        self._succeeded_calls = 0
        self._given_up_in_a_row = 0
        self._last_failure: BaseException | None = None
        self._calls_in_flight = 0
        self._minders = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Guard:
        return self

    # -- what it knows --------------------------------------------------------------------------------------------

    @property
    def elapsed_s(self) -> float:
        """Seconds since the job began."""
        return self._clock() - self._started

    def spent(self) -> dict[str, object]:
        """What the job has spent so far, by published names."""
        with self._lock:
            return self.ledger.spent()

    @property
    def cached_call(self) -> bool:
        """Whether the model call of this thread that ends was answered by the cache."""
        return getattr(self._thread, "cached", False)

    @property
    def tokens_of_call(self) -> tuple[int, int] | None:
        """The tokens in and out of the model call of this thread that ends; None where none were counted."""
        return getattr(self._thread, "tokens", None)

    # -- stopping -------------------------------------------------------------------------------------------------

    def stop(self, reason: BridgeError) -> NoReturn:
        """Ends the job. The first reason wins; later ones are its echoes on other threads."""
        with self._lock:
            if self.reason is None:
                self.reason = reason
        raise Stop

    def check(self) -> None:
        """Raises `Stop` when the job must not go on. A budget that is used up keeps calls from starting; it does not
        undo what is done."""
        if self.progress.closed:
            self.stop(InternalError("the job is over"))
        reason = self.reason or self._observer.stop_reason()
        if reason is not None:
            self.stop(reason)

    def must_end_calls(self) -> bool:
        """Whether the model calls in flight must end now: there is a reason to stop, or the job's seconds are used up
        in the middle of a call, which then is the reason. Raises nothing; each call that ends finds out by itself.

        Where only calls, tokens or money are used up they go on: they are paid, and their answers are kept."""
        with self._lock:
            asked = self._observer.stop_reason()
            if self.reason is None:
                self.reason = asked
            limit = self._budget.max_seconds
            late = limit is not None and self.elapsed_s >= limit
            if self.reason is None and self._calls_in_flight and limit is not None and late:
                self.reason = exceeded(f"{self.elapsed_s:.3f} seconds used", limit)
            if isinstance(self.reason, BudgetExceeded):
                return late or asked is not None
            return self.reason is not None

    def check_time(self) -> None:
        """Raises `Stop` in the middle of a call that must end: a stream may never end by itself."""
        self.must_end_calls()
        self.check()

    def calls_end(self, within_s: float) -> bool:
        """Whether every model call in flight has ended, waiting for it so long at most."""
        end = self._clock() + within_s
        while self._calls_in_flight and self._clock() < end:
            time.sleep(_BLINK_S)
        return not self._calls_in_flight

    @property
    def minds_its_connections(self) -> bool:
        """Whether somebody ends requests in flight by himself, and may have some to make after a stop."""
        return self._minders > 0

    @contextmanager
    def minding_connections(self) -> Iterator[None]:
        """Within the block the job's requests are its own to end."""
        with self._lock:
            self._minders += 1
        try:
            yield
        finally:
            with self._lock:
                self._minders -= 1

    def check_alive(self) -> None:
        """Raises `Stop` when the job must not go on, or when there were model calls and every one of them failed.

        DSPy scores a failed call as a wrong answer, so a run against a dead endpoint would look like a bad program.
        """
        self.check()
        with self._lock:
            failure = self._last_failure if self.ledger.lm_calls and not self._succeeded_calls else None
        if failure is not None:
            self.stop(lm_failed(failure, failed_calls=self.ledger.failed_calls))

    def close(self) -> None:
        """The job is over. Calls that other threads still want to start are stopped, and nothing is told any more."""
        self.progress.close()

    def sleep(self, seconds: float) -> None:
        """Waits before a call, or between two attempts of it; raises `Stop` as soon as the job must not go on."""
        end = self._clock() + seconds
        limit = self._budget.max_seconds
        if limit is not None and end - self._started > limit:
            self.stop(exceeded(f"{self.elapsed_s:.3f} seconds used, and {seconds:.3f} to wait", limit))
        while (left := end - self._clock()) > 0:
            self.check()
            time.sleep(min(left, _NAP_S))

    # -- model calls ----------------------------------------------------------------------------------------------

    def admit(self) -> None:
        """Counts an attempt that goes out to a model, or stops the job instead of letting it. Answers of the cache
        cost nothing and are not asked for here."""
        with self._lock:
            self.check()
            if (reason := self.ledger.used_up(self._budget, self.elapsed_s)) is not None:
                self.stop(reason)
            self.ledger.lm_calls += 1
            self._calls_in_flight += 1
        self._thread.admitted = True

    def check_budget(self) -> None:
        """Raises `Stop` when no further call may start; asked before one waits for its turn."""
        self.check()
        with self._lock:
            if (reason := self.ledger.used_up(self._budget, self.elapsed_s)) is not None:
                self.stop(reason)

    def answered_from_cache(self) -> None:
        """The call of this thread is answered by the cache."""
        self._thread.cached = True
        with self._lock:
            self.ledger.cached_calls += 1

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002 - DSPy's shape
        """Stops the job instead of letting a call start, unless it is admitted: what is counted goes out."""
        self._thread.billed = self._thread.cached = False
        self._thread.tokens = None
        if not getattr(self._thread, "admitted", False):
            self.check()

    def on_lm_end(
        self,
        call_id: str,  # noqa: ARG002 - the shape of DSPy's handlers
        outputs: Any | None,  # noqa: ARG002
        exception: BaseException | None = None,
    ) -> None:
        """Counts how an attempt ended; stops the job on an error that no further call can mend."""
        admitted, self._thread.admitted = getattr(self._thread, "admitted", False), False
        with self._lock:
            self._calls_in_flight -= admitted
        if isinstance(exception, Stop):
            return
        with self._lock:
            if exception is None:
                self._succeeded_calls += 1
                if not getattr(self._thread, "cached", False):  # which says nothing about the endpoint
                    self._given_up_in_a_row = 0
            else:
                self.ledger.lm_calls += not admitted  # it failed on its way to the model
                self.ledger.failed_calls += 1
                self._last_failure = exception
        if isinstance(exception, ImportError):
            self.stop(MissingPackage(f"the model needs a package that is not installed: {exception}"))
        if exception is not None and is_fatal(exception):
            self.stop(lm_failed(exception, failed_calls=self.ledger.failed_calls))
        self.check()
        self.progress.tell()

    def gave_up(self, error: Exception) -> None:
        """A call failed for good. Many in a row mean that the endpoint is dead, which ends the job."""
        with self._lock:
            self.ledger.given_up_calls += 1
            self._given_up_in_a_row += 1
            dead = self._given_up_in_a_row >= BREAKER_CALLS and (is_transient(error) or not self._succeeded_calls)
        if dead:
            self.stop(lm_failed(error, failed_calls=self.ledger.failed_calls))

    def add_usage(self, lm: str, usage_entry: dict[str, Any]) -> None:
        """DSPy's usage tracker: called once for each answer that an endpoint gave, never for one from the cache."""
        self._thread.billed = True
        asked, answered = usage_entry.get("prompt_tokens"), usage_entry.get("completion_tokens")
        if (asked is None or answered is None) and self._budget.max_tokens is not None:
            self.stop(
                ValidationError(
                    f"the endpoint of `{lm}` reports no tokens; limit the job by max_lm_calls or max_seconds instead",
                    "payload.config.budget.max_tokens",
                )
            )
        self._thread.tokens = (asked or 0, answered or 0)
        with self._lock:
            self.ledger.input_tokens += asked or 0
            self.ledger.output_tokens += answered or 0

    def add_cost(self, lm: str, cost_usd: float | None) -> None:
        """What the answer just counted by `add_usage` on this thread cost; None when no price is known."""
        if not getattr(self._thread, "billed", False):
            return  # from the cache: it carries the price of the call that once filled it
        self._thread.billed = False
        if cost_usd is None and self._budget.max_cost_usd is not None:
            self.stop(
                ValidationError(
                    f"no price is known for `{lm}`; limit the job by max_lm_calls or max_tokens instead",
                    "payload.config.budget.max_cost_usd",
                )
            )
        with self._lock:
            self.ledger.known_cost_usd += cost_usd or 0.0
            self.ledger.unpriced_calls += cost_usd is None

    def unpriced(self) -> None:
        """Something was done whose price nobody knows; from now on nobody knows what the job costs."""
        with self._lock:
            self.ledger.unpriced_calls += 1

    # -- Elixir functions -----------------------------------------------------------------------------------------

    def call(self, name: Atom | bytes, arguments: list[object], timeout_ms: int | None = None) -> object:
        """The value that an Elixir function gives.

        Raises `CallbackFailed` for its failure, which ends the job or not as the caller decides. Whatever else keeps
        the value from coming (a cancel, the end of the budget's time, too many open calls) stops the job.
        """
        with self._lock:
            # Asked under the lock, so that no call leaves a job that is over.
            self.check()
            self.ledger.host_calls += 1
            pending = self._observer.call(name, arguments, timeout_ms)
        limit = self._budget.max_seconds
        try:
            return pending.result(None if limit is None else max(0.0, limit - self.elapsed_s))
        except CallbackFailed:
            raise
        except TimeoutError:
            self.stop(exceeded(f"{self.elapsed_s:.3f} seconds used, waiting for an Elixir function", limit or 0.0))
        except BridgeError as failure:
            self.stop(failure)

    # -- DSPy's events --------------------------------------------------------------------------------------------

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002 - as above
        """A module of DSPy's proposers means that an instruction is being written."""
        self.progress.module_begins(instance)

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """A trial of a search begins."""
        devset = inputs.get("devset") or instance.devset
        self.progress.evaluation_begins(call_id, inputs.get("program"), len(devset))

    def on_evaluate_end(self, call_id: str, outputs: Any | None, exception: BaseException | None = None) -> None:
        """A trial ended."""
        self.progress.evaluation_ends(call_id, outputs if exception is None else None)
