"""Ensembles: of which programs they are joined, and how their members agree."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from program_jobs import Jobs, Watcher, atoms, plain
from test_programs_optimizers import DATA, evaluated

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.core.jobs import parse_job
from erlbridge.core.spelling import Spelling
from erlbridge.errors import ValidationError
from erlbridge.programs.ensembles import Ensemble
from erlbridge.programs.run import run


def test_an_ensemble_of_named_programs_votes(jobs: Jobs, tickets: list[dict[str, str]]) -> None:
    stored: dict[str, bytes] = {}
    terms: list[Any] = []
    for seed in (1, 2):
        _, outcome = jobs.optimize("labeled_few_shot", **DATA, seed=seed)
        assert outcome.program is not None
        stored[str(outcome.program_id)] = outcome.program
        terms.append(outcome.result[Atom("program")])  # type: ignore[index]
    members = [*(name.encode() for name in stored), binary_to_term(term_to_binary(terms[0]))]
    term = atoms(
        {
            "signature": jobs.signature,
            "training_data": tickets[:6],
            "config": {"lm": Atom("offline"), "optimizer": "ensemble"},
        }
    )
    term[Atom("config")][Atom("options")] = {Atom("programs"): members}  # type: ignore[index]
    outcome = run(parse_job("optimize_signature", term), Watcher(), stored, Spelling.of(term))
    result = plain(outcome.result)
    assert len(result["program"]["members"]) == 3
    assert result["optimization_metrics"]["lm_calls"] == 6 + 3 * 6  # each member answers each example
    assert evaluated(tickets, outcome.result[Atom("program")]) >= 0.5  # type: ignore[index]


def test_a_majority_is_found_among_answers_of_any_type() -> None:
    def vote(field: str, *values: object) -> object:
        members = [lambda value=value, **_: dspy.Prediction({field: value}) for value in values]
        return Ensemble(members, "majority", field)().toDict()[field]

    assert vote("n", 1, 2, 2) == 2
    assert vote("items", ["a"], ["b"], ["b"]) == ["b"]
    assert vote("t", "Yes.", "no", "yes") == "Yes."
    assert vote("t", "", "", "x") == "x"
    assert vote("t", None, None) is None
    assert vote("n", 1, 2) == 1


def test_a_member_with_other_fields_is_refused(jobs: Jobs, tickets: list[dict[str, str]]) -> None:
    _, outcome = jobs.optimize("labeled_few_shot", **DATA)
    assert outcome.program is not None
    name = str(outcome.program_id)
    payload = {
        "signature": "subject -> category",
        "training_data": tickets[:2],
        "config": {"lm": Atom("offline"), "optimizer": "ensemble", "options": {"programs": [name, name]}},
    }
    with pytest.raises(ValidationError, match="expected the fields of the first member, subject, got") as caught:
        jobs.run("optimize_signature", payload, {name: outcome.program})
    assert caught.value.path == "payload.config.options.programs[0]"
