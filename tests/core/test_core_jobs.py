"""Payloads become jobs, or are refused with their place before they cost anything."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erlbridge.codec import Atom, ImproperList, TermMap
from erlbridge.core.jobs import EvaluatePipeline, GivenProgram, OptimizeSignature, Predict, StoredProgram, parse_job
from erlbridge.core.signatures import Signature
from erlbridge.errors import UnknownVerb, ValidationError

PROGRAM = b"program:" + b"0f" * 32
CONFIG = {Atom("lm"): Atom("offline")}
ROW = {b"q": b"x", b"a": b"y"}


def payload(**entries: object) -> dict[object, object]:
    return {Atom(key): value for key, value in {"config": CONFIG, **entries}.items()}


def test_an_optimization_is_read() -> None:
    job = parse_job("optimize_signature", payload(signature=b"q -> a", training_data=[ROW], validation_data=None))
    assert isinstance(job, OptimizeSignature)
    assert isinstance(job.source, Signature)
    assert (len(job.training_data), job.validation_data) == (1, None)


def test_an_optimization_goes_on_from_a_stored_program() -> None:
    job = parse_job("optimize_signature", payload(signature=PROGRAM, training_data=[ROW], validation_data=[ROW, ROW]))
    assert isinstance(job, OptimizeSignature)
    assert job.source == StoredProgram(PROGRAM.decode())
    assert job.validation_data is not None
    assert len(job.validation_data) == 2


def test_an_evaluation_takes_a_stored_program_a_given_one_or_a_signature() -> None:
    sources = [{"program": PROGRAM}, {"program": {b"format": 1}}, {"signature": b"q -> a"}]
    found = [parse_job("evaluate_pipeline", payload(**source, data=[ROW])) for source in sources]
    assert all(isinstance(job, EvaluatePipeline) for job in found)
    assert [type(job.source) for job in found] == [StoredProgram, GivenProgram, Signature]


def test_a_prediction_takes_one_input_or_a_batch() -> None:
    one = parse_job("predict", payload(program=PROGRAM, input=ROW))
    many = parse_job("predict", payload(program=PROGRAM, inputs=[ROW, ROW]))
    assert isinstance(one, Predict)
    assert isinstance(many, Predict)
    assert (one.batch, [item.path for item in one.inputs]) == (False, ["payload.input"])
    assert (many.batch, [item.path for item in many.inputs]) == (True, ["payload.inputs[0]", "payload.inputs[1]"])


def test_a_metric_beside_the_config_is_read() -> None:
    job = parse_job("evaluate_pipeline", payload(program=PROGRAM, data=[ROW], metric=b"f1"))
    assert job.config.metric.name == "f1"


REFUSALS = [
    ("optimize_signature", payload(signature=b"q -> a"), "payload", "expected the key `training_data`"),
    (
        "optimize_signature",
        payload(training_data=[ROW]),
        "payload",
        "expected one of `signature`, `pipeline` and `program`",
    ),
    (
        "optimize_signature",
        payload(signature=b"q -> a", training_data=[]),
        "payload.training_data",
        "at least one example",
    ),
    (
        "optimize_signature",
        payload(signature=b"q -> a", training_data=(Atom("dataset"), b"x")),
        "payload.training_data",
        "a list",
    ),
    (
        "optimize_signature",
        payload(signature=b"q -> a", training_data=[ROW], validation_data=[]),
        "payload.validation_data",
        "at least one",
    ),
    ("optimize_signature", payload(signature=b"q -> a", trainset=[ROW]), "payload", "unknown key `trainset`"),
    (
        "optimize_signature",
        payload(signature=b"q", training_data=[ROW]),
        "payload.signature",
        "a program_id, `program:`",
    ),
    (
        "optimize_signature",
        payload(signature=PROGRAM[:-1], training_data=[ROW]),
        "payload.signature",
        "64 hexadecimal digits",
    ),
    (
        "optimize_signature",
        payload(signature=b"program:../../etc", training_data=[ROW]),
        "payload.signature",
        "64 hexadecimal",
    ),
    (
        "optimize_signature",
        {Atom("signature"): b"q -> a", Atom("training_data"): [ROW]},
        "payload",
        "expected the key `config`",
    ),
    ("evaluate_pipeline", payload(data=[ROW]), "payload", "expected one of `signature`, `pipeline` and `program`"),
    ("evaluate_pipeline", payload(program=PROGRAM, signature=b"q -> a", data=[ROW]), "payload", "expected one of"),
    ("evaluate_pipeline", payload(program=PROGRAM.upper(), data=[ROW]), "payload.program", "a program_id"),
    ("evaluate_pipeline", payload(program=PROGRAM, data=ImproperList((1,), 2)), "payload.data", "an improper list"),
    (
        "evaluate_pipeline",
        payload(signature=b"q -> a", data=[ROW], metric={b"name": b"f1", b"field": b"q"}),
        "payload.metric.field",
        "output fields a",
    ),
    ("predict", payload(program=PROGRAM), "payload", "either `input`, one map, or `inputs`"),
    ("predict", payload(program=PROGRAM, input=ROW, inputs=[ROW]), "payload", "either `input`, one map"),
    ("predict", payload(program=PROGRAM, inputs=[]), "payload.inputs", "at least one map"),
    ("predict", payload(program=PROGRAM, inputs={}), "payload.inputs", "expected a list"),
    ("predict", payload(program=PROGRAM, input={1: 2}), "a key of payload.input", "an atom or a binary"),
    ("predict", [], "payload", "expected a map, got an empty list"),
    ("predict", TermMap([(1, 1)]), "a key of payload", "an atom or a binary"),
]


@pytest.mark.parametrize(("verb", "term", "path", "message"), REFUSALS)
def test_a_payload_that_cannot_be_taken_is_refused_with_its_place(
    verb: str, term: object, path: str, message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        parse_job(verb, term)
    assert message in str(caught.value)
    assert caught.value.path == path


@pytest.mark.parametrize("verb", ["train", "", "x" * 10_000])
def test_a_verb_that_no_worker_knows_is_refused(verb: str) -> None:
    with pytest.raises(UnknownVerb, match="known to workers are evaluate_pipeline, load_workflow, optimize") as caught:
        parse_job(verb, {})
    assert len(caught.value.message) < 300


TERMS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.binary(max_size=8) | st.sampled_from([Atom("offline"), Atom("x")]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(
            st.sampled_from([Atom("name"), b"model", b"type", b"enum", b"input", b"q"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
ENTRIES = st.sampled_from(
    ["signature", "program", "training_data", "validation_data", "data", "metric", "config", "input", "inputs"]
).map(Atom)


@settings(deadline=None)
@given(st.sampled_from(["optimize_signature", "evaluate_pipeline", "predict"]), st.dictionaries(ENTRIES, TERMS))
def test_any_payload_is_read_or_refused(verb: str, term: dict[object, object]) -> None:
    with suppress(ValidationError):
        assert parse_job(verb, term).config
