"""Reports on real optimizations: what they tell is what happened, and asking for one changes nothing else."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import dspy  # type: ignore[import-untyped]
import pytest
from program_jobs import CATEGORIES, Endpoint, Jobs, completion
from report_records import record

from erlbridge.codec import Atom
from erlbridge.limits import MAX_REPORT_BYTES
from erlbridge.programs import reporting
from erlbridge.programs.history import History, Thinned
from erlbridge.programs.ledger import Ledger
from erlbridge.reports.page import page
from erlbridge.reports.record import MAX_DEMOS, MAX_MOMENTS, MAX_ROW_TEXT, MAX_TRIALS, Prompt, Record, pack, unpack

SEARCH = "bootstrap_few_shot_with_random_search"


@pytest.fixture(scope="module")
def searched(tickets: list[dict[str, str]]) -> tuple[Any, Record]:
    """A search with a report: its result, and the record that is kept of it."""
    result, outcome = Jobs(tickets).optimize(
        SEARCH, train=16, dev=12, options={"num_candidate_programs": 2}, report=True
    )
    assert outcome.report is not None
    return result, unpack(outcome.report)


def test_a_report_tells_what_the_result_says(searched: tuple[Any, Record]) -> None:
    result, record = searched
    metrics = result["optimization_metrics"]
    assert (record.score_before, record.score_after) == (metrics["score_before"], metrics["score_after"])
    assert (record.trial_count, len(record.trials)) == (metrics["trials"], metrics["trials"])
    assert (record.lm_calls, record.cost_usd) == (metrics["lm_calls"], metrics["cost_usd"])
    assert record.tokens == metrics["input_tokens"] + metrics["output_tokens"]
    assert (record.name, record.optimizer, record.module) == ("Triage", SEARCH, "predict")
    assert record.moments[-1].lm_calls == metrics["lm_calls"]
    assert [moment.at_s for moment in record.moments] == sorted(moment.at_s for moment in record.moments)
    stages = list(dict.fromkeys(moment.stage for moment in record.moments))
    assert (stages[0], stages[-1]) == ("baseline", "finishing")


def test_its_rows_are_examples_with_their_answers_before_and_after(
    searched: tuple[Any, Record], tickets: list[dict[str, str]]
) -> None:
    _, record = searched
    held_out = tickets[64:76]
    assert record.examples == len(record.rows) == record.improved + record.same + record.worse == 12
    for row in record.rows:
        ticket = held_out[row.index]
        assert dict(row.inputs) == {"subject": ticket["subject"], "body": ticket["body"]}
        assert dict(row.expected) == {"category": ticket["category"]}
        assert row.score_before == float(row.before == row.expected)
        assert row.score_after == float(row.after == row.expected)
    changes = [row.change for row in record.rows]
    assert changes == sorted(changes, reverse=True)
    assert sum(changes) == pytest.approx(12 * record.change)


def test_its_prompts_are_what_the_model_is_told_and_its_demos_those_of_the_program(
    searched: tuple[Any, Record],
) -> None:
    result, record = searched
    (prompt,) = record.prompts
    assert "Sort the ticket into its category." in prompt.after
    assert "[[ ## category ## ]]" in prompt.after
    assert [dict(demo.fields) for demo in prompt.demos] == result["optimized_signature"]["demos"][:24]
    assert prompt.demo_count == len(result["optimized_signature"]["demos"])


def test_a_report_in_a_result_is_a_page_and_vega_lite(searched: tuple[Any, Record]) -> None:
    result, _ = searched
    report = result["report"]
    assert report["html"].startswith("<!doctype html>")
    assert result["program_id"] in report["html"]
    assert set(report["charts"]) == {"score", "examples", "calls", "tokens"}
    assert all(chart["$schema"].endswith("/v5.json") for chart in report["charts"].values())


def test_asking_for_a_report_changes_nothing_but_its_being_there(
    searched: tuple[Any, Record], tickets: list[dict[str, str]]
) -> None:
    reported, _ = searched
    plain, outcome = Jobs(tickets).optimize(SEARCH, train=16, dev=12, options={"num_candidate_programs": 2})
    assert outcome.report is None
    assert set(reported) - set(plain) == {"report"}
    assert reported["optimized_signature"] == plain["optimized_signature"]
    assert reported["program_id"] == plain["program_id"]


@pytest.mark.parametrize(
    ("optimizer", "config", "predictors"),
    [
        ("ensemble", {"options": {"num_candidate_programs": 2}}, 3),
        ("labeled_few_shot", {"module": "best_of_n"}, 1),
        ("knn_few_shot", {}, 1),
    ],
)
def test_programs_of_every_build_have_a_report(
    tickets: list[dict[str, str]], optimizer: str, config: dict[str, object], predictors: int
) -> None:
    result, outcome = Jobs(tickets).optimize(optimizer, train=8, dev=4, report=True, **config)
    assert result["warnings"] == []
    assert outcome.report is not None
    assert len(unpack(outcome.report).prompts) == predictors


def test_a_report_that_cannot_be_made_costs_a_warning_and_no_program(tickets: list[dict[str, str]]) -> None:
    result, outcome = Jobs(tickets).optimize("labeled_few_shot", train=8, dev=4)

    def fails() -> Record:
        raise RecursionError("too deep")

    bare = dataclasses.replace(outcome, result=dict(outcome.result))  # type: ignore[call-overload]
    told = reporting.reported(bare, fails)
    assert isinstance(told.result, dict)
    warnings = next(value for key, value in told.result.items() if str(key) == "warnings")
    assert warnings == ["no report was made: RecursionError: too deep"]
    assert (told.program_id, told.report) == (result["program_id"], None)


def test_the_values_of_a_row_share_its_room(tickets: list[dict[str, str]]) -> None:
    asked, wanted = ([f"{kind}_{number}" for number in range(5)] for kind in ("asked", "wanted"))
    long = [{**dict.fromkeys(asked + wanted, "語" * 3000), "category": ticket["category"]} for ticket in tickets[:2]]
    payload = {
        "signature": {
            "input_fields": asked,
            "output_fields": [{"name": "category", "enum": list(CATEGORIES)}, *wanted],
        },
        "training_data": long,
        "config": {"lm": Atom("offline"), "optimizer": "labeled_few_shot", "report": True},
    }
    _, outcome = Jobs(tickets).run("optimize_signature", payload)
    assert outcome.report is not None
    for row in unpack(outcome.report).rows:
        values = [value for fields in (row.inputs, row.expected, row.before, row.after) for _, value in fields]
        assert sum(map(len, values)) < MAX_ROW_TEXT + len(values) * len("… (3000 more characters)")
        assert row.before[0][1] in CATEGORIES
        assert row.after[0][1] in CATEGORIES
        (shown,) = {value for _, value in row.inputs}
        cut = re.fullmatch(r"(語+)… \((\d+) more characters\)", shown)
        assert cut is not None
        assert len(cut[1]) + int(cut[2]) == 3000


def test_the_demos_of_many_predictors_fit_into_what_is_stored() -> None:
    signature = dspy.Signature({"text": (str, dspy.InputField()), "answer": (str, dspy.OutputField())}, "Answer.")

    def program() -> Any:
        made = dspy.Module()
        made.steps = [dspy.Predict(signature) for _ in range(64)]
        return made

    full = program()
    for predictor in full.predictors():
        predictor.demos = [{f"part_{number}": "語" * 3000 for number in range(4)}] * 30
    prompts = tuple(reporting._prompts(program(), full))
    assert [prompt.demo_count for prompt in prompts] == [30] * 64
    assert len(prompts[0].demos) == MAX_DEMOS
    kept = record(prompts=prompts)
    assert len(pack(kept)) < MAX_REPORT_BYTES / 4
    assert len(page(kept)) < 2_000_000


def test_a_report_of_as_many_values_as_there_can_be_can_be_stored_and_read(tickets: list[dict[str, str]]) -> None:
    asked, wanted = ([f"{kind}_{number}" for number in range(40)] for kind in ("asked", "wanted"))
    payload = {
        "signature": {"input_fields": asked, "output_fields": wanted},
        "training_data": [dict.fromkeys(asked + wanted, "x") for _ in range(36)],
        "config": {"lm": Atom("offline"), "optimizer": "labeled_few_shot", "report": True},
    }
    _, outcome = Jobs(tickets).run("optimize_signature", payload)
    assert outcome.report is not None
    made = unpack(outcome.report)
    assert len(made.rows) == 5000 // 160
    demo = [{f"part_{number}": "x" for number in range(64)}] * MAX_DEMOS
    prompts: list[Prompt] = []
    room = reporting._DEMO_ROOM
    while room > 0:
        shown = tuple(reporting._demos(demo, room))
        room -= sum(reporting._length(one.fields) for one in shown)
        prompts.append(Prompt("p", "", "", shown, MAX_DEMOS))
    assert unpack(pack(dataclasses.replace(made, prompts=tuple(prompts)))).prompts == tuple(prompts)


def test_a_value_that_json_cannot_write_costs_no_optimization(tickets: list[dict[str, str]]) -> None:
    endpoint = Endpoint()
    try:
        endpoint.always(completion(f"[[ ## anything ## ]]\n0x{'f' * 5000}\n\n[[ ## completed ## ]]"))
        payload = {
            "signature": {"input_fields": ["subject"], "output_fields": [{"name": "anything", "type": "any"}]},
            "training_data": [{"subject": ticket["subject"], "anything": "x"} for ticket in tickets[:2]],
            "config": {"lm": endpoint.lm(), "optimizer": "labeled_few_shot", "report": True},
        }
        result, outcome = Jobs(tickets).run("optimize_signature", payload)
    finally:
        endpoint.close()
    assert result["warnings"] == []
    assert outcome.report is not None
    assert reporting._text(10**5000).startswith("(Exceeds the limit")


def test_a_thinned_list_keeps_its_bound_and_all_that_matters() -> None:
    for count in (3, 10, 1000):
        thinned: Thinned[int] = Thinned(10, lambda item: item % 400 == 7)
        for number in range(count):
            thinned.add(number)
        assert len(thinned.items) <= 10
        assert {number for number in range(count) if number % 400 == 7} <= set(thinned.items)
    all_matter: Thinned[int] = Thinned(10, lambda item: True)
    for number in range(100):
        all_matter.add(number)
    assert all_matter.items == list(range(90, 100))


def test_a_history_of_a_long_search_is_bounded_and_has_each_new_best() -> None:
    history = History()
    for number in range(20_000):
        history.tried(number // 5000 / 10, whole=True, at_s=number, lm_calls=number)
        history.passed(number, "searching" if number else "baseline", Ledger(lm_calls=number))
    trials = history.trials.items
    assert history.trial_count == 20_000
    assert len(trials) <= MAX_TRIALS
    assert {1, 5001, 10_001, 15_001} <= {trial.number for trial in trials}
    course = history.course
    assert len(course) <= MAX_MOMENTS + 1
    assert (course[0].stage, course[1].stage, course[-1].lm_calls) == ("baseline", "searching", 19_999)
