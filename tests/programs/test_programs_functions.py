"""Elixir functions inside of DSPy: a metric, a model and a tool that the host computes, and how each may fail."""

from __future__ import annotations

import threading
from typing import Any

import dspy
import pytest
from program_jobs import Endpoint, Jobs, Reply, Watcher, atoms, completion, plain

from erlbridge.codec import Atom
from erlbridge.core.configs import Budget
from erlbridge.core.functions import Function
from erlbridge.core.jobs import parse_job
from erlbridge.core.metrics import Metric
from erlbridge.core.modules import parse_module
from erlbridge.core.signatures import parse_signature
from erlbridge.core.spelling import Spelling
from erlbridge.core.tools import Tool, parse_tools
from erlbridge.errors import BudgetExceeded, CallbackFailed, Cancelled, InternalError, ValidationError
from erlbridge.programs.artifacts import fresh
from erlbridge.programs.envelopes import envelope, pack, unpack
from erlbridge.programs.guard import Guard, Stop
from erlbridge.programs.host import HostFunction
from erlbridge.programs.host_lm import read_completion
from erlbridge.programs.host_metric import HostMetric, read_judgement
from erlbridge.programs.judgements import Judgement
from erlbridge.programs.metrics import Scorer
from erlbridge.programs.modules import Recipe, recipe
from erlbridge.programs.run import run
from erlbridge.programs.tools import build_tool
from erlbridge.wire.place import Place

SCORE = (Atom("call"), Atom("score"))
ANSWER = (Atom("call"), Atom("answer"))


def same_category(example: dict[str, str], prediction: dict[str, str]) -> bool:
    return example["category"] == prediction.get("category")


def billing(request: dict[str, Any]) -> str:
    return "[[ ## category ## ]]\nbilling\n\n[[ ## completed ## ]]"


# -- metrics


def test_an_elixir_metric_drives_an_optimization(jobs: Jobs) -> None:
    jobs.watcher.functions["score"] = same_category
    result, _ = jobs.optimize("bootstrap_few_shot", dev=20, metric=SCORE)
    metrics = result["optimization_metrics"]
    assert metrics["score_before"] < 0.5 < metrics["score_after"]
    assert metrics["host_calls"] == len(jobs.watcher.called) > 40
    assert metrics["repeatable"] is False


def test_a_metric_gets_the_example_and_the_prediction_under_the_hosts_names(jobs: Jobs) -> None:
    jobs.watcher.functions["score"] = lambda example, prediction: {b"score": 0.25, b"feedback": b"so so"}
    result = jobs.evaluate(jobs.signature, count=1, metric=SCORE)
    assert result["score"] == 0.25
    [(name, [example, prediction])] = jobs.watcher.called
    assert name == "score"
    assert example == jobs.tickets[0]
    assert prediction == result["results"][0]["prediction"]


@pytest.mark.parametrize(("threshold", "demos"), [(None, 0), (0.25, 4)])
def test_a_graded_elixir_metric_accepts_a_demo_from_its_threshold_on(
    jobs: Jobs, threshold: float | None, demos: int
) -> None:
    jobs.watcher.functions["score"] = lambda example, prediction: 0.3
    metric = {"name": SCORE, "threshold": threshold}
    result, _ = jobs.optimize("bootstrap_few_shot", train=6, dev=2, metric=metric, max_labeled_demos=0)
    assert len(result["optimized_signature"]["demos"]) == demos


def test_a_metric_that_fails_ends_the_job_with_its_reason(jobs: Jobs) -> None:
    def failing(example: object, prediction: object) -> object:
        raise ValueError("no such label")

    jobs.watcher.functions["score"] = failing
    with pytest.raises(CallbackFailed, match="`score` failed: no such label") as failed:
        jobs.optimize("bootstrap_few_shot", train=4, dev=2, metric=SCORE)
    assert failed.value.context["name"] == Atom("score")


@pytest.mark.parametrize("value", [2, -0.5, b"good", None, {b"feedback": b"x"}, {b"score": 1, b"reason": b"x"}, [1]])
def test_a_metrics_value_that_is_no_score_ends_the_job_and_is_named(jobs: Jobs, value: object) -> None:
    jobs.watcher.functions["score"] = lambda example, prediction: value
    with pytest.raises(CallbackFailed, match="`score` gave a value that cannot be used: "):
        jobs.evaluate(jobs.signature, count=2, metric=SCORE)


def test_scores_are_read_from_numbers_booleans_and_maps() -> None:
    for term, wanted in (
        (1, Judgement(1.0)),
        (0.5, Judgement(0.5)),
        (False, Judgement(0.0)),
        ({Atom("score"): True, b"feedback": b"well"}, Judgement(1.0, "well")),
        ({b"score": 0.1, b"feedback": None}, Judgement(0.1)),
    ):
        assert read_judgement(Place(term, "value")) == wanted


