"""What became of a workflow's steps, and what they spent. Decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from erlbridge.codec import Atom
from erlbridge.core.configs import Budget
from erlbridge.core.jobs import Chunk, Observer, Pending, Progress
from erlbridge.core.workflow import Step
from erlbridge.core.workflow_edit import Edit
from erlbridge.errors import BridgeError
from erlbridge.wire.vocabulary import atom

_COUNTED: Final = ("lm_calls", "failed_calls", "given_up_calls", "input_tokens", "output_tokens", "host_calls")


@dataclass(slots=True)
class Spent:
    """What several guards have counted, added up; the cost is None as soon as one of them does not know it."""

    counts: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(_COUNTED, 0) | {"cost_usd": 0.0})

    def add(self, spent: Mapping[str, Any]) -> None:
        """Adds what was counted elsewhere, whatever else was counted there."""
        for name, value in spent.items():
            if name == "cost_usd":
                before = self.counts[name]
                self.counts[name] = None if value is None or before is None else before + value
            elif isinstance(value, int):
                self.counts[name] = self.counts.get(name, 0) + value

    def term(self, seconds: float) -> dict[str, object]:
        """What was spent in so many seconds, by published names."""
        calls = self.counts["lm_calls"]
        share = self.counts["failed_calls"] / calls if calls else 0.0
        return {**self.counts, "failed_share": share, "duration_ms": round(seconds * 1000)}

    def left(self, budget: Budget, seconds: float) -> dict[str, object]:
        """What is left of a budget after so many seconds, as a config's `budget`."""
        tokens = self.counts["input_tokens"] + self.counts["output_tokens"]
        used = {
            "max_lm_calls": self.counts["lm_calls"],
            "max_tokens": tokens,
            "max_cost_usd": self.counts["cost_usd"] or 0.0,
            "max_seconds": seconds,
        }
        limits = {name: getattr(budget, name) for name in used}
        return {name: max(0, limit - used[name]) for name, limit in limits.items() if limit is not None}


@dataclass(slots=True)
class Result:
    """What became of one step."""

    step: Step
    value: object = None
    applied: bool = False
    """Whether an optimized program answered."""
    cached: bool = False
    """Whether that program was there already."""
    fallback: bool = False
    error: str | None = None
    program_id: str | None = None
    model: object = None
    """The model that an optimizer trained, which the host may name from now on."""
    scores: tuple[object, object] = (None, None)
    edit: Edit | None = None
    spent: Spent = field(default_factory=Spent)
    seconds: float = 0.0

    def known(self, program_id: str) -> None:
        """An optimized program answers that was there already."""
        self.program_id, self.applied, self.cached = program_id, True, True

    def found(self, answer: Mapping[object, Any]) -> None:
        """An optimized program answers that was found now; `answer` is that of `optimize_signature`."""
        metrics = answer[atom("optimization_metrics")]
        self.program_id, self.applied = answer[atom("program_id")], True
        self.model = answer.get(atom("model"))
        self.scores = metrics[atom("score_before")], metrics[atom("score_after")]

    def fell_back(self, error: str, value: object) -> None:
        """The host executed the step, because DSPy failed with this error."""
        self.applied, self.cached, self.fallback, self.error, self.value = False, False, True, error, value

    def term(self) -> dict[str, object]:
        """The result as the host gets it, with binaries as keys, as pipeline_ex writes the results of its steps."""
        return {
            "name": self.step.name,
            "type": self.step.type,
            "kind": self.step.kind,
            "success": True,
            "dspy_optimization_applied": self.applied,
            "cached": self.cached,
            "fallback_used": self.fallback,
            "error": self.error,
            "program_id": self.program_id,
            "model": self.model,
            "score_before": self.scores[0],
            "score_after": self.scores[1],
            "output": self.value,
            "metrics": self.spent.term(self.seconds),
        }


@dataclass(slots=True)
class StepObserver:
    """Tells the host how far a step is as how far the workflow is: its number and name, and all that was spent."""

    observer: Observer
    message: str
    spent: Spent

    def progress(self, state: Progress) -> None:
        cost, before = state.cost_usd, self.spent.counts["cost_usd"]
        self.observer.progress(
            replace(
                state,
                message=self.message if state.message is None else f"{self.message}; {state.message}",
                lm_calls=state.lm_calls + self.spent.counts["lm_calls"],
                cost_usd=None if cost is None or before is None else cost + before,
            )
        )

    def chunk(self, piece: Chunk) -> None:
        self.observer.chunk(piece)

    def keep(self, program_id: str, program: bytes) -> None:
        self.observer.keep(program_id, program)

    def stop_reason(self) -> BridgeError | None:
        return self.observer.stop_reason()

    def call(self, name: Atom | bytes, arguments: list[object], timeout_ms: int | None) -> Pending:
        return self.observer.call(name, arguments, timeout_ms)
