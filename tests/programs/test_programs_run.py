"""Whole jobs with the offline LM: what each verb gives, what a stop leaves, what is told on the way."""

from __future__ import annotations

import sys
from itertools import pairwise

import pytest
from program_jobs import CATEGORIES, Jobs, Watcher, atoms, plain

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.core.configs import Budget
from erlbridge.core.jobs import parse_job
from erlbridge.core.spelling import Spelling
from erlbridge.errors import (
    BudgetExceeded,
    Cancelled,
    MissingPackage,
    NotFound,
    OptimizationError,
    ValidationError,
)
from erlbridge.programs.guard import Guard, Stop
from erlbridge.programs.run import run
from erlbridge.wire.messages import error_map
from erlbridge.wire.vocabulary import ATOMS, STAGES

OPTIMIZERS = ["labeled_few_shot", "bootstrap_few_shot", "bootstrap_few_shot_with_random_search", "mipro_v2"]
SMALL = {
    "bootstrap_few_shot_with_random_search": {"num_candidate_programs": 2},
    "mipro_v2": {"num_candidates": 4, "num_trials": 4},
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_optimizer_improves_the_shipped_task_on_its_validation_tickets(jobs: Jobs, optimizer: str) -> None:
    result, outcome = jobs.optimize(optimizer, options=SMALL.get(optimizer, {}))
    metrics = result["optimization_metrics"]
    assert metrics["score_before"] < 0.5
    assert metrics["score_after"] > 0.75
    assert result["status"] == "success"
    assert result["program_id"] == outcome.program_id
    shown = result["optimized_signature"]
    assert shown["name"] == "Triage"
    assert shown["demos"] or shown["instructions"] != "Sort the ticket into its category."
    assert all(set(demo) == {"subject", "body", "category"} for demo in shown["demos"])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_same_search_gives_the_same_program(jobs: Jobs, optimizer: str) -> None:
    small = {"train": 24, "dev": 8, "options": SMALL.get(optimizer, {}), "seed": 3}
    first, _ = jobs.optimize(optimizer, **small)
    second, _ = jobs.optimize(optimizer, **small, num_threads=3)
    assert first["optimization_metrics"]["repeatable"] is True
    assert first["program_id"] == second["program_id"]


def test_another_seed_gives_other_demos(jobs: Jobs) -> None:
    first, _ = jobs.optimize("labeled_few_shot", train=24, dev=4, seed=1)
    second, _ = jobs.optimize("labeled_few_shot", train=24, dev=4, seed=2)
    assert first["optimized_signature"]["demos"] != second["optimized_signature"]["demos"]


def test_a_chain_of_thought_answers_with_its_reasoning(jobs: Jobs) -> None:
    result, outcome = jobs.optimize("bootstrap_few_shot", train=24, dev=8, module="chain_of_thought")
    assert [field["name"] for field in result["optimized_signature"]["output_fields"]] == ["category"]
    row = jobs.tickets[70]
    payload = {
        "program": outcome.program_id,
        "input": {"subject": row["subject"], "body": row["body"]},
        "config": {"lm": Atom("offline")},
    }
    assert outcome.program_id is not None
    assert outcome.program is not None
    answer, _ = jobs.run("predict", payload, {outcome.program_id: outcome.program})
    assert list(answer["prediction"]) == ["reasoning", "category"]
    assert answer["prediction"]["category"] in CATEGORIES


def test_a_stored_program_scores_as_it_did_when_it_was_made(jobs: Jobs) -> None:
    result, outcome = jobs.optimize("bootstrap_few_shot")
    assert outcome.program is not None
    payload = {
        "program": outcome.program_id,
        "data": jobs.tickets[64:104],
        "metric": "exact_match",
        "config": {"lm": Atom("offline")},
    }
    scored, _ = jobs.run("evaluate_pipeline", payload, {str(outcome.program_id): outcome.program})
    assert scored["score"] == result["optimization_metrics"]["score_after"]


def test_a_given_program_is_the_stored_one(jobs: Jobs) -> None:
    result, outcome = jobs.optimize("labeled_few_shot", train=24, dev=8)
    given = outcome.result[Atom("program")]  # type: ignore[index]
    payload = {"data": jobs.tickets[64:72], "config": {"lm": Atom("offline")}}
    term = {**atoms(payload), Atom("program"): binary_to_term(term_to_binary(given))}  # type: ignore[dict-item]
    scored = plain(run(parse_job("evaluate_pipeline", term), Watcher(), {}, Spelling.of(term)).result)
    assert scored["score"] == result["optimization_metrics"]["score_after"]


def test_a_search_goes_on_from_a_stored_program(jobs: Jobs) -> None:
    first, outcome = jobs.optimize("labeled_few_shot", train=24, dev=8)
    payload = {
        "signature": outcome.program_id,
        "training_data": jobs.tickets[:24],
        "validation_data": jobs.tickets[64:72],
        "config": {"lm": Atom("offline"), "optimizer": "bootstrap_few_shot"},
    }
    assert outcome.program is not None
    second, _ = jobs.run("optimize_signature", payload, {str(outcome.program_id): outcome.program})
    assert second["optimization_metrics"]["score_before"] == first["optimization_metrics"]["score_after"]


def test_a_program_that_is_not_stored_is_not_found(jobs: Jobs) -> None:
    program = "program:" + "0" * 64
    payload = {"program": program, "input": {"q": "x"}, "config": {"lm": Atom("offline")}}
    with pytest.raises(NotFound, match=program):
        jobs.run("predict", payload)


def test_without_validation_data_the_training_data_is_scored(jobs: Jobs) -> None:
    payload = {
        "signature": jobs.signature,
        "training_data": jobs.tickets[:8],
        "config": {"lm": Atom("offline"), "optimizer": "mipro_v2", "options": SMALL["mipro_v2"]},
    }
    result, _ = jobs.run("optimize_signature", payload)
    assert result["optimization_metrics"]["score_after"] >= result["optimization_metrics"]["score_before"]


def test_an_evaluation_lists_every_example(jobs: Jobs) -> None:
    result = jobs.evaluate(jobs.signature, count=12, num_threads=3)
    assert (result["count"], result["failures"], len(result["results"])) == (12, 0, 12)
    assert [row["example"]["subject"] for row in result["results"]] == [row["subject"] for row in jobs.tickets[:12]]
    assert result["score"] == sum(row["score"] for row in result["results"]) / 12
    assert result["metrics"]["lm_calls"] == 12


def test_a_batch_keeps_its_order(jobs: Jobs) -> None:
    inputs = [{"subject": row["subject"], "body": row["body"]} for row in jobs.tickets[:20]]
    payload = {"signature": "subject, body -> summary", "inputs": inputs, "config": {"lm": Atom("offline")}}
    alone = jobs.run("predict", payload)[0]["predictions"]
    threaded = jobs.run("predict", {**payload, "config": {"lm": Atom("offline"), "num_threads": 5}})[0]["predictions"]
    assert alone == threaded
    assert len({row["prediction"]["summary"] for row in alone}) > 10


def test_every_type_of_field_comes_back_as_its_term(jobs: Jobs) -> None:
    types = ["string", "integer", "number", "boolean", "list[string]", "dict[string, integer]", "optional[integer]"]
    fields = [{"name": f"out{index}", "type": kind} for index, kind in enumerate([*types, "any", "list[any]"])]
    nested = {"name": "tags", "schema": {"type": "array", "items": {"enum": ["a", "b"]}}}
    payload = {
        "signature": {"input_fields": ["question"], "output_fields": [*fields, nested]},
        "input": {"question": "How many?"},
        "config": {"lm": Atom("offline")},
    }
    prediction = jobs.run("predict", payload)[0]["prediction"]
    assert list(prediction) == [*(f"out{index}" for index in range(9)), "tags"]
    assert (type(prediction["out1"]), type(prediction["out2"]), type(prediction["out3"])) == (int, float, bool)
    assert isinstance(prediction["out4"], list)
    assert isinstance(prediction["out5"], dict)


def test_names_come_back_as_the_host_wrote_them(jobs: Jobs) -> None:
    payload = {
        Atom("signature"): {b"input_fields": [b"subject", b"body"], b"output_fields": [Atom("category")]},
        Atom("data"): [{b"subject": b"a", b"body": b"b", Atom("category"): b"c"}],
        Atom("config"): {Atom("lm"): Atom("offline")},
    }
    result = run(parse_job("evaluate_pipeline", payload), Watcher(), {}, Spelling.of(payload)).result
    row = result[Atom("results")][0]  # type: ignore[index]
    assert set(row[Atom("example")]) == {b"subject", b"body", Atom("category")}
    assert set(row[Atom("prediction")]) == {Atom("category")}


@pytest.mark.parametrize("optimizer", ["bootstrap_few_shot", "mipro_v2"])
def test_a_result_holds_no_atom_that_is_neither_published_nor_the_hosts(jobs: Jobs, optimizer: str) -> None:
    _, outcome = jobs.optimize(optimizer, train=16, dev=4, options=SMALL.get(optimizer, {}))
    allowed = ATOMS | {"subject", "body", "category"}
    assert set(Spelling.of(outcome.result).atoms) <= allowed
    assert set(Spelling.of(binary_to_term(outcome.program or b"")).atoms) <= ATOMS
    assert binary_to_term(term_to_binary(outcome.result)) is not None


# -- metrics that raise, data that does not fit -----------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 4])
def test_a_metric_that_raises_ends_an_evaluation_with_its_traceback(jobs: Jobs, threads: int) -> None:
    with pytest.raises(OptimizationError, match="needs a number in the example, got '") as caught:
        jobs.evaluate(jobs.signature, metric={"name": "numeric", "field": "category"}, num_threads=threads)
    assert "in numeric" in str(caught.value.traceback)


def test_a_metric_that_raises_ends_an_optimization(jobs: Jobs) -> None:
    # Only a ticket of the trainset has no number, so it is DSPy that calls the metric when it raises.
    jobs.tickets = [{"subject": "a", "body": "b", "count": value} for value in ["none"] + ["1"] * 70]
    payload = {
        "signature": "subject, body -> count",
        "training_data": jobs.tickets[:4],
        "validation_data": jobs.tickets[4:8],
        "config": {"lm": Atom("offline"), "optimizer": "bootstrap_few_shot", "metric": "numeric"},
    }
    with pytest.raises(OptimizationError, match="needs a number in the example, got 'none'"):
        jobs.run("optimize_signature", payload)


def test_a_metric_on_a_field_that_a_stored_program_lacks_is_refused(jobs: Jobs) -> None:
    _, outcome = jobs.optimize("labeled_few_shot", train=8, dev=2)
    payload = {
        "program": outcome.program_id,
        "data": jobs.tickets[:2],
        "metric": {"name": "f1", "field": "subject"},
        "config": {"lm": Atom("offline")},
    }
    assert outcome.program is not None
    with pytest.raises(ValidationError, match="expected one of the output fields category, got subject"):
        jobs.run("evaluate_pipeline", payload, {str(outcome.program_id): outcome.program})


def test_an_example_without_a_field_is_refused_with_its_place(jobs: Jobs) -> None:
    jobs.tickets = [*jobs.tickets[:2], {"subject": "x", "body": "y"}]
    with pytest.raises(ValidationError, match="expected the field `category`") as caught:
        jobs.evaluate(jobs.signature, count=3)
    assert caught.value.path == "payload.data[2]"


def test_a_value_that_is_not_in_the_enum_is_refused_with_its_place(jobs: Jobs) -> None:
    jobs.tickets = [{"subject": "x", "body": "y", "category": "spam"}]
    with pytest.raises(ValidationError, match="one of account, billing") as caught:
        jobs.evaluate(jobs.signature)
    assert caught.value.path == "payload.data[0].category"


def test_a_field_that_chain_of_thought_writes_itself_is_refused(jobs: Jobs) -> None:
    payload = {
        "signature": "question -> reasoning, answer",
        "input": {"question": "Why?"},
        "config": {"lm": Atom("offline"), "module": "chain_of_thought"},
    }
    with pytest.raises(ValidationError, match="`reasoning` is written by chain_of_thought itself"):
        jobs.run("predict", payload)


def test_a_missing_package_is_named_with_how_to_get_it(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingPackage, match=r"pip install 'erlbridge\[optimizers\]'"):
        jobs.optimize("mipro_v2", train=4, dev=2)


# -- stopping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("threads", [1, 4])
def test_a_cancel_stops_every_optimizer_at_its_next_call(jobs: Jobs, optimizer: str, threads: int) -> None:
    jobs.watcher.reason = Cancelled("cancelled as asked")
    jobs.watcher.stop_when = lambda state: state.lm_calls >= 50
    with pytest.raises(Cancelled) as caught:
        jobs.optimize(optimizer, num_threads=threads)
    assert 50 <= caught.value.context["lm_calls"] <= 50 + threads
    assert caught.value.context["best_program"] is not None
    error_map(caught.value)  # every name in it is published


def test_a_cancel_before_the_first_call_costs_nothing(jobs: Jobs) -> None:
    jobs.watcher.reason = Cancelled("cancelled as asked")
    jobs.watcher.stopping = True
    with pytest.raises(Cancelled) as caught:
        jobs.optimize("bootstrap_few_shot")
    assert caught.value.context["lm_calls"] == 0
    assert "best_program" not in caught.value.context


@pytest.mark.parametrize("optimizer", OPTIMIZERS[1:])
def test_a_call_limit_is_exact_in_every_optimizer(jobs: Jobs, optimizer: str) -> None:
    with pytest.raises(BudgetExceeded, match="43 model calls made, limit 43") as caught:
        jobs.optimize(optimizer, num_threads=4, budget={"max_lm_calls": 43})
    assert caught.value.context["lm_calls"] == 43
    assert caught.value.context["best_score"] is not None


def test_the_best_program_of_a_stopped_search_works(jobs: Jobs) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        jobs.optimize("bootstrap_few_shot_with_random_search", budget={"max_lm_calls": 200})
    given, score = caught.value.context["best_program"], caught.value.context["best_score"]
    assert isinstance(score, float)
    assert score > 0.5
    payload = {"data": jobs.tickets[64:104], "config": {"lm": Atom("offline")}}
    term = {**atoms(payload), Atom("program"): binary_to_term(term_to_binary(given))}  # type: ignore[dict-item]
    scored = plain(run(parse_job("evaluate_pipeline", term), Watcher(), {}, Spelling.of(term)).result)
    assert scored["score"] == score


def test_a_program_that_was_compiled_but_not_yet_scored_is_kept(jobs: Jobs) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        jobs.optimize("labeled_few_shot", budget={"max_lm_calls": 60})
    assert caught.value.context["best_score"] is None
    program = plain(caught.value.context["best_program"])
    assert len(program["state"]["answer"]["demos"]) == 16


def test_a_time_limit_stops_the_job(jobs: Jobs) -> None:
    lm = {"model": "offline", "latency_ms": 20}
    with pytest.raises(BudgetExceeded, match=r"seconds used, limit 0\.1"):
        jobs.optimize("bootstrap_few_shot", lm=lm, num_threads=1, budget={"max_seconds": 0.1})


# -- progress ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_progress_has_known_stages_and_never_falls_back(jobs: Jobs, optimizer: str) -> None:
    jobs.optimize(optimizer, train=24, dev=8, options=SMALL.get(optimizer, {}), num_threads=2)
    seen = jobs.watcher.seen
    stages = jobs.watcher.stages()
    assert stages[0] == "baseline"
    assert stages[-2:] == ["evaluating", "finishing"]
    assert len(stages) == len(set(stages))
    assert set(stages) <= set(STAGES)
    best = [state.best_score for state in seen if state.best_score is not None]
    assert best == sorted(best)
    calls = [state.lm_calls for state in seen]
    assert calls == sorted(calls)
    for before, after in pairwise(seen):
        assert after.stage != before.stage or after.done >= before.done
    assert all(state.done <= state.total for state in seen if state.total is not None)


def test_a_baseline_counts_its_examples_and_a_search_its_trials(jobs: Jobs) -> None:
    jobs.optimize("mipro_v2", train=16, dev=6, options={"num_candidates": 4, "num_trials": 5})
    last = {state.stage: state for state in jobs.watcher.seen}
    assert (last["baseline"].done, last["baseline"].total) == (6, 6)
    assert (last["searching"].done, last["searching"].total) == (6, 6)
    assert last["proposing"].done >= 1
    assert last["evaluating"].score == last["finishing"].best_score


def test_minibatch_scores_do_not_count_as_best(jobs: Jobs) -> None:
    options = {"num_candidates": 3, "num_trials": 4, "minibatch": True, "minibatch_size": 3}
    result, _ = jobs.optimize("mipro_v2", train=16, dev=20, options=options)
    last = {state.stage: state for state in jobs.watcher.seen}
    assert last["searching"].done == last["searching"].total == result["optimization_metrics"]["trials"]
    assert result["optimization_metrics"]["score_after"] <= (last["finishing"].best_score or 0)


@pytest.mark.parametrize(
    ("dev", "options", "more"),
    [
        (4, {"auto": "light"}, {}),
        (4, {"auto": "light"}, {"max_demos": 0}),
        (40, {"num_candidates": 2, "num_trials": 1, "minibatch": True}, {}),
        (6, {"num_candidates": 3, "num_trials": 3, "minibatch_full_eval_steps": 1, "minibatch": True}, {}),
        (4, {"num_candidates": 1}, {}),
    ],
)
def test_the_trials_of_mipro_are_as_many_as_were_foretold(
    jobs: Jobs, dev: int, options: dict[str, object], more: dict[str, object]
) -> None:
    result, _ = jobs.optimize("mipro_v2", train=12, dev=dev, options=options, **more)
    last = {state.stage: state for state in jobs.watcher.seen}["searching"]
    assert last.done == last.total == result["optimization_metrics"]["trials"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_one_example_is_enough_for_every_optimizer(jobs: Jobs, optimizer: str) -> None:
    result, _ = jobs.optimize(optimizer, train=1, dev=1, options=SMALL.get(optimizer, {}))
    assert result["status"] == "success"


def test_nothing_is_told_once_a_job_is_over(jobs: Jobs) -> None:
    with pytest.raises(BudgetExceeded):
        jobs.evaluate(
            jobs.signature,
            count=64,
            lm={"model": "offline", "latency_ms": 5},
            num_threads=8,
            budget={"max_lm_calls": 9},
        )
    told = len(jobs.watcher.seen)
    jobs_again = Jobs(jobs.tickets)
    jobs_again.evaluate(jobs.signature, count=20)
    assert len(jobs.watcher.seen) == told


def test_a_call_that_was_counted_goes_out_although_the_job_was_stopped_in_between() -> None:
    guard = Guard(Watcher(), Budget())
    guard.admit()
    with pytest.raises(Stop):
        guard.stop(Cancelled("cancelled as asked"))
    guard.on_lm_start("1", None, {})
    with pytest.raises(Stop):
        guard.on_lm_end("1", None)
    with pytest.raises(Stop):
        guard.on_lm_start("2", None, {})
    assert guard.ledger.lm_calls == 1
