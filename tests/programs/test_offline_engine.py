"""The offline LM as an engine of DSPy: its contract, its answers by type, and what it refuses."""

import asyncio
import copy
import enum
import gc
import pathlib
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import dspy
import pytest
from dspy.lm15 import Message, Request
from pydantic import BaseModel

from erlbridge.programs import offline, offline_prompt
from erlbridge.programs.offline import AsyncOfflineEngine, OfflineEngine, offline_lm

FRUITS = [
    dspy.Example(note="sour and yellow, good in tea", fruit="lemon"),
    dspy.Example(note="crisp and red, falls from the tree in autumn", fruit="apple"),
    dspy.Example(note="long, yellow and sweet, monkeys peel it", fruit="banana"),
]


def sorter(signature: Any = "note -> fruit", demos: Any = FRUITS) -> Any:
    program = dspy.Predict(signature)
    program.demos = list(demos)
    return program


def ask(program: Any, lm: Any = None, adapter: Any = None, **inputs: Any) -> Any:
    with dspy.context(lm=lm or offline_lm(), adapter=adapter or dspy.ChatAdapter(use_json_adapter_fallback=False)):
        return program(**inputs)


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter(use_json_adapter_fallback=False), dspy.JSONAdapter()])
@pytest.mark.parametrize(
    ("note", "fruit"), [("a sour thing for tea", "lemon"), ("monkeys like to peel them", "banana")]
)
def test_the_most_similar_demo_gives_the_answer_whatever_the_adapter(adapter: Any, note: str, fruit: str) -> None:
    assert ask(sorter(), adapter=adapter, note=note).fruit == fruit


def test_a_rule_line_in_the_instructions_is_followed_without_any_demo() -> None:
    rules = (
        'Sort.\nIf the input mentions "peel" or "monkey", fruit is banana.\n'
        'If the input mentions "tea", fruit is "lemon".'
    )
    program = sorter(dspy.Signature("note -> fruit", rules), demos=[])
    assert ask(program, note="Monkeys were peeling it").fruit == "banana"
    assert ask(program, note="cut it into the tea").fruit == "lemon"


def test_a_rule_for_another_field_says_nothing() -> None:
    rules = 'If the input mentions "tea", colour is "green".'
    assert ask(sorter(dspy.Signature("note -> fruit", rules)), note="crisp, with tea").fruit != "green"


def test_the_reasoning_names_the_demos_it_followed() -> None:
    program = dspy.ChainOfThought("note -> fruit")
    program.predict.demos = FRUITS
    answer = ask(program, note="monkeys peel it")
    assert answer.fruit == "banana"
    assert "example 3" in answer.reasoning


def test_the_reasoning_of_a_guess_says_that_it_is_one() -> None:
    answer = ask(
        dspy.ChainOfThought(dspy.Signature({"note": (str, dspy.InputField()), "kind": (bool, dspy.OutputField())})),
        note="x",
    )
    assert "guess" in answer.reasoning


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


class Point(BaseModel):
    x: int
    tags: list[str]
    label: Literal["a", "b"]


TYPED = {
    "flag": bool,
    "count": int,
    "share": float,
    "tags": list[str],
    "kind": Literal["one", "it's two"],
    "level": Literal[1, 2],
    "size": Size,
    "table": dict[str, int],
    "pair": tuple[int, str],
    "point": Point,
    "maybe": str | None,
}


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter(use_json_adapter_fallback=False), dspy.JSONAdapter()])
def test_every_output_type_gets_a_value_of_that_type_without_any_demo(adapter: Any) -> None:
    fields: dict[str, Any] = {"a": (str, dspy.InputField())}
    fields |= {name: (kind, dspy.OutputField()) for name, kind in TYPED.items()}
    answer = ask(dspy.Predict(dspy.Signature(fields)), adapter=adapter, a="words")
    assert isinstance(answer.flag, bool)
    assert isinstance(answer.count, int)
    assert isinstance(answer.share, float)
    assert answer.kind in ("one", "it's two")
    assert answer.level in (1, 2)
    assert answer.size in Size
    assert (answer.tags, answer.table) == ([], {})
    assert isinstance(answer.point, Point)


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter(use_json_adapter_fallback=False), dspy.JSONAdapter()])
def test_several_typed_outputs_come_from_the_demos(adapter: Any) -> None:
    fields: dict[str, Any] = {"a": (str, dspy.InputField()), "n": (int, dspy.InputField())}
    fields |= {
        "flag": (bool, dspy.OutputField()),
        "count": (int, dspy.OutputField()),
        "tags": (list[str], dspy.OutputField()),
    }
    demos = [
        dspy.Example(a="rain and wind", n=1, flag=True, count=7, tags=["wet"]),
        dspy.Example(a="sun and heat", n=2, flag=False, count=30, tags=["dry", "hot"]),
    ]
    program = sorter(dspy.Signature(fields), demos)
    assert ask(program, adapter=adapter, a="heat", n=9).toDict() == {"flag": False, "count": 30, "tags": ["dry", "hot"]}
    assert ask(program, adapter=adapter, a="windy", n=9).toDict() == {"flag": True, "count": 7, "tags": ["wet"]}


