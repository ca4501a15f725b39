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
    MAX_RECORD_FIELDS,
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
_DEMO_ROOM: Final = 50 * MAX_ROW_TEXT
_LEAST_LENGTH: Final = 100
"""What a field takes of that at least, so that it suffices for less than half of what a record may hold."""


@dataclass(frozen=True, slots=True)
class _Value:
    """A value as text: its beginning, and how long it is."""

    name: str
    text: str
    length: int


@dataclass(frozen=True, slots=True)
class _Seen:
    """One answer: its score, and what it was where that is kept."""

    score: float
    values: tuple[_Value, ...] | None


class Reporting:
    """Watches one optimization for its report."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._history = work.guard.progress.history = History()
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
        asked = [field.name for field in self._work.recipe.inputs]
        wanted = [field.name for field in self._work.recipe.outputs]
        greatest = self._greatest(changes, len(asked) + len(wanted))
        for at in sorted(greatest, key=lambda at: (-changes[at], at)):
            example, one, two = examples[at], baseline[at], final[at]
            inputs, expected, was, became = _told(
                _values({name: example[name] for name in asked if name in example}),
                _values({name: example[name] for name in wanted if name in example}),
                one.values or (),
                two.values or (),
            )
            yield Row(
                index=at,
                inputs=inputs,
                expected=expected,
                before=was,
                after=became,
                score_before=one.score,
                score_after=two.score,
            )

    def _greatest(self, changes: Sequence[float], given: int) -> list[int]:
        """The examples whose score changed most, as many as a record has room for. Each has so many values `given`, and
        those of its two answers."""
        baseline, final = self._measured
        found: list[int] = []
        room = MAX_RECORD_FIELDS // 2
        for at in sorted(range(len(changes)), key=lambda at: (-abs(changes[at]), at)):
            before, after = baseline[at].values, final[at].values
            if before is None or after is None:
                continue
            room -= given + len(before) + len(after)
            if room < 0 or len(found) == MAX_ROWS:
                break
            found.append(at)
        return found


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


def _answer(answer: Answer) -> tuple[_Value, ...]:
    return _values({"error": answer.error or ""} if answer.prediction is None else answer.prediction)


def _values(values: Mapping[str, object]) -> tuple[_Value, ...]:
    """Values that may be told together; of each no more is kept than there can be room for."""
    texts = [(name, _text(value)) for name, value in itertools.islice(values.items(), MAX_FIELDS)]
    limit = _limit([len(text) for _, text in texts], MAX_ROW_TEXT)
    return tuple(_Value(name, text[:limit], len(text)) for name, text in texts)


def _told(*groups: Sequence[_Value], room: int = MAX_ROW_TEXT) -> list[Fields]:
    """Groups of values, each cut so that there is room for all."""
    limit = _limit([value.length for group in groups for value in group], room)
    return [tuple((value.name, cut(value.text, limit, value.length)) for value in group) for group in groups]


def _limit(lengths: Sequence[int], room: int) -> int:
    """How long a text of several may be at most: the long ones are cut to the same length, the short ones not at all.

    >>> _limit([10, 100, 100], 110)
    50
    """
    for number, length in enumerate(sorted(min(MAX_TEXT, length) for length in lengths)):
        share = room // (len(lengths) - number)
        if length > share:
            return share
        room -= length
    return MAX_TEXT


def _text(value: object) -> str:
    known = plain(value)
    if isinstance(known, str):
        return known
    try:
        return json.dumps(known, ensure_ascii=False, default=lambda other: f"{len(other)} bytes")
    except (ValueError, RecursionError) as error:  # an integer of more than 4300 digits, say
        return f"({error})"


def _demos(demos: Sequence[Any], room: int) -> Iterator[Demo]:
    """The first ones, as far as there is room for so many characters."""
    for demo in itertools.islice(demos, MAX_DEMOS):
        values = dict(demo)
        augmented = bool(values.pop("augmented", False))
        (fields,) = _told(_values(values), room=min(MAX_ROW_TEXT, room))
        yield Demo(fields, augmented)
        room -= _length(fields)
        if room <= 0:
            return


def _length(fields: Fields) -> int:
    """How much of the room of all demos fields take: their characters, and what each may have where all are short."""
    return sum(max(len(name) + len(value), _LEAST_LENGTH) for name, value in fields)


def _prompts(before: Any, after: Any) -> Iterator[Prompt]:
    """What each predictor's model is told, as DSPy's own adapter writes it, and the demos it is shown."""
    adapter = dspy.settings.adapter or dspy.ChatAdapter()
    known = dict(before.named_predictors())
    left = 10 * MAX_PROMPT_TEXT
    room = _DEMO_ROOM
    for name, predictor in itertools.islice(after.named_predictors(), MAX_PROMPTS):
        # In an ensemble each member began as the one program that there was.
        old = known.get(name) or known.get(name.partition("].")[2]) or next(iter(known.values()))
        told, tells = (
            cut(adapter.format_system_message(one.signature), min(MAX_PROMPT_TEXT, left)) for one in (old, predictor)
        )
        left = max(0, left - len(told) - len(tells))
        shown = tuple(_demos(predictor.demos, room)) if room > 0 else ()
        room -= sum(_length(demo.fields) for demo in shown)
        yield Prompt(name, told, tells, shown, len(predictor.demos))
