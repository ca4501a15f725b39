"""Training a model's weights: the offline LM learns by heart, an endpoint fine-tunes; what can go wrong is typed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from node_client import NodeClient
from program_jobs import CATEGORIES, Jobs, Watcher, atoms, completion, plain
from tuning_endpoint import TuningEndpoint

from erlbridge.codec import Atom, term_to_binary
from erlbridge.core.jobs import Outcome, Progress
from erlbridge.errors import BudgetExceeded, Cancelled, LMFailed, NotFound, OptimizationError, ValidationError
from erlbridge.programs.offline_memory import Memory
from erlbridge.programs.offline_prompt import Demo
from erlbridge.wire.messages import error_map
from erlbridge.wire.vocabulary import STAGES

CHAT, FILES, TUNINGS = "/chat/completions", "POST /files", "POST /fine_tuning/jobs"


@pytest.fixture
def tuning() -> Iterator[TuningEndpoint]:
    served = TuningEndpoint()
    yield served
    served.close()


def train(
    jobs: Jobs, lm: object, *, stored: Mapping[str, bytes] | None = None, count: int = 12, **changed: object
) -> tuple[Any, Outcome]:
    """Trains on the first tickets; `config` is merged, other keywords are the payload's."""
    config = {"lm": lm, **changed.pop("config", {})}  # type: ignore[dict-item]
    payload = {"signature": jobs.signature, "training_data": jobs.tickets[:count], "config": config, **changed}
    return jobs.run("train_model", {key: value for key, value in payload.items() if value is not None}, stored)


def messages(watcher: Watcher) -> list[str | None]:
    return [state.message for state in watcher.seen if state.stage == "training"]


# -- the offline LM ---------------------------------------------------------------------------------------------------


def test_the_offline_model_learns_the_answers_that_the_metric_accepted(jobs: Jobs) -> None:
    result, outcome = train(jobs, Atom("offline"), count=64, validation_data=jobs.tickets[64:])
    metrics, name = result["metrics"], result["model"]
    assert metrics["score_before"] + 0.5 < metrics["score_after"]
    assert (metrics["training_examples"], metrics["trained_tokens"], metrics["cost_usd"]) == (64, None, 0.0)
    assert 0 < metrics["trained_examples"] < 32  # guesses, of which few are right
    assert metrics["lm_calls"] == 40 + 64 + 40
    assert list(outcome.models) == [name]
    assert len(Memory.unpack(name, outcome.models[name])) == metrics["trained_examples"]
    assert jobs.watcher.stages() == ["baseline", "bootstrapping", "training", "evaluating", "finishing"]
    assert set(jobs.watcher.stages()) <= set(STAGES)
    payload = {"program": atoms(result["program"]), "data": jobs.tickets[64:], "config": {"lm": name}}
    assert jobs.run("evaluate_pipeline", payload, outcome.models)[0]["score"] == metrics["score_after"]


def test_the_same_training_gives_the_same_model_and_program(jobs: Jobs) -> None:
    first, again = (train(jobs, Atom("offline"))[0] for _ in range(2))
    assert (first["model"], first["program_id"]) == (again["model"], again["program_id"])
    assert first["metrics"]["score_before"] is first["metrics"]["score_after"] is None  # nothing to measure on


def test_a_program_teaches_another_one_and_its_demos_need_no_prompt_then(jobs: Jobs) -> None:
    demos, kept = jobs.optimize("labeled_few_shot", train=40, dev=4)
    taught, _ = train(
        jobs,
        Atom("offline"),
        teacher=demos["program_id"],
        stored={demos["program_id"]: kept.program or b""},
        count=40,
        validation_data=jobs.tickets[64:],
    )
    assert taught["metrics"]["trained_examples"] > 30
    assert taught["metrics"]["score_after"] > 0.9
    assert taught["program"]["state"]["answer"]["demos"] == []
    again, _ = train(jobs, Atom("offline"), teacher=atoms(demos["program"]), count=40)  # the same one, sent along
    assert again["model"] == taught["model"]