def test_a_demo_without_the_output_does_not_vote_for_its_placeholder() -> None:
    program = sorter(demos=[dspy.Example(note="monkeys peel it"), *FRUITS])
    assert ask(program, note="monkeys peel it").fruit == "banana"


def test_a_value_outside_a_closed_type_is_never_answered() -> None:
    closed = dspy.Signature(
        {"note": (str, dspy.InputField()), "fruit": (Literal["lemon", "apple"], dspy.OutputField())}
    )
    assert ask(sorter(closed), note="monkeys peel it").fruit in ("lemon", "apple")


def test_field_markers_inside_a_value_are_text() -> None:
    assert ask(sorter(), note="monkeys peel it\n[[ ## other ## ]]\nand more").fruit == "banana"


def test_the_same_prompt_and_seed_give_the_same_answer_in_every_engine() -> None:
    kinds = tuple("abcdefgh")
    closed = dspy.Signature({"note": (str, dspy.InputField()), "kind": (Literal[kinds], dspy.OutputField())})  # type: ignore[valid-type]
    drawn = {
        seed: [ask(sorter(closed, []), offline_lm(seed=seed), note=f"note {i}").kind for i in range(16)]
        for seed in (0, 1)
    }
    assert drawn[0] == [ask(sorter(closed, []), offline_lm(seed=0), note=f"note {i}").kind for i in range(16)]
    assert drawn[0] != drawn[1]
    assert len(set(drawn[0])) > 4


def test_many_threads_get_the_answers_that_one_thread_gets() -> None:
    lm, program = offline_lm(), sorter()
    notes = [f"{word} {i}" for i in range(20) for word in ("sour tea", "crisp autumn", "monkeys peel")]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda note: ask(program, lm, note=note).fruit, notes))
    assert together == [ask(program, lm, note=note).fruit for note in notes]


def test_usage_counts_the_words_of_prompt_and_answer() -> None:
    response = OfflineEngine().complete(request())
    said = response.message.text
    assert response.usage.input_tokens == len(SYSTEM.split()) + len(USER.split())
    assert response.usage.output_tokens == len(said.split())
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


def test_usage_reaches_the_usage_tracker() -> None:
    with dspy.context(lm=offline_lm(), track_usage=True):
        usage = sorter()(note="sour").get_lm_usage()
    assert usage["offline"]["prompt_tokens"] > 50


SYSTEM = """Your input fields are:
1. `q` (str):
Your output fields are:
1. `a` (Literal['x', 'y']):
All interactions will be structured in the following way, with the appropriate values filled in.

[[ ## q ## ]]
{q}

[[ ## a ## ]]
{a}        # note: the value you produce must exactly match (no extra characters) one of: x; y

[[ ## completed ## ]]
In adhering to this structure, your objective is:
        Choose."""
USER = "[[ ## q ## ]]\nwords\n\nRespond with the corresponding output fields, starting with the field `[[ ## a ## ]]`."


def request(system: str | None = SYSTEM, user: str = USER) -> Request:
    return Request(model="offline", system=system, messages=(Message.user(user),))


def test_a_stream_carries_the_same_text_and_usage_in_many_pieces() -> None:
    engine = OfflineEngine()
    whole = engine.complete(request())
    first, *deltas, last = engine.stream(request())
    assert first.type == "start"
    assert len(deltas) > 5
    assert "".join(event.delta.text for event in deltas) == whole.message.text
    assert last.usage == whole.usage


def test_streamify_delivers_the_answer_in_pieces() -> None:
    async def collect() -> tuple[list[str], Any]:
        stream = dspy.streamify(
            sorter(), stream_listeners=[dspy.streaming.StreamListener(signature_field_name="fruit")]
        )
        pieces, answer = [], None
        async for item in stream(note="monkeys peel it"):
            if isinstance(item, dspy.streaming.StreamResponse):
                pieces.append(item.chunk)
            elif isinstance(item, dspy.Prediction):
                answer = item
        return pieces, answer

    with dspy.context(lm=offline_lm()):
        pieces, answer = asyncio.run(collect())
    assert "".join(pieces).strip() == "banana" == answer.fruit


def test_an_awaited_call_answers_as_a_plain_one() -> None:
    with dspy.context(lm=offline_lm()):
        assert asyncio.run(sorter().acall(note="monkeys peel it")).fruit == "banana"


def test_a_deep_copy_is_the_engine_itself() -> None:
    engine = OfflineEngine()
    assert copy.deepcopy(engine) is engine
    twin = AsyncOfflineEngine(engine)
    assert copy.deepcopy(twin) is twin
    assert copy.deepcopy(dspy.LM("offline", engine=engine, cache=False)).engine is engine


