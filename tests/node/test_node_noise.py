"""Whatever a process of the node prints, logs or draws leaves the wire whole and arrives as log events."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from node_client import NodeClient
from test_node_training import training
from test_node_workflows import TEXT, payload, run, serve
from tickets import HELD_OUT, KNOWN, OFFLINE, SIGNATURE, optimization, prediction

from erlbridge.codec import Atom
from erlbridge.limits import MAX_LOG_LINE_BYTES

NOISE = str(Path(__file__).parent / "noise")
KEY = "sk-noise/0123456789"
WORKER, JOB, LOGGER = Atom("worker"), Atom("job"), Atom("logger")
EVALUATION = {Atom("signature"): SIGNATURE, Atom("data"): HELD_OUT[:3], Atom("config"): OFFLINE}
PRINTED = (
    "printed in {}",
    "written in {}",
    "complained in {}",
    "from C in {}",
    "bar of {} 199",
    "child in {}",
    "nothing to read in {}",
)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeClient]:
    """A node with one worker that prints in every way, during everything that it does."""
    environment = {
        "PYTHONPATH": NOISE,
        "NOISE_KEY": KEY,
        "NOISE_NODE": "health_check list_programs cancel get_program delete_program",
        "ANY_API_KEY": KEY,
    }
    arguments = ("--workers", "1", "--spare-workers", "0", "--credit", "1000000", "--sandbox", "off")
    client = NodeClient(*arguments, data=tmp_path_factory.mktemp("noisy"), environment=environment)
    client.ready()
    yield client
    client.close()


def logged(node: NodeClient, number: int) -> list[tuple[str, str, Any]]:
    """Level, text and metadata of the lines of a job."""
    return [
        (str(event[1]), event[2].decode(), event[3])
        for event in node.events
        if str(event[0]) == "log" and event[3][JOB] == number
    ]


def ask(node: NodeClient, verb: str, request: dict[Any, Any]) -> int:
    """Has a job done, and gives its number."""
    node.events.clear()
    number = node.request(verb, request)
    tag, result = serve(node, number) if verb == "run_pipeline" else node.answer(number)
    assert tag == "ok", result
    return number


@pytest.mark.parametrize(
    ("verb", "request_", "place"),
    [
        ("predict", prediction(), "Predict"),
        ("optimize_signature", optimization(8, optimizer=Atom("labeled_few_shot")), "OptimizeSignature"),
        ("evaluate_pipeline", EVALUATION, "EvaluatePipeline"),
        ("train_model", training(), "TrainModel"),
        ("load_workflow", payload(TEXT), "LoadWorkflow"),
        ("run_pipeline", run(TEXT, training_data={b"classify": KNOWN[:8]}), "RunPipeline"),
        ("put_program", {}, "PutProgram"),
    ],
)
def test_what_is_printed_during_a_job_arrives_as_its_log_lines(
    noisy: NodeClient, verb: str, request_: dict[Any, Any], place: str
) -> None:
    if verb == "put_program":
        tag, made = noisy.ask("optimize_signature", optimization(8, optimizer=Atom("labeled_few_shot")))
        assert tag == "ok"
        request_ = {Atom("program"): made[Atom("program")]}
    lines = logged(noisy, ask(noisy, verb, request_))
    assert {line.format(place) for line in PRINTED} | {f"unended in {place}"} <= {text for _, text, _ in lines}
    assert {metadata[WORKER] for _, _, metadata in lines} == {1}
    raw = [(level, metadata[LOGGER]) for level, text, metadata in lines if text.startswith(("printed", "bar", "child"))]
    assert set(raw) == {("info", None)}
    assert sum(text.startswith("bar of") for _, text, _ in lines) == 1
    assert verb in ("load_workflow", "put_program") or any(text == "printed in a model call" for _, text, _ in lines)


def test_what_python_logs_comes_with_its_level_and_logger_and_without_keys(noisy: NodeClient) -> None:
    lines = logged(noisy, ask(noisy, "predict", prediction()))
    found = {(level, text.partition("\n")[0], (metadata[LOGGER] or b"").decode()) for level, text, metadata in lines}
    assert {
        ("error", "critical in Predict, key [redacted]", "third.party"),
        ("info", "dspy in Predict", "dspy.part"),
        ("warning", "own console in Predict", "own.console"),
        ("error", "failed in Predict", "third.party"),
        ("error", "exception in thread thread of Predict", "erlbridge.worker.logs"),
    } <= found
    assert any(logger == "py.warnings" and "warned in Predict" in text for _, text, logger in found)
    assert not any("not worth telling" in text for _, text, _ in found)
    assert not any(KEY in text for _, text, _ in lines)
    (failure,) = [text for _, text, _ in lines if text.startswith("failed in")]
    assert "Traceback" in failure
    assert "bytes left out" in failure
    assert failure.rstrip().endswith("xxx")
    assert len(failure.encode()) < MAX_LOG_LINE_BYTES + 100
    assert [text for _, text, _ in lines].count("own console in Predict") == 1


@pytest.mark.parametrize("verb", ["health_check", "list_programs", "cancel", "get_program", "delete_program"])
def test_what_the_node_itself_prints_arrives_as_warnings_of_no_worker(noisy: NodeClient, verb: str) -> None:
    noisy.events.clear()
    nothing = b"program:" + b"0" * 64
    noisy.ask(verb, {"cancel": {Atom("id"): 0}}.get(verb, {Atom("program_id"): nothing} if "program" in verb else {}))
    wanted = {line.format(f"the node for {verb}") for line in PRINTED}

    def is_last(term: Any) -> bool:
        return str(term[0]) == "log" and term[2].startswith(b"nothing to read")

    if not any(map(is_last, noisy.events)):  # an answer from the disk may come behind it
        noisy.events.append(noisy.until(is_last))
    lines = [event for event in noisy.events if str(event[0]) == "log" and b"the node for" in event[2]]
    assert {event[2].decode() for event in lines} == wanted
    assert {str(event[1]) for event in lines} == {"warning"}
    assert all(event[3] == {WORKER: None, JOB: None, LOGGER: None} for event in lines)


def test_a_dead_workers_last_words_arrive_before_its_error(start_node: Callable[..., NodeClient]) -> None:
    node = start_node(
        "--workers", "1", "--spare-workers", "0", "--credit", "1000", "--sandbox", "off", PYTHONPATH=NOISE
    )
    node.ready()
    node.wait_until_healthy()
    slow = {**OFFLINE, Atom("lm"): {Atom("model"): Atom("offline"), Atom("latency_ms"): 60_000}}
    number = node.request("predict", prediction(slow))
    node.until(lambda term: str(term[0]) == "log" and term[2].startswith(b"printed in a model"))
    (worker,) = node.health()[Atom("workers")]
    os.kill(worker[Atom("os_pid")], signal.SIGKILL)
    tag, error = node.answer(number)
    assert (tag, error[Atom("error_type")]) == ("error", Atom("process_crashed"))
    assert {line.format("Predict") for line in PRINTED} <= {text for _, text, _ in logged(node, number)}