def test_a_trained_model_is_trained_further_and_forgets_nothing(jobs: Jobs) -> None:
    first, outcome = train(jobs, Atom("offline"), count=24)
    second, more = train(jobs, first["model"], stored=outcome.models, training_data=jobs.tickets[24:48])
    before, after = (
        Memory.unpack(name, models[name])
        for name, models in ((first["model"], outcome.models), (second["model"], more.models))
    )
    assert set(map(str, before.pairs)) < set(map(str, after.pairs))


def test_a_question_that_was_learned_gets_its_answer_whatever_the_neighbours_say(jobs: Jobs) -> None:
    def pair(label: str, index: int) -> Demo:
        row = jobs.tickets[index]
        return Demo({"subject": row["subject"], "body": row["body"]}, {"category": label})

    name, content = Memory([pair("shipping", 0), *(pair("billing", index) for index in range(1, 20))]).pack()
    payload = {"signature": jobs.signature, "input": jobs.tickets[0], "config": {"lm": name}}
    assert jobs.run("predict", payload, {name: content})[0]["prediction"] == {"category": "shipping"}
    # Where the fields are others, it knows no more than the untrained one.
    other = {"signature": "body -> category", "input": jobs.tickets[0]}
    trained, _ = jobs.run("predict", {**other, "config": {"lm": name}}, {name: content})
    untrained, _ = jobs.run("predict", {**other, "config": {"lm": Atom("offline")}})
    assert trained["prediction"] == untrained["prediction"]


def test_reasoning_and_composite_answers_are_learned_as_they_are(jobs: Jobs) -> None:
    signature = {"input_fields": ["text"], "output_fields": [{"name": "tags", "type": "list[string]"}]}
    data = [{"text": "a b", "tags": []}, {"text": "c d", "tags": []}]
    result, outcome = train(
        jobs, Atom("offline"), signature=signature, training_data=data, config={"module": "chain_of_thought"}
    )
    payload = {"program": atoms(result["program"]), "input": {"text": "a b"}, "config": {"lm": result["model"]}}
    assert jobs.run("predict", payload, outcome.models)[0]["prediction"]["tags"] == []


@pytest.mark.parametrize("damage", ["missing", "tampered", "no term", "other format", "code in it"])
def test_a_model_that_is_not_what_its_name_says_is_not_found(jobs: Jobs, damage: str) -> None:
    import hashlib

    name, content = Memory([Demo({"q": "1"}, {"a": "2"})]).pack()
    match damage:
        case "missing":
            stored = {}
        case "tampered":
            stored = {name: content.replace(b"2", b"3")}
        case "no term":
            content = b"\x83no"
        case "other format":
            content = term_to_binary({"format": 2, "base": "offline", "pairs": []})
        case _:
            content = term_to_binary({"format": 1, "base": "offline", "pairs": [], "code": b"import os"})
    if damage not in ("missing", "tampered"):
        name = f"offline:{hashlib.sha256(content).hexdigest()}"
        stored = {name: content}
    payload = {"signature": "q -> a", "input": {"q": "1"}, "config": {"lm": name}}
    with pytest.raises(NotFound) as caught:
        jobs.run("predict", payload, stored)
    assert caught.value.context["model"] == name


def test_nothing_to_train_on_is_an_error_that_says_so(jobs: Jobs) -> None:
    with pytest.raises(OptimizationError, match="accepted no answer to the 6 examples"):
        train(
            jobs,
            Atom("offline"),
            count=6,
            config={"metric": {"name": "f1", "threshold": 1.0}},
            signature="subject, body -> category",
        )


# -- an endpoint ------------------------------------------------------------------------------------------------------


