"""Configs: defaults, what each key takes, and which are refused, with their place."""

from __future__ import annotations

import pytest

from erlbridge.codec import Atom
from erlbridge.core.configs import Budget, Config, parse_config
from erlbridge.core.lms import LM
from erlbridge.core.metrics import Metric
from erlbridge.core.modules import Module
from erlbridge.core.optimizers import OPTIONS
from erlbridge.errors import ValidationError
from erlbridge.wire.place import Place

HERE = "payload.config"


def parse(*, beside: Place | None = None, count: int = 10, **config: object) -> Config:
    term = {Atom(key): value for key, value in {"lm": Atom("offline"), **config}.items()}
    return parse_config(Place(term, HERE), beside, count=count, outputs=["answer"])


def binaries(**entries: object) -> dict[bytes, object]:
    return {key.encode(): value for key, value in entries.items()}


def test_only_the_model_must_be_given() -> None:
    assert parse() == Config(lm=LM("offline"))


def test_nil_is_as_good_as_not_given() -> None:
    keys = (
        "optimizer",
        "module",
        "metric",
        "max_demos",
        "seed",
        "num_threads",
        "options",
        "budget",
        "cache",
        "prompt_lm",
    )
    assert parse(**dict.fromkeys(keys)) == Config(lm=LM("offline"))


def test_every_key_is_read() -> None:
    found = parse(
        optimizer=b"MIPROv2",
        module=Atom("chain_of_thought"),
        metric=binaries(name=b"f1", field=Atom("answer"), threshold=0.5),
        max_demos=2,
        max_labeled_demos=3,
        lm=binaries(model=b"openai/x", api_base=b"http://h:1/v1", api_key_env=b"K", timeout_ms=1500, max_tokens=9),
        prompt_lm=b"openai/gpt-4o-mini",
        teacher_lm=binaries(model=b"offline", latency_ms=20),
        seed=7,
        num_threads=3,
        options=binaries(num_trials=5, auto=None),
        budget=binaries(max_lm_calls=1, max_tokens=2, max_cost_usd=0.5, max_seconds=3),
        cache=False,
    )
    assert found == Config(
        lm=LM("openai/x", "http://h:1/v1", "K", 1.5, None, 9),
        prompt_lm=LM("openai/gpt-4o-mini"),
        teacher_lm=LM("offline", latency_s=0.02),
        module=Module("chain_of_thought"),
        optimizer="mipro_v2",
        metric=Metric("f1", "answer", 0.5),
        max_demos=2,
        max_labeled_demos=3,
        seed=7,
        num_threads=3,
        options={"num_trials": 5, "auto": None},
        budget=Budget(1, 2, 0.5, 3.0),
        cache=False,
    )


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        (b"BootstrapFewShot", "bootstrap_few_shot"),
        (Atom("mipro"), "mipro_v2"),
        (b"random_search", "bootstrap_few_shot_with_random_search"),
        *((name.encode(), name) for name in OPTIONS),
    ],
)
def test_an_optimizer_has_several_spellings(spelling: object, name: str) -> None:
    assert parse(optimizer=spelling).optimizer == name


def test_a_metric_beside_the_config_wins() -> None:
    assert parse(beside=Place(Atom("contains"), "payload.metric"), metric=b"f1").metric == Metric("contains")


def test_a_metric_of_nil_beside_the_config_does_not() -> None:
    assert parse(beside=Place(None, "payload.metric"), metric=b"f1").metric == Metric("f1")


def test_instructions_alone_are_searched_without_any_demos() -> None:
    found = parse(optimizer=b"mipro_v2", max_demos=0)
    assert (found.max_demos, found.max_labeled_demos) == (0, 0)


def test_labeled_demos_alone_need_no_bootstrapped_ones() -> None:
    found = parse(optimizer=b"bootstrap_few_shot", max_demos=0)
    assert (found.max_demos, found.max_labeled_demos) == (0, 16)