def test_a_scorer_tells_the_feedback_too(jobs: Jobs) -> None:
    watcher = Watcher(functions={"score": lambda example, prediction: {b"score": 0.5, b"feedback": b"late"}})
    guard = Guard(watcher, Budget())
    host = HostMetric(HostFunction(Function(Atom("score")), guard), Spelling({}))
    scorer = Scorer(Metric("score"), host, ["category"], guard)
    assert scorer.judge({"category": "a"}, {"category": "b"}) == Judgement(0.5, "late")


# -- models


def test_an_elixir_function_answers_as_the_model(jobs: Jobs) -> None:
    jobs.watcher.functions["answer"] = billing
    lm = {"model": ANSWER, "temperature": 0.5, "max_tokens": 100}
    result = jobs.evaluate(jobs.signature, count=4, lm=lm)
    assert {row["prediction"]["category"] for row in result["results"]} == {"billing"}
    _, [request] = jobs.watcher.called[0]
    assert (request["model"], request["temperature"], request["max_tokens"]) == ("answer", 0.5, 100)
    assert [message["role"] for message in request["messages"]] == ["system", "user"]
    assert jobs.tickets[0]["body"] in "".join(call[1][0]["messages"][1]["content"] for call in jobs.watcher.called)
    assert result["metrics"]["lm_calls"] == result["metrics"]["host_calls"] == 4


def test_tokens_and_cost_are_what_the_function_says(jobs: Jobs) -> None:
    jobs.watcher.functions["answer"] = lambda request: {
        b"text": billing(request),
        b"input_tokens": 100,
        b"output_tokens": 7,
        b"cost_usd": 0.25,
    }
    result = jobs.evaluate(jobs.signature, count=2, lm=ANSWER)
    metrics = result["metrics"]
    assert (metrics["input_tokens"], metrics["output_tokens"], metrics["cost_usd"]) == (200, 14, 0.5)
    with pytest.raises(BudgetExceeded):
        jobs.evaluate(jobs.signature, count=4, lm=ANSWER, num_threads=1, budget={"max_cost_usd": 0.4})


def test_a_budget_of_tokens_needs_a_function_that_counts_them(jobs: Jobs) -> None:
    jobs.watcher.functions["answer"] = billing
    with pytest.raises(ValidationError, match="reports no tokens"):
        jobs.evaluate(jobs.signature, count=2, lm=ANSWER, budget={"max_tokens": 1000})


@pytest.mark.parametrize("value", [None, 1, {b"text": 1}, {b"input_tokens": 3}, {b"text": b"", b"cost_usd": -1}])
def test_an_answer_of_another_shape_ends_the_job(jobs: Jobs, value: object) -> None:
    jobs.watcher.functions["answer"] = lambda request: value
    with pytest.raises(CallbackFailed, match="`answer` gave a value that cannot be used"):
        jobs.evaluate(jobs.signature, count=1, lm=ANSWER)


def test_a_model_that_fails_ends_the_job_with_its_reason(jobs: Jobs) -> None:
    def failing(request: object) -> object:
        raise ValueError("quota is used up")

    jobs.watcher.functions["answer"] = failing
    with pytest.raises(CallbackFailed, match="quota is used up"):
        jobs.evaluate(jobs.signature, count=3, lm=ANSWER)


def test_the_teacher_and_the_prompt_writer_may_be_functions_as_well(jobs: Jobs) -> None:
    jobs.watcher.functions["answer"] = billing
    result, _ = jobs.optimize("bootstrap_few_shot", train=8, dev=2, teacher_lm=ANSWER, max_labeled_demos=0)
    assert {demo["category"] for demo in result["optimized_signature"]["demos"]} == {"billing"}


def test_a_completion_is_a_text_or_a_map_with_one() -> None:
    assert read_completion(Place(b"hi", "value")).text == "hi"
    with pytest.raises(ValidationError, match="unknown key `tokens`"):
        read_completion(Place({b"text": b"hi", b"tokens": 3}, "value"))


# -- the guard


def test_a_call_that_waits_is_over_when_the_budgets_time_is() -> None:
    never = threading.Event()
    watcher = Watcher(functions={"f": never.wait})
    guard = Guard(watcher, Budget(max_seconds=0.05))
    with pytest.raises(Stop):
        guard.call(b"f", [])
    assert isinstance(guard.reason, BudgetExceeded)
    never.set()