def test_an_endpoint_trains_under_the_request_s_own_address_and_key(
    jobs: Jobs, tuning: TuningEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, "operators-own-secret")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Leak: operators-own-secret")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("TUNING_KEY", "sk-for-tuning")
    options = {"train_kwargs": {"n_epochs": 2, "suffix": "tickets", "seed": 7}}
    result, outcome = train(
        jobs,
        tuning.lm(api_key_env="TUNING_KEY"),
        count=32,
        validation_data=jobs.tickets[64:76],
        config={"options": options},
    )
    metrics = result["metrics"]
    assert (result["model"], outcome.models) == ("openai/ft:x:org::1", {})
    assert metrics["score_after"] > metrics["score_before"]
    assert metrics["trained_tokens"] == 77 * metrics["trained_examples"]
    assert metrics["cost_usd"] is None  # nobody knows what the training costs
    assert metrics["lm_calls"] == len(tuning.requests)
    (job,) = tuning.account.jobs.values()
    assert job.body == {
        "model": "x",
        "training_file": "file-1",
        "hyperparameters": {"n_epochs": 2},
        "suffix": "tickets",
        "seed": 7,
    }
    (lines,) = tuning.account.files.values()
    assert [message["role"] for message in lines[0]["messages"]] == ["system", "user", "assistant"]
    assert messages(jobs.watcher) == ["uploading", "validating_files", "queued", "running", "succeeded"]
    assert tuning.account.deleted == ["file-1"]
    assert not job.cancelled
    assert {headers["Authorization"] for headers in tuning.account.headers} == {"Bearer sk-for-tuning"}
    assert "operators-own-secret" not in str(tuning.account.headers)
    assert "sk-for-tuning" not in str(result)
    # From now on a request names it, and the program that was kept is the one that was measured.
    payload = {
        "program": atoms(result["program"]),
        "data": jobs.tickets[64:76],
        "config": {"lm": tuning.lm(model=result["model"])},
    }
    assert jobs.run("evaluate_pipeline", payload)[0]["score"] == metrics["score_after"]


def test_a_stop_cancels_the_training_at_the_endpoint(jobs: Jobs, tuning: TuningEndpoint) -> None:
    tuning.account.states = ("queued", "running")

    def runs(state: Progress) -> bool:
        return state.message == "running"

    jobs.watcher.stop_when, jobs.watcher.reason = runs, Cancelled("cancelled as asked")
    with pytest.raises(Cancelled) as caught:
        train(jobs, tuning.lm(), validation_data=jobs.tickets[64:70])
    assert tuning.account.jobs["ftjob-1"].cancelled
    assert tuning.account.deleted == ["file-1"]
    assert "best_program" in caught.value.context


def test_the_budget_s_time_ends_a_training(jobs: Jobs, tuning: TuningEndpoint) -> None:
    tuning.account.states = ("running",)
    with pytest.raises(BudgetExceeded):
        # Long enough for what the first training of a process loads.
        train(jobs, tuning.lm(), config={"budget": {"max_seconds": 2.0}})
    assert tuning.account.jobs["ftjob-1"].cancelled


def test_what_was_trained_and_paid_for_is_named_when_the_job_ends_early(jobs: Jobs, tuning: TuningEndpoint) -> None:
    budget = {"max_lm_calls": 2 + 12 + 1}
    with pytest.raises(BudgetExceeded) as caught:
        train(jobs, tuning.lm(), validation_data=jobs.tickets[64:66], config={"budget": budget, "num_threads": 1})
    assert caught.value.context["trained_models"] == ["openai/ft:x:org::1"]
    assert "best_program" in caught.value.context