REFUSALS = [
    ({"lm": None}, f"{HERE}.lm", "an atom or a binary"),
    ({"lm": b""}, f"{HERE}.lm", "a model's name"),
    ({"lm": b"open ai/x"}, f"{HERE}.lm", "a model's name"),
    ({"lm": b"openai/x\n"}, f"{HERE}.lm", "a model's name"),
    ({"lm": Atom("gpt")}, f"{HERE}.lm", "a model's name as a binary, or :offline"),
    ({"lm": (Atom("call"), 1)}, f"{HERE}.lm", "expected {:call, name}"),
    ({"lm": binaries(model=(Atom("cal"), b"f"))}, f"{HERE}.lm.model", "expected {:call, name}"),
    ({"lm": binaries(model=(Atom("call"), b"f"), api_base=b"http://h")}, f"{HERE}.lm.api_base", "its own endpoint"),
    ({"lm": binaries(api_base=b"http://x")}, f"{HERE}.lm", "expected the key `model`"),
    (
        {"lm": binaries(model=b"x", apikey=b"sk-1")},
        f"{HERE}.lm",
        "unknown key `apikey` (did you mean `api_key`?)",
    ),
    ({"lm": binaries(model=b"x", api_base=b"file:///etc/passwd")}, f"{HERE}.lm.api_base", "an http(s) address"),
    ({"lm": binaries(model=b"x", api_base=b"http://user@host")}, f"{HERE}.lm.api_base", "without a user in it"),
    ({"lm": binaries(model=b"x", api_base=b"http://h/\n")}, f"{HERE}.lm.api_base", "an http(s) address"),
    (
        {"lm": binaries(model=b"x", api_key_env=b"sk-live!")},
        f"{HERE}.lm.api_key_env",
        "the name of an environment variable",
    ),
    ({"lm": binaries(model=b"x", timeout_ms=0)}, f"{HERE}.lm.timeout_ms", "at least 1"),
    ({"lm": binaries(model=b"x", temperature=2.5)}, f"{HERE}.lm.temperature", "at most 2"),
    ({"lm": binaries(model=b"x", max_tokens=0)}, f"{HERE}.lm.max_tokens", "at least 1"),
    ({"lm": binaries(model=b"x", latency_ms=5)}, f"{HERE}.lm", "latency_ms belongs to the offline LM"),
    ({"lm": binaries(model=b"offline", api_base=b"http://x")}, f"{HERE}.lm", "takes no api_base"),
    ({"teacher_lm": 1}, f"{HERE}.teacher_lm", "an atom or a binary"),
    ({"optimizer": b"mipr0"}, f"{HERE}.optimizer", "did you mean `mipro`?"),
    ({"optimiser": b"mipro"}, HERE, "unknown key `optimiser` (did you mean `optimizer`?)"),
    ({"module": b"react"}, f"{HERE}.module", "a map of name and tools"),
    ({"metric": b"accuracy"}, f"{HERE}.metric", "one of contains, exact_match"),
    ({"metric": (Atom("call"),)}, f"{HERE}.metric", "expected {:call, name}"),
    ({"metric": binaries(name=(Atom("call"), b"f"), field=b"answer")}, f"{HERE}.metric", "unknown key"),
    ({"call_timeout_ms": 0}, f"{HERE}.call_timeout_ms", "at least 1"),
    ({"metric": binaries(field=b"answer")}, f"{HERE}.metric", "expected the key `name`"),
    ({"metric": binaries(name=b"f1", field=b"question")}, f"{HERE}.metric.field", "one of the output fields answer"),
    ({"metric": binaries(name=b"f1", threshold=1.5)}, f"{HERE}.metric.threshold", "at most 1"),
    ({"metric": binaries(name=b"numeric", tolerance=-1)}, f"{HERE}.metric.tolerance", "at least 0"),
    ({"max_demos": -1}, f"{HERE}.max_demos", "at least 0"),
    ({"max_demos": True}, f"{HERE}.max_demos", "an integer, got true"),
    ({"max_demos": 2.0}, f"{HERE}.max_demos", "an integer, got 2.0"),
    ({"max_demos": 10**40}, f"{HERE}.max_demos", "at most 1000, got an integer of"),
    ({"max_demos": 0, "optimizer": b"random_search"}, f"{HERE}.max_demos", "at least 1 for bootstrap_few_shot_with"),
    (
        {"max_demos": 0, "max_labeled_demos": 4, "optimizer": b"mipro"},
        f"{HERE}.max_demos",
        "or 0 with max_labeled_demos 0",
    ),
    ({"seed": -1}, f"{HERE}.seed", "at least 0"),
    ({"seed": 2**32}, f"{HERE}.seed", "at most 4294967295"),
    ({"num_threads": 0}, f"{HERE}.num_threads", "at least 1"),
    ({"cache": b"yes"}, f"{HERE}.cache", "true or false"),
    ({"budget": binaries(max_calls=1)}, f"{HERE}.budget", "did you mean `max_lm_calls`?"),
    ({"budget": binaries(max_lm_calls=1.5)}, f"{HERE}.budget.max_lm_calls", "an integer"),
    ({"budget": binaries(max_seconds=-1)}, f"{HERE}.budget.max_seconds", "at least 0"),
    ({"options": binaries(num_trials=1)}, f"{HERE}.options", "unknown key `num_trials`"),
    ({"options": binaries(metric_threshold=75)}, f"{HERE}.options.metric_threshold", "at most 1"),
    (
        {"options": binaries(stop_at_score=90), "optimizer": b"random_search"},
        f"{HERE}.options.stop_at_score",
        "at most 1",
    ),
    ({"options": binaries(k=-1), "optimizer": b"labeled_few_shot"}, f"{HERE}.options.k", "at least 0"),
    ({"options": binaries(auto=b"full"), "optimizer": b"mipro"}, f"{HERE}.options.auto", "one of heavy, light, medium"),
    (
        {"options": binaries(auto=b"light", num_trials=3), "optimizer": b"mipro"},
        f"{HERE}.options.num_trials",
        "give one of the two",
    ),
    (
        {"options": binaries(minibatch_size=11), "optimizer": b"mipro"},
        f"{HERE}.options.minibatch_size",
        "at most 10, the number of",
    ),
    ({"options": []}, f"{HERE}.options", "expected a map"),
]


@pytest.mark.parametrize(("config", "path", "message"), REFUSALS)
def test_a_config_that_cannot_be_taken_is_refused_with_its_place(
    config: dict[str, object], path: str, message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        parse(**config)
    assert message in str(caught.value)
    assert caught.value.path == path


def test_a_password_in_an_address_is_refused_and_not_shown() -> None:
    with pytest.raises(ValidationError, match="without a user in it") as caught:
        parse(lm=binaries(model=b"x", api_base=b"http://user:hushhush@host"))
    assert "hushhush" not in str(caught.value)


def test_a_minibatch_may_be_large_when_there_is_none() -> None:
    options = binaries(minibatch=False, minibatch_size=99)
    assert parse(optimizer=b"mipro", options=options).options == {"minibatch": False, "minibatch_size": 99}


@pytest.mark.parametrize("term", [None, [], b"x", 1, (1, 2)])
def test_a_config_is_a_map(term: object) -> None:
    with pytest.raises(ValidationError, match="expected a map") as caught:
        parse_config(Place(term, HERE), None, count=1, outputs=None)
    assert caught.value.path == HERE
