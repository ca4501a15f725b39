"""What a job has spent, and whether that is all it may. Knows counts; knows no thread, the guard keeps its lock."""

from __future__ import annotations

from dataclasses import dataclass

from erlbridge.core.configs import Budget
from erlbridge.errors import BudgetExceeded


@dataclass(slots=True)
class Ledger:
    """A job's counts so far.

    Attributes:
        lm_calls: Attempts that went out to a model.
        failed_calls: Those of them that failed.
        given_up_calls: Calls that failed for good, after all of their attempts.
        cached_calls: Calls that the cache answered; they cost nothing.
        host_calls: Calls of Elixir functions.
        known_cost_usd: DSPy's estimate for the calls whose price is known.
        unpriced_calls: Calls whose price is not.
    """

    lm_calls: int = 0
    failed_calls: int = 0
    given_up_calls: int = 0
    cached_calls: int = 0
    host_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    known_cost_usd: float = 0.0
    unpriced_calls: int = 0

    @property
    def cost_usd(self) -> float | None:
        """The estimated cost in US dollars, None as soon as one call had no known price."""
        return None if self.unpriced_calls else self.known_cost_usd

    def spent(self) -> dict[str, object]:
        """What was spent, by published names."""
        return {
            "lm_calls": self.lm_calls,
            "failed_calls": self.failed_calls,
            "given_up_calls": self.given_up_calls,
            "failed_share": self.failed_calls / self.lm_calls if self.lm_calls else 0.0,
            "cached_calls": self.cached_calls,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost_usd": self.cost_usd,
            "host_calls": self.host_calls,
        }

    def used_up(self, budget: Budget, elapsed_s: float) -> BudgetExceeded | None:
        """The limit that no further call may start beyond, None when all are kept."""
        tokens, cost = self.input_tokens + self.output_tokens, self.known_cost_usd
        if budget.max_lm_calls is not None and self.lm_calls >= budget.max_lm_calls:
            return exceeded(f"{self.lm_calls} model calls made", budget.max_lm_calls)
        if budget.max_seconds is not None and elapsed_s >= budget.max_seconds:
            return exceeded(f"{elapsed_s:.3f} seconds used", budget.max_seconds)
        if budget.max_tokens is not None and tokens >= budget.max_tokens:
            return exceeded(f"{tokens} tokens used", budget.max_tokens)
        if budget.max_cost_usd is not None and (cost > budget.max_cost_usd or cost == budget.max_cost_usd > 0):
            return exceeded(f"{cost:.6f} USD spent", budget.max_cost_usd)  # a limit of 0 lets free models work
        return None


def exceeded(used: str, limit: float) -> BudgetExceeded:
    """The error of a limit that is reached."""
    return BudgetExceeded(f"{used}, limit {limit}", context={"limit": limit})
