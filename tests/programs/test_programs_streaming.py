"""A prediction told while it is written: real endpoints and the offline LM, by way of DSPy's own streaming."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from program_jobs import Endpoint, Jobs, completion, failure, plain, streaming

from erlbridge.codec import Atom
from erlbridge.errors import BudgetExceeded, Cancelled, LMFailed, OptimizationError, ValidationError

KEY = "sk-very-secret-9"
QUESTION = {"question": "What is a port?"}


def ask(jobs: Jobs, lm: object, outputs: list[object] | None = None, **config: object) -> dict[str, Any]:
    """Streams one prediction of `answer`; gives its result."""
    signature = {"input_fields": ["question"], "output_fields": outputs or ["answer"]}
    config = {"lm": lm, "cache": False, **config}
    return jobs.run("predict", {"signature": signature, "input": QUESTION, "stream": True, "config": config})[0]


def told(jobs: Jobs) -> dict[str, list[tuple[str, bool]]]:
    """The chunks of each field: text, and whether it is the last."""
    fields: dict[str, list[tuple[str, bool]]] = {}
    for chunk in jobs.watcher.chunks:
        fields.setdefault(plain(chunk.field), []).append((chunk.text, chunk.is_last))
    return fields


def check_told(jobs: Jobs, prediction: dict[str, str]) -> None:
    """The chunks of each text together are the answer's, and the last one says so."""
    found = told(jobs)
    assert {name: "".join(text for text, _ in chunks) for name, chunks in found.items()} == prediction
    assert all([last for _, last in chunks] == [False] * (len(chunks) - 1) + [True] for chunks in found.values())


@pytest.mark.parametrize("module", ["predict", "chain_of_thought"])
def test_the_offline_lm_streams_word_by_word(jobs: Jobs, module: str) -> None:
    result = ask(jobs, Atom("offline"), module=module)
    check_told(jobs, result["prediction"])
    assert [text for text, _ in told(jobs)["answer"]] == ["What", " is", " a", " port?", ""]
    assert result["metrics"]["lm_calls"] == 1
    assert list(told(jobs)) == (["reasoning", "answer"] if module == "chain_of_thought" else ["answer"])


def test_an_endpoint_streams_and_its_tokens_are_counted_once(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.always(
        streaming("[[ ## ans", "wer ## ]]\nA po", "rt \ud83d", "\ude00 [[ here\n", "\n[[ ## completed ## ]]")
    )
    result = ask(jobs, endpoint.lm())
    check_told(jobs, result["prediction"])
    assert result["prediction"] == {"answer": "A port \U0001f600 [[ here"}
    assert endpoint.requests[0]["stream"] is True
    spent = [result["metrics"][name] for name in ("lm_calls", "failed_calls", "input_tokens", "output_tokens")]
    assert spent == [1, 0, 100, 10]


def test_a_key_split_over_two_pieces_shows_in_no_chunk(
    jobs: Jobs, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WP_API_KEY", KEY)
    endpoint.always(
        streaming("[[ ## answer ## ]]\nit is sk-very", "-sec", "ret-9 and sk", "ip", "\n[[ ## completed ## ]]")
    )
    result = ask(jobs, endpoint.lm(api_key_env="WP_API_KEY"))
    check_told(jobs, result["prediction"])
    assert result["prediction"] == {"answer": "it is [redacted] and skip"}
    assert told(jobs)["answer"][0] == ("it is", False)
    assert not any("sk-" in text for text, _ in told(jobs)["answer"])


def test_an_attempt_that_failed_before_its_first_chunk_is_made_again(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.script(failure(500, "oops"), streaming("[[ ## answer ## ]]", then="break"))
    endpoint.always(streaming("[[ ## answer ## ]]\nyes\n[[ ## completed ## ]]"))
    result = ask(jobs, endpoint.lm())
    check_told(jobs, {"answer": "yes"})
    assert (result["metrics"]["lm_calls"], result["metrics"]["failed_calls"], len(endpoint.requests)) == (3, 2, 3)


def test_an_answer_that_breaks_off_after_its_first_chunk_is_an_error(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.always(streaming("[[ ## answer ## ]]\nA port ", "is", then="break"))
    with pytest.raises(LMFailed) as caught:
        ask(jobs, endpoint.lm())
    assert (caught.value.retryable, caught.value.context["failed_calls"], len(endpoint.requests)) == (True, 1, 1)
    assert not any(chunk.is_last for chunk in jobs.watcher.chunks)


def test_a_cancel_stops_a_job_in_the_middle_of_an_answer(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.always(streaming("[[ ## answer ## ]]\n", "word ", then="repeat"))
    jobs.watcher.stop_at_chunk, jobs.watcher.reason = 3, Cancelled("as asked")
    with pytest.raises(Cancelled) as caught:
        ask(jobs, endpoint.lm())
    assert (len(jobs.watcher.chunks), caught.value.context["lm_calls"], len(endpoint.requests)) == (3, 1, 1)


def test_the_end_of_the_budgets_time_stops_a_job_in_the_middle_of_an_answer(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.always(streaming("[[ ## answer ## ]]\n", "word ", then="repeat"))
    with pytest.raises(BudgetExceeded, match="seconds used") as caught:
        ask(jobs, endpoint.lm(), budget={"max_seconds": 0.5, "max_lm_calls": 1})
    assert (caught.value.context["lm_calls"], len(endpoint.requests)) == (1, 1)
    assert jobs.watcher.chunks


def test_an_answer_from_the_cache_is_told_in_one_chunk(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.always(streaming("[[ ## answer ## ]]\nA ", "port\n[[ ## completed ## ]]"))
    first = ask(jobs, endpoint.lm(), cache=True)
    jobs.watcher.chunks.clear()
    assert ask(jobs, endpoint.lm(), cache=True)["prediction"] == first["prediction"]
    assert (told(jobs), len(endpoint.requests)) == ({"answer": [("A port", True)]}, 1)


def test_only_text_is_told(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.always(streaming("[[ ## count ## ]]\n1", "2\n\n[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]"))
    result = ask(jobs, endpoint.lm(), [{"name": "count", "type": "integer"}, "answer"])
    assert result["prediction"] == {"count": 12, "answer": "yes"}
    check_told(jobs, {"answer": "yes"})


def test_without_a_text_output_nothing_is_told(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.always(completion("[[ ## count ## ]]\n12\n\n[[ ## completed ## ]]"))
    assert ask(jobs, endpoint.lm(), [{"name": "count", "type": "integer"}])["prediction"] == {"count": 12}
    assert (jobs.watcher.chunks, "stream" in endpoint.requests[0]) == ([], False)


def test_a_streamed_answer_that_cannot_be_read_is_an_error(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.always(streaming("no ", "field"))
    with pytest.raises(OptimizationError, match="cannot be read"):
        ask(jobs, endpoint.lm())
    assert (jobs.watcher.chunks, len(endpoint.requests)) == ([], 1)


def test_a_batch_is_not_streamed(jobs: Jobs) -> None:
    payload = {"signature": "question -> answer", "inputs": [QUESTION], "stream": True, "config": {"lm": "offline"}}
    with pytest.raises(ValidationError, match=r"payload\.stream: expected false beside `inputs`"):
        jobs.run("predict", payload)


def test_streaming_leaves_no_thread_behind(jobs: Jobs) -> None:
    before = set(threading.enumerate())
    ask(jobs, Atom("offline"))
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
    assert set(threading.enumerate()) <= before
