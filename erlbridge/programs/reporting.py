"""Gathers what a report says of an optimization while it runs, and makes the record of it.

Knows programs and answers; what a report looks like is `erlbridge.reports`'. It never costs an optimization its result.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import dspy  # type: ignore[import-untyped]

from erlbridge.core.configs import Config
from erlbridge.core.jobs import Outcome
from erlbridge.programs.evaluation import Answer
from erlbridge.programs.history import History
from erlbridge.programs.metrics import Scorer
from erlbridge.programs.modules import Blueprint
from erlbridge.programs.pipelines import PipelineRecipe
from erlbridge.programs.predictions import plain
from erlbridge.programs.work import Work
from erlbridge.reports.record import (
    MAX_DEMOS,
    MAX_FIELDS,
    MAX_PROMPT_TEXT,
    MAX_PROMPTS,
    MAX_ROW_TEXT,
    MAX_ROWS,
    MAX_TEXT,
    Demo,
    Fields,
    Prompt,
    Record,
    Row,
    cut,
    pack,
)
from erlbridge.reports.term import report_term
from erlbridge.wire.vocabulary import atom

_MOST_ANSWERS: Final = 1000
"""Examples of which the answers are kept until it is known where they changed; of the others the scores alone."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """One answer: its score, and what it was where that is kept."""

    score: float
    fields: Fields | None


class Reporting:
    """Watches one optimization for its report."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._history = work.guard.history = History()
        self._measured: list[list[_Seen]] = []

    def score(self, program: Any, examples: Sequence[Mapping[str, object]], scorer: Scorer, stage: str) -> list[float]:
        """The scores of a program, whose answers are remembered: once before the search, once behind it."""
        numbers = itertools.count()

        def note(answer: Answer) -> _Seen:
            return _Seen(answer.score, _answer(answer) if next(numbers) < _MOST_ANSWERS else None)

        self._measured.append(self._work.runner.noted(program, examples, scorer, stage, note))
        return [seen.score for seen in self._measured[-1]]

    def record(self, before: Any, after: Any, examples: Sequence[Mapping[str, object]]) -> Record:
        """The record, once both programs have been scored on these examples."""
        work, history = self._work, self._history
        baseline, final = self._measured
        ledger = work.guard.ledger
        changes = [two.score - one.score for one, two in zip(baseline, final, strict=True)]
        return Record(
            name=cut(_name(work.recipe), MAX_TEXT),
            module=cut(", ".join(dict.fromkeys(module.name for module in work.recipe.modules)), MAX_TEXT),
            optimizer=work.config.optimizer,
            metric=cut(_metric(work.config), MAX_TEXT),
            seed=work.config.seed,
            score_before=sum(seen.score for seen in baseline) / len(baseline),
            score_after=sum(seen.score for seen in final) / len(final),
            examples=len(changes),
            improved=sum(change > 0 for change in changes),
            same=sum(change == 0 for change in changes),
            worse=sum(change < 0 for change in changes),
            lm_calls=ledger.lm_calls,
            cached_calls=ledger.cached_calls,
            tokens=ledger.input_tokens + ledger.output_tokens,
            cost_usd=ledger.cost_usd,
            duration_ms=work.duration_ms,
            trial_count=history.trial_count,
            trials=tuple(history.trials.items),
            moments=tuple(history.course),
            rows=tuple(self._rows(examples, changes)),
            prompts=tuple(_prompts(before, after)),
        )

    def _rows(self, examples: Sequence[Mapping[str, object]], changes: Sequence[float]) -> Iterator[Row]:
        """The examples with the greatest change, those that became better first."""
        baseline, final = self._measured
        shown = [at for at in range(len(changes)) if baseline[at].fields is not None and final[at].fields is not None]
        greatest = sorted(shown, key=lambda at: (-abs(changes[at]), at))[:MAX_ROWS]
        asked = [field.name for field in self._work.recipe.inputs]
        wanted = [field.name for field in self._work.recipe.outputs]
        for at in sorted(greatest, key=lambda at: (-changes[at], at)):
            example, one, two = examples[at], baseline[at], final[at]
            yield Row(
                index=at,
                inputs=_fields({name: example[name] for name in asked if name in example}),
                expected=_fields({name: example[name] for name in wanted if name in example}),
                before=one.fields or (),
                after=two.fields or (),
                score_before=one.score,
                score_after=two.score,
            )


def reported(outcome: Outcome, make: Callable[[], Record]) -> Outcome:
    """An optimization's outcome with its report; without one, and with a warning, where that cannot be made: what was
    paid for is not lost for it."""
    assert isinstance(outcome.result, dict)  # noqa: S101 - an optimization's
    assert outcome.program_id is not None  # noqa: S101
    try:
        record = make()
        report, kept = report_term(record, outcome.program_id), pack(record)
    except Exception as error:  # noqa: BLE001 - see above
        warnings = [*outcome.result[atom("warnings")], f"no report was made: {type(error).__name__}: {error}"]
        return replace(outcome, result={**outcome.result, atom("warnings"): warnings})
    return replace(outcome, result={**outcome.result, atom("report"): report}, report=kept)


def _name(made: Blueprint) -> str:
    name = made.pipeline.name if isinstance(made, PipelineRecipe) else made.signature.name
    fields = ", ".join(field.name for field in made.inputs), ", ".join(field.name for field in made.outputs)
    return name or " -> ".join(fields)


def _metric(config: Config) -> str:
    function = config.metric.function
    return config.metric.name if function is None else f"the Elixir function {function.text}"


def _answer(answer: Answer) -> Fields:
    return (("error", cut(answer.error or "")),) if answer.prediction is None else _fields(answer.prediction)


def _fields(values: Mapping[str, object]) -> Fields:
    """Values as text, each cut, and all of them together."""
    left, found = MAX_ROW_TEXT, []
    for name, value in itertools.islice(values.items(), MAX_FIELDS):
        text = cut(_text(value), min(MAX_TEXT, left))
        left = max(0, left - len(text))
        found.append((name, text))
    return tuple(found)


def _text(value: object) -> str:
    known = plain(value)
    if isinstance(known, str):
        return known
    return json.dumps(known, ensure_ascii=False, default=lambda other: f"{len(other)} bytes")


def _demo(values: Mapping[str, object]) -> Demo:
    fields = _fields({name: value for name, value in values.items() if name != "augmented"})
    return Demo(fields, bool(values.get("augmented")))


def _prompts(before: Any, after: Any) -> Iterator[Prompt]:
    """What each predictor's model is told, as DSPy's own adapter writes it, and the demos it is shown."""
    adapter = dspy.settings.adapter or dspy.ChatAdapter()
    known = dict(before.named_predictors())
    left = 10 * MAX_PROMPT_TEXT
    for name, predictor in itertools.islice(after.named_predictors(), MAX_PROMPTS):
        # In an ensemble each member began as the one program that there was.
        old = known.get(name) or known.get(name.partition("].")[2]) or next(iter(known.values()))
        told, tells = (
            cut(adapter.format_system_message(one.signature), min(MAX_PROMPT_TEXT, left)) for one in (old, predictor)
        )
        shown = tuple(_demo(dict(demo)) for demo in predictor.demos[:MAX_DEMOS])
        left = max(0, left - len(told) - len(tells))
        yield Prompt(name, told, tells, shown, len(predictor.demos))