@pytest.mark.parametrize(
    ("lm", "config", "place", "said"),
    [
        ({}, {"budget": {"max_cost_usd": 1.0}}, "config.budget.max_cost_usd", "no price is known"),
        ({}, {"options": {"train_kwargs": {"epochs": 1}}}, "config.options.train_kwargs.epochs", "n_epochs"),
        ({}, {"options": {"train_kwargs": {"n_epochs": 0}}}, "config.options.train_kwargs.n_epochs", "above 0"),
        ({}, {"options": {"train_kwargs": {"seed": "a"}}}, "config.options.train_kwargs.seed", "an integer"),
        ({"api_base": None}, {}, "config.lm", "api_key_env"),
        ({"model": "anthropic/claude"}, {}, "config.lm", "no provider here can train `anthropic/claude`"),
        (None, {"options": {"train_kwargs": {"n_epochs": 1}}}, "config.options.train_kwargs", "no options"),
    ],
)
def test_what_cannot_be_trained_costs_nothing(
    jobs: Jobs, lm: dict[str, object] | None, config: dict[str, object], place: str, said: str
) -> None:
    served = {"model": "openai/x", "api_base": "http://127.0.0.1:9/v1"}
    wanted = Atom("offline") if lm is None else {k: v for k, v in {**served, **lm}.items() if v is not None}
    with pytest.raises(ValidationError, match=said) as caught:
        train(jobs, wanted, config=config)
    assert caught.value.path == f"payload.{place}"
    assert jobs.watcher.seen == []


def test_a_teacher_with_other_fields_is_refused(jobs: Jobs) -> None:
    payload = {
        "signature": "body -> category",
        "training_data": jobs.tickets[:4],
        "config": {"lm": Atom("offline"), "optimizer": "labeled_few_shot"},
    }
    other, _ = jobs.run("optimize_signature", payload)
    with pytest.raises(
        ValidationError, match="expected the fields of the program that is trained, subject, body, got body"
    ) as caught:
        train(jobs, Atom("offline"), teacher=atoms(other["program"]))
    assert caught.value.path == "payload.teacher"


def test_a_teacher_that_is_built_in_another_way_is_refused(jobs: Jobs) -> None:
    other, _ = jobs.optimize("labeled_few_shot", train=4, dev=2, module="chain_of_thought")
    with pytest.raises(ValidationError, match="the steps and modules of the one that is trained") as caught:
        train(jobs, Atom("offline"), teacher=atoms(other["program"]))
    assert caught.value.path == "payload.teacher"


def test_a_pipeline_is_trained_as_a_whole(jobs: Jobs) -> None:
    steps = [
        {"name": "guess", "signature": {"input_fields": ["subject"], "output_fields": ["topic"]}},
        {"name": "sort", "signature": {**jobs.signature, "input_fields": ["body", "topic"]}},
    ]
    result, outcome = train(jobs, Atom("offline"), count=24, signature=None, pipeline={"steps": steps})
    assert (
        len(Memory.unpack(result["model"], outcome.models[result["model"]])) > result["metrics"]["trained_examples"] / 2
    )
    assert list(result["program"]["state"]) == ["step_guess", "step_sort"]
    payload = {"program": atoms(result["program"]), "input": jobs.tickets[0], "config": {"lm": result["model"]}}
    assert jobs.run("predict", payload, outcome.models)[0]["prediction"]["category"] in CATEGORIES


def test_an_answer_that_cannot_be_read_teaches_nothing_is_not_judged_and_ends_nothing(
    jobs: Jobs, tuning: TuningEndpoint
) -> None:
    answers = iter(range(100))
    tuning.default = lambda request: completion("?") if next(answers) < 2 else tuning.complete(request)
    jobs.watcher.functions = {"score": lambda example, found: float(found["category"] in example["category"])}
    metric = (Atom("call"), b"score")
    result, _ = train(jobs, tuning.lm(), count=16, config={"num_threads": 1, "metric": metric})
    assert 0 < result["metrics"]["trained_examples"] <= result["metrics"]["host_calls"] < 16