def test_a_job_that_is_over_or_cancelled_asks_nobody() -> None:
    watcher = Watcher(functions={"f": lambda: 1}, reason=Cancelled("as asked"))
    over, cancelled = Guard(watcher, Budget()), Guard(watcher, Budget())
    over.close()
    with pytest.raises(Stop):
        over.call(b"f", [])
    assert isinstance(over.reason, InternalError)
    watcher.stopping = True
    with pytest.raises(Stop):
        cancelled.call(b"f", [])
    assert watcher.called == []


# -- tools


TOOLS: list[object] = [
    {
        Atom("name"): Atom("weather"),
        Atom("description"): b"The weather of some days.",
        Atom("args"): [
            Atom("city"),
            {Atom("name"): b"days", Atom("type"): Atom("integer"), Atom("description"): b"How many."},
            {Atom("name"): b"unit", Atom("type"): b"optional[string]"},
        ],
        Atom("call"): (Atom("call"), b"forecast"),
    }
]


class Job:
    """What a tool needs of a job."""

    def __init__(self, watcher: Watcher) -> None:
        self.spelling = Spelling.of(TOOLS)
        self._guard = Guard(watcher, Budget())

    def host(self, function: Function) -> HostFunction:
        return HostFunction(function, self._guard)


def tool(watcher: Watcher) -> Any:
    [parsed] = parse_tools(Place(TOOLS, "tools"))
    built = build_tool(parsed)

    def use(**arguments: object) -> object:
        with dspy.context(elixir=Job(watcher)):
            return built(**arguments)

    use.args = built.args  # type: ignore[attr-defined]
    return use


def test_a_tool_passes_checked_arguments_and_gives_what_elixir_said() -> None:
    watcher = Watcher(functions={"forecast": lambda arguments: {b"sky": b"blue", b"degrees": 21}})
    weather = tool(watcher)
    assert weather(city="Paris", days=3) == {"sky": "blue", "degrees": 21}
    assert watcher.called == [("forecast", [{"city": "Paris", "days": 3, "unit": None}])]
    assert weather.args["days"] == {"type": "integer", "description": "How many."}


def test_what_a_model_gets_wrong_is_an_observation_and_no_call() -> None:
    watcher = Watcher(functions={"forecast": lambda arguments: b"sun"})
    weather = tool(watcher)
    assert weather(city="Paris") == "error: weather: expected the argument `days`"
    assert weather(city="Paris", days=1, hour=2).startswith("error: weather: unknown argument `hour`")
    with pytest.raises(ValueError, match="days"):
        weather(city="Paris", days="three")
    assert watcher.called == []


def test_an_agent_uses_elixir_functions_and_reads_their_failures(endpoint: Endpoint, jobs: Jobs) -> None:
    def forecast(arguments: dict[str, Any]) -> bytes:
        if arguments["days"] > 2:
            raise ValueError("at most two days")
        return b"rain"

    steps = [
        turn(next_thought="look", next_tool_name="weather", next_tool_args='{"city": "Paris", "days": 3}'),
        turn(next_thought="less", next_tool_name="weather", next_tool_args='{"city": "Paris", "days": 2}'),
        turn(next_thought="done", next_tool_name="finish", next_tool_args="{}"),
        turn(reasoning="so it is", answer="rain"),
    ]
    endpoint.script(*steps)
    jobs.watcher.functions["forecast"] = forecast
    payload = {
        Atom("signature"): b"question -> answer",
        Atom("input"): {Atom("question"): b"What is the weather in Paris?"},
        Atom("config"): {
            **atoms({"lm": endpoint.lm(), "cache": False}),  # type: ignore[dict-item]
            Atom("module"): {Atom("name"): Atom("react"), Atom("tools"): TOOLS, Atom("max_iters"): 5},
        },
    }
    outcome = run(parse_job("predict", payload), jobs.watcher, {}, Spelling.of(payload))
    result = plain(outcome.result)
    assert result["prediction"]["answer"] == "rain"
    trajectory = result["prediction"]["trajectory"]
    assert trajectory["observation_0"] == "error: the Elixir function `forecast` failed: at most two days"
    assert trajectory["observation_1"] == "rain"
    assert result["metrics"]["lm_calls"] == 4
    assert result["metrics"]["host_calls"] == 2


