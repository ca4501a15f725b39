"""The payload of train_model, and the names of trained models, read and checked."""

from __future__ import annotations

from typing import Any

import pytest

from erlbridge.codec import Atom
from erlbridge.core.jobs import parse_job, stored_programs
from erlbridge.core.training import TrainModel
from erlbridge.errors import ValidationError

MODEL = "offline:" + "a" * 64
PROGRAM = "program:" + "b" * 64
DATA = [{b"question": b"1 + 1", b"answer": b"2"}]


def payload(**entries: object) -> dict[Any, Any]:
    base = {"signature": b"question -> answer", "training_data": DATA, "config": {Atom("lm"): Atom("offline")}}
    return {Atom(key): value for key, value in {**base, **entries}.items() if value is not None}


def test_a_training_is_a_bootstrap_finetune() -> None:
    job = parse_job("train_model", payload())
    assert isinstance(job, TrainModel)
    assert (job.config.optimizer, job.teacher, job.validation_data) == ("bootstrap_finetune", None, None)


def test_a_job_needs_its_teacher_and_the_trained_models_it_names() -> None:
    config = {Atom("lm"): MODEL.encode(), Atom("teacher_lm"): {Atom("model"): MODEL.encode()}}
    job = parse_job("train_model", payload(config=config, teacher=PROGRAM.encode()))
    assert stored_programs(job) == (PROGRAM, MODEL)
    assert job.config.lm.offline
    assert job.config.lm.trained


@pytest.mark.parametrize(
    ("changed", "path", "expected"),
    [
        ({"training_data": []}, "payload.training_data", "at least one example"),
        ({"training_data": None}, "payload", "expected the key `training_data`"),
        ({"program": PROGRAM.encode()}, "payload", "expected one of `signature`, `pipeline` and `program`"),
        ({"teacher": b"program:1"}, "payload.teacher", "64 hexadecimal digits"),
        ({"epochs": 3}, "payload", "unknown key `epochs`"),
        (
            {"config": {Atom("lm"): Atom("offline"), Atom("optimizer"): Atom("mipro_v2")}},
            "payload.config.optimizer",
            "expected bootstrap_finetune, or nothing",
        ),
        ({"config": {Atom("lm"): b"offline:../../etc/passwd"}}, "payload.config.lm", "64 hexadecimal digits"),
        (
            {"config": {Atom("lm"): {Atom("model"): MODEL.encode(), Atom("api_key_env"): b"K"}}},
            "payload.config.lm",
            "takes no",
        ),
    ],
)
def test_what_is_wrong_is_refused_with_its_path(changed: dict[str, Any], path: str, expected: str) -> None:
    with pytest.raises(ValidationError, match=expected) as caught:
        parse_job("train_model", payload(**changed))
    assert caught.value.path == path
