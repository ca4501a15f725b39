"""Each optimizer with the offline LM: what it gives, what it says on the way, where it stops, which traps it avoids."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from offline_endpoint import OfflineEndpoint
from program_jobs import Jobs, Reply, Watcher, atoms, category, completion, failure, plain

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.core.datasets import Dataset
from erlbridge.core.ensembles import MAX_MEMBERS
from erlbridge.core.jobs import Outcome, parse_job
from erlbridge.core.spelling import Spelling
from erlbridge.errors import (
    BudgetExceeded,
    Cancelled,
    LMFailed,
    MissingPackage,
    ValidationError,
)
from erlbridge.programs.run import run
from erlbridge.store.dataset_writer import DatasetWriter
from erlbridge.store.store import open_store
from erlbridge.wire.messages import error_map
from erlbridge.wire.vocabulary import STAGES
from erlbridge.worker.datasets import StoredRows

SMALL: dict[str, dict[str, object]] = {
    "bootstrap_few_shot_with_optuna": {"num_candidate_programs": 2},
    "knn_few_shot": {"k": 6},
    "ensemble": {"num_candidate_programs": 1},
    "copro": {"breadth": 2, "depth": 2},
    "simba": {"bsize": 8, "num_candidates": 2, "max_steps": 2},
    "gepa": {"max_metric_calls": 40},
    "infer_rules": {"num_candidates": 2},
    "better_together": {"strategy": "p", "num_candidate_programs": 1},
}
SEARCHES = [name for name in SMALL if name != "knn_few_shot"]
DATA = {"train": 12, "dev": 6}


@pytest.fixture(scope="module")
def compiled(tickets: list[dict[str, str]]) -> Callable[[str], tuple[Any, Outcome, Watcher]]:
    """One run of each optimizer, made when a test first asks for it."""
    made: dict[str, tuple[Any, Outcome, Watcher]] = {}

    def run_once(optimizer: str) -> tuple[Any, Outcome, Watcher]:
        if optimizer not in made:
            jobs = Jobs(tickets)
            made[optimizer] = (*jobs.optimize(optimizer, **DATA, options=SMALL[optimizer], seed=3), jobs.watcher)
        return made[optimizer]

    return run_once


@pytest.fixture(scope="module")
def stored(tickets: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dataset]:
    """The tickets as a worker reads them where they are stored."""
    with DatasetWriter(open_store(tmp_path_factory.mktemp("data"), str).datasets) as writer:
        for ticket in tickets:
            writer.add(ticket)
        found = writer.finish()
    with closing(StoredRows(found)) as rows:
        yield replace(found, rows=rows)


@pytest.fixture
def offline_endpoint() -> Iterator[OfflineEndpoint]:
    served = OfflineEndpoint()
    yield served
    served.close()


def evaluated(tickets: list[dict[str, str]], program: object, programs: Mapping[str, bytes] | None = None) -> Any:
    """The score of a program, by its id or as the term that came back, on the tickets that `DATA` validates on."""
    payload = {"data": tickets[64:70], "config": {"lm": Atom("offline")}}
    given = program.encode() if isinstance(program, str) else binary_to_term(term_to_binary(program))
    term = {**atoms(payload), Atom("program"): given}  # type: ignore[dict-item]
    return plain(run(parse_job("evaluate_pipeline", term), Watcher(), programs or {}, Spelling.of(term)).result)[
        "score"
    ]


# -- what each of them gives and says ---------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["knn_few_shot", "ensemble", "gepa", "infer_rules", "better_together"])
def test_an_optimizer_improves_the_program(
    compiled: Callable[[str], tuple[Any, Outcome, Watcher]], optimizer: str
) -> None:
    metrics = compiled(optimizer)[0]["optimization_metrics"]
    assert metrics["score_before"] < 0.5 <= metrics["score_after"]


@pytest.mark.parametrize("optimizer", SMALL)
def test_what_is_stored_scores_as_what_was_measured(
    compiled: Callable[[str], tuple[Any, Outcome, Watcher]], tickets: list[dict[str, str]], optimizer: str
) -> None:
    result, outcome, _ = compiled(optimizer)
    score = result["optimization_metrics"]["score_after"]
    assert outcome.program is not None
    program_id = str(outcome.program_id)
    assert evaluated(tickets, program_id, {program_id: outcome.program}) == score
    assert evaluated(tickets, outcome.result[Atom("program")]) == score  # type: ignore[index]


@pytest.mark.parametrize("optimizer", SMALL)
def test_the_same_search_with_threads_and_stored_data_gives_the_same_program(
    compiled: Callable[[str], tuple[Any, Outcome, Watcher]], jobs: Jobs, stored: Dataset, optimizer: str
) -> None:
    first, _, _ = compiled(optimizer)
    training, validation = stored.cut(0, DATA["train"]), stored.cut(64, 64 + DATA["dev"])
    config = {"lm": Atom("offline"), "optimizer": optimizer, "options": SMALL[optimizer], "seed": 3, "num_threads": 3}
    second, _ = jobs.run(
        "optimize_signature",
        {
            "signature": jobs.signature,
            "training_data": training,
            "validation_data": validation,
            "config": config,
        },
    )
    assert jobs.watcher.stages()[0] == "reading"
    assert first["optimization_metrics"]["repeatable"] is True
    assert first["program_id"] == second["program_id"]


@pytest.mark.parametrize("optimizer", SMALL)
def test_progress_counts_to_its_end_and_never_falls_back(
    compiled: Callable[[str], tuple[Any, Outcome, Watcher]], optimizer: str
) -> None:
    result, _, watcher = compiled(optimizer)
    stages = watcher.stages()
    assert (stages[0], stages[-2:]) == ("baseline", ["evaluating", "finishing"])
    assert len(stages) == len(set(stages))
    assert set(stages) <= set(STAGES)
    best = [state.best_score for state in watcher.seen if state.best_score is not None]
    assert best == sorted(best)
    for before, after in pairwise(watcher.seen):
        assert after.stage != before.stage or after.done >= before.done
    if optimizer in SEARCHES:
        last = {state.stage: state for state in watcher.seen}["searching"]
        assert last.done == last.total
        assert last.score is not None
        assert result["optimization_metrics"]["trials"] > 0


@pytest.mark.parametrize("optimizer", SMALL)
def test_one_example_is_enough(jobs: Jobs, optimizer: str) -> None:
    options = {name: value for name, value in SMALL[optimizer].items() if name not in ("bsize", "k")}
    options |= {"max_metric_calls": 8} if optimizer == "gepa" else {}
    result, _ = jobs.optimize(optimizer, train=1, dev=1, options=options)
    assert result["status"] == "success"


def test_defaults_fit_few_examples(jobs: Jobs) -> None:
    result, _ = jobs.optimize("gepa", train=4, dev=2)
    assert result["optimization_metrics"]["trials"] >= 1
    with pytest.raises(BudgetExceeded):
        jobs.optimize("simba", train=4, dev=2, budget={"max_lm_calls": 60})


# -- stopping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [*SEARCHES, "mipro_v2", "bootstrap_few_shot_with_random_search"])
def test_our_count_is_the_endpoints_count_and_a_budget_is_exact_with_threads(
    jobs: Jobs, offline_endpoint: OfflineEndpoint, optimizer: str
) -> None:
    with pytest.raises(BudgetExceeded, match="31 model calls made, limit 31") as caught:
        jobs.optimize(
            optimizer,
            **DATA,
            lm=offline_endpoint.lm(),
            cache=False,
            num_threads=4,
            options=SMALL.get(optimizer, {}),
            budget={"max_lm_calls": 31},
        )
    assert offline_endpoint.asked(31) == caught.value.context["lm_calls"] == 31
    assert caught.value.context["best_program"] is not None
    error_map(caught.value)  # every name in it is published


@pytest.mark.parametrize("optimizer", SEARCHES)
def test_a_cancel_stops_it_at_its_next_call_with_the_best_program_so_far(
    jobs: Jobs, tickets: list[dict[str, str]], optimizer: str
) -> None:
    jobs.watcher.reason = Cancelled("cancelled as asked")
    jobs.watcher.stop_when = lambda state: state.stage == "searching" and state.done > 0
    with pytest.raises(Cancelled) as caught:
        jobs.optimize(optimizer, **DATA, options=SMALL[optimizer])
    context = caught.value.context
    assert evaluated(tickets, context["best_program"]) >= 0
    if optimizer in ("gepa", "ensemble", "better_together", "infer_rules"):  # these score on the validation data
        assert evaluated(tickets, context["best_program"]) == context["best_score"]


@pytest.mark.parametrize("optimizer", ["gepa", "simba", "copro"])
def test_a_time_limit_stops_it(jobs: Jobs, optimizer: str) -> None:
    lm = {"model": "offline", "latency_ms": 10}
    with pytest.raises(BudgetExceeded, match=r"seconds used, limit 0\.3"):
        jobs.optimize(optimizer, **DATA, lm=lm, num_threads=1, budget={"max_seconds": 0.3})


@pytest.mark.parametrize("optimizer", ["gepa", "simba"])
def test_a_key_that_dies_ends_what_dspy_would_call_a_success(
    jobs: Jobs, offline_endpoint: OfflineEndpoint, optimizer: str
) -> None:
    offline_endpoint.default = lambda request: (
        offline_endpoint.complete(request) if len(offline_endpoint.requests) <= 20 else failure(401, "key revoked")
    )
    with pytest.raises(LMFailed) as caught:
        jobs.optimize(optimizer, **DATA, lm=offline_endpoint.lm(), cache=False, num_threads=1)
    assert caught.value.kind == "auth"
    assert len(offline_endpoint.requests) == 21


# -- traps ------------------------------------------------------------------------------------------------------------


def test_rules_of_the_best_candidate_are_not_those_of_the_last(jobs: Jobs, offline_endpoint: OfflineEndpoint) -> None:
    right = {row["body"]: row["category"] for row in jobs.tickets}
    rules = iter(["the good rules", "the bad rules"])

    def reply(request: dict[str, Any]) -> Reply:
        asked = str([message["content"] for message in request["messages"]])
        if "natural_language_rules" in asked:
            body = f"[[ ## reasoning ## ]]\nx\n\n[[ ## natural_language_rules ## ]]\n{next(rules)}"
            return completion(f"{body}\n\n[[ ## completed ## ]]")
        question = request["messages"][-1]["content"]
        known = next((label for body, label in right.items() if body in question), "account")
        return category(known if "the good rules" in asked else "account")

    offline_endpoint.default = reply
    result, _ = jobs.optimize(
        "infer_rules", **DATA, lm=offline_endpoint.lm(), cache=False, options={"num_candidates": 2}
    )
    assert "the good rules" in result["optimized_signature"]["instructions"]
    assert result["optimization_metrics"]["score_after"] == 1.0


def test_a_model_for_prompts_writes_the_rules(jobs: Jobs, offline_endpoint: OfflineEndpoint) -> None:
    jobs.optimize("infer_rules", **DATA, prompt_lm=offline_endpoint.lm(), cache=False, options={"num_candidates": 2})
    assert len(offline_endpoint.requests) == 2


def test_copro_which_takes_any_keyword_gets_the_ones_it_has(jobs: Jobs, offline_endpoint: OfflineEndpoint) -> None:
    jobs.optimize(
        "copro",
        **DATA,
        prompt_lm=offline_endpoint.lm(),
        cache=False,
        options={"breadth": 3, "depth": 2, "init_temperature": 0.9},
    )
    # One round of breadth - 1 proposals beside the first instruction, one round of breadth.
    assert [request["temperature"] for request in offline_endpoint.requests] == [0.9] * (2 + 3)


def test_simbas_log_is_read_only_while_it_runs(compiled: Callable[[str], tuple[Any, Outcome, Watcher]]) -> None:
    compiled("simba")
    assert logging.getLogger("dspy.teleprompt.simba").handlers == []


def test_simba_steps_are_known_from_its_log(compiled: Callable[[str], tuple[Any, Outcome, Watcher]]) -> None:
    _, _, watcher = compiled("simba")
    steps = {(state.done, state.total) for state in watcher.seen if state.stage == "searching"}
    assert steps == {(0, 3), (1, 3), (2, 3), (3, 3)}


def test_gepa_writes_no_file(jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    jobs.optimize("gepa", **DATA, options=SMALL["gepa"])
    assert list(tmp_path.iterdir()) == []


def test_gepa_stops_at_a_score_that_is_enough(
    compiled: Callable[[str], tuple[Any, Outcome, Watcher]], jobs: Jobs
) -> None:
    full, _, _ = compiled("gepa")
    early, _ = jobs.optimize("gepa", **DATA, options={**SMALL["gepa"], "stop_at_score": 0.5}, seed=3)
    assert early["optimization_metrics"]["score_after"] >= 0.5
    assert early["optimization_metrics"]["lm_calls"] < full["optimization_metrics"]["lm_calls"]


@pytest.mark.parametrize(
    ("optimizer", "package"),
    [("optuna", "optuna"), ("simba", "numpy"), ("gepa", "gepa"), ("knn", "numpy"), ("mipro", "numpy")],
)
def test_a_missing_package_is_named_before_a_call_is_made(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, optimizer: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackage, match=rf"`{package}`.*pip install 'erlbridge\[optimizers\]'"):
        jobs.optimize(optimizer, **DATA)
    assert jobs.watcher.seen == []


@pytest.mark.parametrize("broken", [None, "raise ImportError", "raise SystemExit"])
def test_what_optimizers_need_is_loaded_before_workers_are_forked_as_far_as_it_is_there(
    tmp_path: Path, broken: str | None
) -> None:
    if broken:
        (tmp_path / "optuna.py").write_text(broken)
    code = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
from erlbridge.programs import optimizers
assert "optuna.samplers" not in sys.modules
optimizers.load()
print("optuna.samplers" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout == f"{not broken}\n"


# -- programs that are more than a state ------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["ensemble", "knn_few_shot"])
def test_what_an_ensemble_or_neighbours_give_can_be_optimized_further(
    compiled: Callable[[str], tuple[Any, Outcome, Watcher]], jobs: Jobs, optimizer: str
) -> None:
    _, outcome, _ = compiled(optimizer)
    assert outcome.program is not None
    name = str(outcome.program_id)
    config = {"lm": Atom("offline"), "optimizer": "labeled_few_shot"}
    payload = {"signature": name, "training_data": jobs.tickets[:6], "config": config}
    result, _ = jobs.run("optimize_signature", payload, {name: outcome.program})
    assert result["program_id"] != name


def test_an_ensemble_of_many_members_that_an_optimizer_makes_answers(jobs: Jobs) -> None:
    options = {"num_candidate_programs": 18, "size": 20}
    result, outcome = jobs.optimize("ensemble", train=6, dev=1, options=options)
    members = len(result["program"]["members"])
    assert members > 16  # equal programs vote once
    assert outcome.program is not None
    payload = {"program": outcome.program_id, "input": jobs.tickets[9], "config": {"lm": Atom("offline")}}
    answer, _ = jobs.run("predict", payload, {str(outcome.program_id): outcome.program})
    assert answer["metrics"]["lm_calls"] == members


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [("knn_few_shot", "needs a program of one step"), ("ensemble", "an ensemble cannot be a member of one")],
)
def test_what_an_ensemble_cannot_become_is_refused_before_a_model_is_asked(
    compiled: Callable[[str], tuple[Any, Outcome, Watcher]], jobs: Jobs, optimizer: str, message: str
) -> None:
    _, outcome, _ = compiled("ensemble")
    name = str(outcome.program_id)
    config = {"lm": Atom("offline"), "optimizer": optimizer}
    payload = {"signature": name, "training_data": jobs.tickets[:6], "config": config}
    with pytest.raises(ValidationError, match=message) as caught:
        jobs.run("optimize_signature", payload, {name: outcome.program or b""})
    assert caught.value.path == "payload.config.optimizer"
    assert jobs.watcher.seen == []


@pytest.mark.parametrize(
    ("optimizer", "damage", "message"),
    [
        ("knn_few_shot", lambda term: term["module"].update(k=999), "at most 100, got 999"),
        ("knn_few_shot", lambda term: term["module"].update(k=0), "at least 1"),
        ("knn_few_shot", lambda term: term["examples"][2].pop("body"), "expected the field `body`"),
        ("knn_few_shot", lambda term: term.update(model="x"), "unknown key `model`"),
        ("ensemble", lambda term: term.update(reduce="eval"), "majority"),
        ("ensemble", lambda term: term.update(members=[]), "at least|a list of"),
        ("ensemble", lambda term: term["members"].extend(term["members"] * MAX_MEMBERS), "at most|a list of"),
        ("ensemble", lambda term: term["members"][0].update(lm={"api_base": "http://x"}), "unknown key `lm`"),
    ],
)
def test_a_tampered_program_is_refused(
    compiled: Callable[[str], tuple[Any, Outcome, Watcher]],
    tickets: list[dict[str, str]],
    optimizer: str,
    damage: Callable[[dict[str, Any]], object],
    message: str,
) -> None:
    _, outcome, _ = compiled(optimizer)
    term = plain(binary_to_term(outcome.program or b""))
    damage(term)
    with pytest.raises(ValidationError, match=message):
        evaluated(tickets, atoms(term))


def test_a_neighbour_program_that_is_stopped_after_its_compile_is_kept_whole(jobs: Jobs) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        jobs.optimize("knn_few_shot", **DATA, budget={"max_lm_calls": 8})
    assert plain(caught.value.context["best_program"])["module"]["k"] == 8
