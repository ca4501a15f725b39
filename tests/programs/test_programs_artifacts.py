"""Envelopes: what is written comes back as it was, and nothing else is let in."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from program_jobs import atoms, plain

from erlbridge.codec import Atom, Pid, TermMap, binary_to_term, term_to_binary
from erlbridge.core.modules import parse_module
from erlbridge.core.signatures import Field, FieldType, Signature
from erlbridge.errors import ValidationError
from erlbridge.programs.artifacts import Artifact, capture, fresh
from erlbridge.programs.dataset_sum import DatasetSum
from erlbridge.programs.envelopes import envelope, pack, read_envelope, unpack
from erlbridge.programs.modules import Recipe
from erlbridge.wire.place import Place

SIGNATURE = Signature(
    (Field("question"), Field("context", FieldType("list", FieldType("string")))),
    (
        Field("label", FieldType("enum", values=("yes", "no")), "the verdict"),
        Field("count", FieldType("integer")),
        Field("tags", FieldType("list", FieldType("enum", values=("a", "b")))),
        Field("notes", FieldType("map", FieldType("optional", FieldType("number")))),
    ),
    "Answer — häufig.",
    "My Task",
)


def artifact(module: str = "predict") -> Artifact:
    """A program with two demos, as an optimizer leaves it."""
    made = Recipe(SIGNATURE, parse_module(Place(module, "module")))
    program = made.build()
    predictor = program.predictors()[0]
    predictor.demos = [
        {"question": "q", "context": ["x"], "label": "yes", "count": 3, "tags": ["a"], "notes": {"k": 1.5, "n": None}},
        {"augmented": True, "question": "q2", "context": [], "label": "no", "count": 10**30, "tags": [], "notes": {}},
    ]
    predictor.signature = predictor.signature.with_instructions("Better instructions.")
    return capture(made, program.dump_state())


def hostile(change: Callable[[dict[str, Any]], object]) -> Place:
    """A good envelope with one change, as a host would send it."""
    term = plain(binary_to_term(term_to_binary(envelope(artifact()))))
    change(term)
    return Place(atoms(term), "program")


@pytest.mark.parametrize("module", ["predict", "chain_of_thought"])
def test_a_program_comes_back_as_it_was_written(module: str) -> None:
    before = artifact(module)
    program_id, data = pack(envelope(before))
    after = unpack(program_id, data)
    assert after == before
    assert after.instructions == "Better instructions."
    assert pack(envelope(after)) == (program_id, data)
    assert after.build().dump_state() == before.build().dump_state()


def test_a_program_keeps_its_name_types_and_descriptions() -> None:
    read = read_envelope(Place(binary_to_term(term_to_binary(envelope(artifact()))), "program"))
    assert read.recipe.signature == SIGNATURE


@pytest.mark.parametrize("made", [artifact(), replace(fresh(Recipe(SIGNATURE)), state=artifact().state)])
def test_two_programs_of_one_artifact_share_nothing(made: Artifact) -> None:
    first, second = made.build(), made.build()
    first.predictors()[0].demos[0]["question"] = "changed"
    assert second.predictors()[0].demos[0]["question"] == "q"


@pytest.mark.parametrize("module", ["predict", "chain_of_thought", "multi_chain_comparison"])
def test_the_programs_of_an_artifact_that_no_optimizer_has_seen_are_alike_and_share_no_signature(module: str) -> None:
    made = fresh(Recipe(SIGNATURE, parse_module(Place(module, "module"))))
    first, second = made.build(), made.build()
    assert first.dump_state() == second.dump_state()
    assert not {id(part.signature) for part in first.predictors()} & {
        id(part.signature) for part in second.predictors()
    }


def test_a_demo_that_its_types_do_not_allow_is_left_behind() -> None:
    made = Recipe(Signature((Field("q"),), (Field("n", FieldType("number")),)))
    program = made.build()
    program.predictors()[0].demos = [{"q": "a", "n": float("nan")}, {"q": "b", "n": 1.0, "stray": object()}]
    assert capture(made, program.dump_state()).demos == ({"q": "b", "n": 1.0},)


def test_bytes_that_are_not_what_their_id_names_are_refused() -> None:
    program_id, data = pack(envelope(artifact()))
    with pytest.raises(ValidationError, match="bytes stored as program:"):
        unpack(program_id, data[:-1])


def test_the_name_of_a_dataset_is_its_content() -> None:
    def dataset_sha256(rows: list[dict[str, object]]) -> str:
        summed = DatasetSum(len(rows))
        for row in rows:
            summed.add(row)
        return summed.hexdigest()

    rows: list[dict[str, object]] = [{"q": "a", "n": 1}, {"q": "b", "n": 2}]
    assert dataset_sha256(rows) == dataset_sha256([dict(reversed(row.items())) for row in rows])
    assert dataset_sha256(rows) != dataset_sha256(rows[::-1])
    assert len(dataset_sha256(rows)) == 64


def state(term: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = term["state"]["answer"]
    return found


def first(term: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = term["signature"]["input_fields"][0]
    return found


def demo(term: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = state(term)["demos"][0]
    return found


def described(term: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = state(term)["signature"]["fields"][0]
    return found


A = "program.state.answer"
FIELD = "program.signature.input_fields[0]"

REFUSALS: list[tuple[Callable[[dict[str, Any]], object], str, str]] = [
    (lambda t: t.update(format=2), "program.format", "expected the format 1, got 2"),
    (lambda t: t.update(format="1"), "program.format", "expected an integer"),
    (lambda t: t.pop("state"), "program", "expected the key `state`"),
    (lambda t: t.update(lm={"api_base": "http://evil"}), "program", "unknown key `lm`"),
    (lambda t: t.update(pickle=b"\x80\x04"), "program", "unknown key `pickle`"),
    (lambda t: t.update(module="code_act"), "program.module", "expected one of best_of_n, chain_of_thought"),
    (lambda t: t.update(signature="x: evilmod.T -> y"), "program.signature", "expected a map"),
    (lambda t: t["signature"].update(lm="x"), "program.signature", "unknown key `lm`"),
    (lambda t: first(t).update(type="os.system"), FIELD + ".type", "unknown type"),
    (lambda t: first(t).update(name="config"), FIELD + ".name", "is taken by DSPy itself"),
    (lambda t: t["state"].update(evil={}), "program.state", "unknown key `evil`"),
    (lambda t: t["state"].pop("answer"), "program.state", "expected the key `answer`"),
    (lambda t: state(t).update(lm={"api_base": "http://evil"}), A, "unknown key `lm`"),
    (lambda t: state(t).update(config={"api_base": "http://evil"}), A, "unknown key `config`"),
    (lambda t: state(t).update(traces=[]), A, "unknown key `traces`"),
    (lambda t: state(t).update(demos={}), A + ".demos", "expected a list"),
    (lambda t: demo(t).update(lm="x"), A + ".demos[0]", "unknown key `lm`"),
    (lambda t: demo(t).update(count="3"), A + ".demos[0].count", "expected an integer"),
    (lambda t: demo(t).update(label="maybe"), A + ".demos[0].label", "expected one of no, yes"),
    (lambda t: state(t)["demos"][1].update(augmented="yes"), A + ".demos[1].augmented", "true or false"),
    (lambda t: state(t)["signature"].update(instructions=3), A + ".signature.instructions", "expected a binary"),
    (lambda t: state(t)["signature"]["fields"].pop(), A + ".signature.fields", "a list of 6 fields"),
    (lambda t: described(t).update(prefix=None), A + ".signature.fields[0].prefix", "a binary"),
    (lambda t: described(t).update(api_base="x"), A + ".signature.fields[0]", "unknown key"),
]


@pytest.mark.parametrize(("change", "path", "message"), REFUSALS)
def test_what_may_not_stand_in_an_envelope_is_refused_by_name(
    change: Callable[[dict[str, Any]], object], path: str, message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        read_envelope(hostile(change))
    assert caught.value.path == path
    assert message in str(caught.value)


def test_what_is_nested_too_deep_is_refused() -> None:
    nested: object = 1
    for _ in range(100):
        nested = [nested]
    with pytest.raises(ValidationError, match="at most 64 deep"):
        read_envelope(hostile(lambda term: term.update(config={"x": nested})))


def test_a_term_that_is_no_data_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"program\.usage\.x"):
        read_envelope(hostile(lambda term: term.update(usage={"x": (Atom("a"), Pid(Atom("n@h"), 1, 2, 3))})))


@pytest.mark.parametrize("term", [b"text", [], None, 1, TermMap([(1, 1), (1.0, 2)])])
def test_a_term_that_is_no_envelope_is_refused(term: object) -> None:
    with pytest.raises(ValidationError):
        read_envelope(Place(term, "program"))


def test_an_envelope_names_no_model_and_no_address() -> None:
    _, data = pack(envelope(artifact()))
    names = repr(binary_to_term(data))
    assert not any(word in names for word in ("api_base", "api_key", "Atom('lm')", "http"))


def test_reading_an_envelope_does_not_change_it() -> None:
    place = hostile(lambda term: None)
    before = copy.deepcopy(place.term)
    read_envelope(place)
    assert place.term == before