def test_state_round_trips_through_dspy_and_holds_two_numbers() -> None:
    lm = offline_lm(seed=5, latency_s=0.001)
    state = lm.dump_state()
    assert state["engine"] == {
        "class": "erlbridge.programs.offline:OfflineEngine",
        "state": {"seed": 5, "latency_s": 0.001},
    }
    loaded = dspy.LM.load_state(state, allow_custom_lm_class=True)
    assert (loaded.engine.seed, loaded.engine.latency_s) == (5, 0.001)
    assert AsyncOfflineEngine.load_state(state["engine"]["state"]).engine.seed == 5


@pytest.mark.parametrize(
    ("system", "user"),
    [
        (None, "What is the capital of France?"),
        ("Be brief.", "hello"),
        (SYSTEM.replace("Your output fields are:", "And:"), USER),
        (SYSTEM.replace("1. `a`", "- a"), USER),
        (SYSTEM.replace("In adhering to this structure, your objective is:", "Now:"), USER),
    ],
)
def test_a_prompt_of_another_form_is_an_invalid_request(system: str | None, user: str) -> None:
    with pytest.raises(dspy.lm15.InvalidRequestError, match="reads only prompts of DSPy's chat and JSON adapters"):
        OfflineEngine().complete(request(system, user))


def test_a_prompt_that_ends_with_the_assistant_is_an_invalid_request() -> None:
    turns = (Message.user(USER), Message.assistant("[[ ## a ## ]]\nx"))
    with pytest.raises(dspy.lm15.InvalidRequestError, match="there is no question"):
        OfflineEngine().complete(Request(model="offline", system=SYSTEM, messages=turns))


def test_dspy_raises_its_own_invalid_request_error_and_does_not_retry() -> None:
    started = time.monotonic()
    with pytest.raises(dspy.LMInvalidRequestError) as raised:
        offline_lm()("hello")
    assert not dspy.is_retryable_lm_error(raised.value)
    assert time.monotonic() - started < 2


def test_latency_paces_each_call_and_may_not_be_negative() -> None:
    started = time.monotonic()
    OfflineEngine(latency_s=0.02).complete(request())
    assert time.monotonic() - started >= 0.02
    with pytest.raises(ValueError, match=r"latency of -1 s, expected 0 or more"):
        OfflineEngine(latency_s=-1)


def test_a_call_with_sixteen_demos_takes_a_few_milliseconds() -> None:
    seen: list[Request] = []

    class Recording(OfflineEngine):
        def complete(self, request: Request) -> Any:
            seen.append(request)
            return super().complete(request)

    program = sorter(
        demos=[dspy.Example(note=f"{d.note} {'word ' * 40}{i}", fruit=d.fruit) for i in range(6) for d in FRUITS][:16]
    )
    ask(program, dspy.LM("offline", engine=Recording(), cache=False), note="monkeys peel it")
    spent = []
    for _ in range(20):
        started = time.perf_counter()
        OfflineEngine().complete(seen[0])
        spent.append(time.perf_counter() - started)
    assert min(spent) < 0.003


def test_the_code_holds_no_word_of_the_demo_data() -> None:
    folder = pathlib.Path(offline.__file__).parent
    source = " ".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("offline*.py")))
    words = set(re.findall(r"[a-z]+", source.lower()))
    rows = (folder.parent / "data" / "support_tickets.tsv").read_text(encoding="utf-8").splitlines()
    labels = {row.split("\t")[2] for row in rows[1:]}
    assert len(labels) == 4
    assert not words & {*labels, "ticket", "tickets", "category", "refund", "invoice", "password", "parcel", "courier"}


def test_a_demo_without_marked_fields_is_a_demo_without_values() -> None:
    from erlbridge.programs.offline_prompt import Demo, read_prompt

    messages = dspy.ChatAdapter().format(dspy.Signature("note -> fruit"), [], {"note": "sour"})
    system, question = (message["content"] for message in messages)
    prompt = read_prompt(system, [("user", "hello"), ("assistant", "good day"), ("user", question)])
    assert (prompt.demos, prompt.values) == ((Demo({}, {}),), {"note": "sour"})


def test_examples_are_read_back_while_other_threads_read_theirs() -> None:
    """CPython 3.11 counts the depth of the trees of all threads together: where another thread gets its turn within
    one, as it does when garbage is collected there, reading a literal now and then ends with a `SystemError`."""
    shown = f"[Example({ {f'key{number}': 'value' for number in range(60)} }) (input_keys={{'key0'}})]"
    threshold = gc.get_threshold()

    def give_way(phase: str, _info: dict[str, int]) -> None:
        time.sleep(0)

    def read(_number: int) -> int:
        return sum(len(demo.outputs) for _ in range(200) for demo in offline_prompt._example_reprs(shown))

    gc.callbacks.append(give_way)
    gc.set_threshold(50)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(read, range(8))) == [200 * 59] * 8
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(give_way)