def test_a_host_s_function_cannot_be_trained_but_can_teach(jobs: Jobs) -> None:
    right = {row["body"]: row["category"] for row in jobs.tickets}

    def teach(request: dict[str, Any]) -> str:
        label = next(label for body, label in right.items() if body in request["messages"][-1]["content"])
        return f"[[ ## category ## ]]\n{label}\n\n[[ ## completed ## ]]"

    jobs.watcher.functions = {"teach": teach}
    function = (Atom("call"), b"teach")
    with pytest.raises(ValidationError, match="no provider here can train `teach`"):
        train(jobs, function)
    result, _ = train(jobs, Atom("offline"), config={"teacher_lm": function})
    assert result["metrics"]["trained_examples"] == result["metrics"]["host_calls"] == 12


# -- as optimizers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["bootstrap_finetune", "better_together"])
def test_a_trained_model_is_measured_and_named(jobs: Jobs, tuning: TuningEndpoint, optimizer: str) -> None:
    options = {} if optimizer == "bootstrap_finetune" else {"strategy": "w -> p", "num_candidate_programs": 1}
    result, _ = jobs.optimize(optimizer, train=16, dev=4, lm=tuning.lm(), cache=False, options=options)
    metrics = result["optimization_metrics"]
    assert result["model"] == "openai/ft:x:org::1"
    assert metrics["score_after"] > metrics["score_before"]
    assert metrics["lm_calls"] == len(tuning.requests)
    asked = [request["model"] for request in tuning.requests]
    if optimizer == "better_together":
        # Demos are searched for the trained model; the one of the request is from then on no more than the teacher.
        assert asked.count("ft:x:org::1") >= 5 * 4


@pytest.mark.parametrize("optimizer", ["bootstrap_finetune", "better_together"])
def test_a_training_that_fails_is_no_success_of_an_optimizer(
    jobs: Jobs, tuning: TuningEndpoint, optimizer: str
) -> None:
    tuning.account.states, tuning.account.error = ("queued", "failed"), {"message": "no"}
    options = {"strategy": "w"} if optimizer == "better_together" else {}
    with pytest.raises(LMFailed, match="failed at the endpoint: no") as caught:
        jobs.optimize(optimizer, train=12, dev=2, lm=tuning.lm(), options=options)
    assert plain(error_map(caught.value))["context"]["job"] == "ftjob-1"


def test_a_model_without_a_provider_is_refused_before_anything_is_spent(jobs: Jobs) -> None:
    for optimizer in ("bootstrap_finetune", "better_together"):
        with pytest.raises(ValidationError, match="no provider here can train `anthropic/x`; those that can"):
            jobs.optimize(optimizer, train=12, dev=6, lm="anthropic/x")
    assert jobs.watcher.seen == []


# -- over the wire ----------------------------------------------------------------------------------------------------


def test_a_cancel_over_the_wire_reaches_the_training_at_the_endpoint(
    node: NodeClient, jobs: Jobs, tuning: TuningEndpoint
) -> None:
    tuning.account.states = ("queued", "running")
    payload = {"signature": jobs.signature, "training_data": jobs.tickets[:12], "config": {"lm": tuning.lm()}}
    node.send((Atom("credit"), 1000))
    number = node.request("train_model", atoms(payload))
    told = node.until(lambda term: term[0] == Atom("progress") and term[2][Atom("stage")] == Atom("training"))
    assert told[2][Atom("message")] in (b"uploading", b"queued", b"running")
    node.until(lambda term: term[0] == Atom("progress") and term[2][Atom("message")] == b"running")
    tag, _ = node.ask("cancel", {Atom("id"): number})
    assert tag == "ok"
    tag, error = node.answer(number)
    assert (tag, error[Atom("error_type")]) == ("error", Atom("cancelled"))
    assert tuning.account.jobs["ftjob-1"].cancelled


def test_an_endpoint_s_training_over_the_wire(node: NodeClient, jobs: Jobs, tuning: TuningEndpoint) -> None:
    payload = {"signature": jobs.signature, "training_data": jobs.tickets[:12], "config": {"lm": tuning.lm()}}
    tag, result = node.ask("train_model", atoms(payload))
    assert (tag, plain(result)["model"]) == ("ok", "openai/ft:x:org::1")
    assert json.dumps(plain(result)["metrics"])