def turn(**fields: str) -> Reply:
    return completion("\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items()))


def test_an_agent_is_kept_with_its_tools_and_answers_again() -> None:
    module = parse_module(Place({Atom("name"): Atom("react"), Atom("tools"): TOOLS}, "module"))
    signature = parse_signature(Place(b"question -> answer", "signature"))
    kept = fresh(recipe(signature, module, "signature"))
    name, data = pack(envelope(kept))
    again = unpack(name, data)
    assert isinstance(again.recipe, Recipe)
    assert again.recipe.module.tools[0].function.text == "forecast"
    assert again.recipe.module.tools[0].args == module.tools[0].args
    assert pack(envelope(again))[0] == name
    assert [part for part, _ in again.build().named_predictors()] == ["answer.react", "answer.extract.predict"]


def test_an_agent_without_tools_is_refused() -> None:
    with pytest.raises(ValidationError, match="a map of name and tools"):
        parse_module(Place(Atom("react"), "module"))
    with pytest.raises(ValidationError, match="expected the key `tools`"):
        parse_module(Place({Atom("name"): Atom("react")}, "module"))


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"name": b"finish"}, "tools[0].name"),
        ({"name": b"a b"}, "tools[0].name"),
        ({"call": b"f"}, "tools[0].call"),
        ({"call": ...}, "tools[0]"),
        ({"args": [b"a", b"a"]}, "tools[0].args[1]"),
        ({"args": [{b"name": b"a", b"type": b"os.system"}]}, "tools[0].args[0].type"),
        ({"import": b"os"}, "tools[0]"),
    ],
)
def test_a_tool_that_cannot_be_is_refused_with_its_place(change: dict[str, object], path: str) -> None:
    given = {"name": b"look", "call": (Atom("call"), b"f"), **change}
    term = {key.encode(): value for key, value in given.items() if value is not ...}
    with pytest.raises(ValidationError) as caught:
        parse_tools(Place([term], "tools"))
    assert caught.value.path == path


def test_two_tools_of_one_name_are_refused() -> None:
    one = {b"name": b"look", b"call": (Atom("call"), b"f")}
    assert parse_tools(Place([one], "tools")) == (Tool("look", "", (), Function(b"f")),)
    with pytest.raises(ValidationError, match="twice"):
        parse_tools(Place([one, one], "tools"))


# -- rewards


def test_an_elixir_reward_picks_among_attempts_and_refine_tells_the_model_what_it_looks_for(
    jobs: Jobs, endpoint: Endpoint
) -> None:
    judged: list[Any] = []

    def judge(inputs: dict[str, str], prediction: dict[str, str]) -> float:
        judged.append((inputs, prediction))
        return len(prediction["answer"]) / 3

    endpoint.script(
        turn(answer="x"),
        turn(discussion="Too short.", advice='{"self": "more"}'),
        turn(answer="xxx"),
    )
    jobs.watcher.functions["judge"] = judge
    reward = {Atom("name"): (Atom("call"), b"judge"), Atom("description"): b"Three letters are best."}
    outcome = reward_job(jobs, {Atom("name"): Atom("refine"), Atom("reward"): reward}, endpoint.lm())
    result = plain(outcome)
    assert result["prediction"]["answer"] == "xxx"
    assert judged == [({"question": "why?"}, {"answer": "x"}), ({"question": "why?"}, {"answer": "xxx"})]
    assert result["metrics"]["host_calls"] == 2
    assert "Three letters are best." in str(endpoint.requests[1])


def test_an_elixir_reward_that_fails_ends_the_job_instead_of_counting_as_a_failed_attempt(jobs: Jobs) -> None:
    module = {Atom("name"): Atom("best_of_n"), Atom("reward"): (Atom("call"), Atom("judge"))}
    for value, text in ((2.0, "a number from 0 to 1"), (b"good", "a number from 0 to 1")):
        jobs.watcher.functions["judge"] = lambda inputs, prediction, value=value: value
        with pytest.raises(CallbackFailed, match=text):
            reward_job(jobs, module, Atom("offline"))
    assert len(jobs.watcher.called) == 2


def reward_job(jobs: Jobs, module: object, lm: object) -> Any:
    payload = {
        Atom("signature"): b"question -> answer",
        Atom("input"): {Atom("question"): b"why?"},
        Atom("config"): {**atoms({"lm": lm, "cache": False}), Atom("module"): module},  # type: ignore[dict-item]
    }
    return run(parse_job("predict", payload), jobs.watcher, {}, Spelling.of(payload)).result


def test_a_program_is_kept_with_its_reward() -> None:
    reward = {Atom("name"): (Atom("call"), Atom("judge")), Atom("description"): b"Short is good."}
    module = parse_module(Place({Atom("name"): Atom("best_of_n"), Atom("reward"): reward}, "module"))
    kept = fresh(recipe(parse_signature(Place(b"question -> answer", "signature")), module, "signature"))
    name, data = pack(envelope(kept))
    again = unpack(name, data)
    assert isinstance(again.recipe, Recipe)
    assert again.recipe.module.judge is not None
    assert again.recipe.module.judge.function.text == "judge"
    assert pack(envelope(again))[0] == name
