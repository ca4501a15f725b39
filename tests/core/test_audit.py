"""The audit log's lines: what they may say, and that whatever is done to them afterwards is found where it was done."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlbridge.codec import Atom, term_to_binary
from erlbridge.core.audit import ORIGIN, Chain, Handled, Record, digest, timestamp
from erlbridge.core.audit_check import Checked, End, check, ending
from erlbridge.errors import Cancelled, Overloaded, ProcessCrashed
from erlbridge.wire import messages
from erlbridge.wire.messages import Meta, Request
from erlbridge.wire.vocabulary import atom, atom_keys

SECRET = "sk-never-to-be-seen"
OPENED: Record = {"event": "opened", "format": 1}


def written(chain: Chain, count: int, opened: Record = OPENED) -> tuple[list[bytes], Chain]:
    """A file of so many lines, its first one included, and the chain behind it."""
    lines = []
    for number in range(count):
        record = opened if number == 0 else {"event": "request", "outcome": "ok", "duration_ms": number / 8}
        line, chain = chain.line(record, 1_700_000_000_000_000_000 + number * 10**6)
        lines.append(line + b"\n")
    return lines, chain


OLDER, BETWEEN = written(Chain(), 5)
NEWER, LAST = written(BETWEEN, 4)
FILE = b"".join(OLDER)


def checked(older: list[bytes], newer: list[bytes] = NEWER) -> tuple[Checked, Checked]:
    first = check(older, None)
    return first, check(newer, first.end)


def _split(content: bytes) -> list[bytes]:
    *lines, rest = content.split(b"\n")
    return [line + b"\n" for line in lines] + ([rest] if rest else [])


# -- what is found ---------------------------------------------------------------------------------------------------


def test_a_chain_that_nobody_touched_is_whole_over_its_files() -> None:
    first, second = checked(OLDER)
    assert (first.fault, second.fault, first.torn_bytes, second.torn_bytes) == (None, None, 0, 0)
    assert (first.first, first.last, second.first, second.last) == (1, 5, 6, 9)
    assert first.first_time == "2023-11-14T22:13:20.000Z"
    assert second.end == End(LAST.sequence, LAST.head)


@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_any_changed_byte_is_found_in_its_line(offset: int, change: int) -> None:
    damaged = bytearray(FILE)
    damaged[offset] ^= change
    first, second = checked(_split(bytes(damaged)))
    line = FILE[:offset].count(b"\n") + 1
    if offset == len(FILE) - 1:  # without its newline the last line is one that was cut off
        assert (first.fault, first.lines, first.torn_bytes) == (None, 4, len(OLDER[-1]))
        assert second.fault is not None
        assert second.fault.line == 1
    else:
        assert first.fault is not None
        assert first.fault.line == line


@given(st.integers(0, 3))
def test_a_removed_line_is_found_where_it_is_missing(index: int) -> None:
    first, _ = checked(OLDER[:index] + OLDER[index + 1 :])
    assert first.fault is not None
    assert (first.fault.line, "removed" in first.fault.what) == (index + 1, True)


@given(st.permutations(range(5)).filter(lambda order: order != list(range(5))))
def test_lines_in_another_order_are_found(order: list[int]) -> None:
    first, _ = checked([OLDER[index] for index in order])
    assert first.fault is not None
    assert first.fault.line == next(place for place, index in enumerate(order) if place != index) + 1


@given(st.integers(0, 5), st.integers(0, 4))
def test_a_line_said_twice_is_found(where: int, which: int) -> None:
    first, _ = checked([*OLDER[:where], OLDER[which], *OLDER[where:]])
    assert first.fault is not None
    # Said twice in a row, either of the two may be the one too many.
    assert first.fault.line == (where + 1 if which != where else where + 2)


@given(st.integers(1, 5), st.dictionaries(st.sampled_from(["event", "outcome", "id"]), st.text(max_size=5)))
def test_a_line_made_up_with_a_right_sum_is_found(where: int, record: dict[str, Any]) -> None:
    forged, _ = Chain(where, digest(OLDER[where - 1][:-1])).line(record, 0)
    first, second = checked([*OLDER[:where], forged + b"\n", *OLDER[where:]])
    if where < 5:
        assert first.fault is not None
        assert first.fault.line == where + 2, "the line behind it was written behind another one"
    else:
        assert second.fault is not None
        assert second.fault.line == 1


def test_a_line_rewritten_with_a_right_sum_breaks_the_line_behind_it() -> None:
    before = Chain(2, digest(OLDER[1][:-1]))
    forged, _ = before.line({"event": "request", "outcome": "ok", "cost_usd": 0.0}, 0)
    first, _ = checked([*OLDER[:2], forged + b"\n", *OLDER[3:]])
    assert first.fault is not None
    assert (first.fault.line, first.fault.what[:12]) == (4, "out of place")


@given(st.integers(1, len(FILE) - 1))
def test_a_file_cut_anywhere_is_found(length: int) -> None:
    cut = FILE[:length]
    first, second = checked(_split(cut))
    whole, torn = cut.count(b"\n"), len(cut) - cut.rfind(b"\n") - 1
    assert (first.fault, first.lines, first.torn_bytes) == (None, whole, torn)
    assert second.fault is not None
    assert second.fault.line == 1


def test_a_missing_file_is_found_in_the_one_behind_it() -> None:
    third, _ = written(LAST, 3)
    fault = check(third, check(OLDER, None).end).fault
    assert fault is not None
    assert fault.what == "removed: sequence number 10 where 6 was to come"
    assert check(third, None).fault is None, "what came before may have been rotated away"


def test_only_a_head_noted_elsewhere_shows_that_the_last_lines_were_cut_away() -> None:
    noted = digest(OLDER[4][:-1])
    assert check(OLDER, None, [noted]).heads == {noted: 5}
    shortened = check(OLDER[:4], None, [noted])
    assert (shortened.fault, shortened.heads) == (None, {})


def test_a_head_counts_only_before_the_first_fault() -> None:
    noted = digest(OLDER[4][:-1])
    assert check([*OLDER[:2], OLDER[2].replace(b"0.25", b"0.26"), *OLDER[3:]], None, [noted]).heads == {}


def test_a_line_cut_off_by_a_crash_is_whole_when_the_next_file_tells_of_it() -> None:
    torn = OLDER[4][:100]
    end = check([*OLDER[:4], torn], None).end
    chain = Chain(4, digest(OLDER[3][:-1]))
    told, _ = written(chain, 2, {**OPENED, "torn_bytes": 100, "torn_sha256": digest(torn)})
    assert check(told, end).fault is None
    for untrue in (OPENED, {**OPENED, "torn_bytes": 100, "torn_sha256": digest(b"")}):
        fault = check(written(chain, 2, untrue)[0], end).fault
        assert fault is not None
        assert fault.line == 1


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"[" * 50_000,
        b'{"sum":1}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":NaN}',
        b"\xff\xfe",
        b'{"a":"\\ud800"}',
        b"x" * 70_000,
    ],
    ids=lambda line: repr(line[:12]),
)
def test_what_is_no_line_of_a_log_is_a_fault_and_never_an_exception(line: bytes) -> None:
    for place in (0, 2):
        found = check([*OLDER[:place], line + b"\n", *OLDER[place:]], None)
        assert found.fault is not None
        assert found.fault.line == place + 1


def test_a_file_of_another_format_is_refused_by_its_number() -> None:
    found = check(written(Chain(), 2, {**OPENED, "format": 2})[0], None)
    assert found.fault is not None
    assert "format 2; this version reads 1" in found.fault.what


# -- where a writer goes on ------------------------------------------------------------------------------------------


@given(st.integers(0, len(FILE)))
def test_a_writer_goes_on_behind_the_last_whole_line(length: int) -> None:
    found = ending(FILE[:length], whole=True)
    whole = FILE[:length].count(b"\n")
    head = digest(OLDER[whole - 1][:-1]) if whole else ORIGIN
    assert found == End(whole or None, head, FILE[:length].rpartition(b"\n")[2])


def test_a_writer_counts_on_behind_a_damaged_line() -> None:
    damaged = OLDER[4].replace(b"ok", b"no!")
    assert ending(b"".join(OLDER[:3]) + b"no line\n" + damaged, whole=True) == End(5, digest(damaged[:-1]))
    assert ending(b"cut in the middle\nno line\n", whole=False) == End(None, digest(b"no line"))


# -- what lines say --------------------------------------------------------------------------------------------------


def handled(request: Request | None, **known: Any) -> Handled:
    key = term_to_binary(None if request is None else request.id, deterministic=True)
    return Handled(key, request, 17, digest(b"frame"), 10.0, **known)


def test_an_answered_request_is_told_with_who_asked_what_it_cost_and_who_worked() -> None:
    meta = Meta(source="billing", version="2.1", trace=f"00-{'ab' * 16}-{'cd' * 8}-01")
    request = Request("predict", 7, {"input": SECRET}, meta)
    metrics = atom_keys({"lm_calls": 3, "input_tokens": 40, "output_tokens": 5, "cost_usd": 0.25, "cached_calls": 1})
    name = b"program:" + b"0f" * 32
    answer = messages.ok(7, atom_keys({"status": atom("success"), "metrics": metrics, "program_id": name}))
    record = handled(request, sent_at=10.5, worker=2).record(answer, 99, digest(b"answer"), 12.0)
    assert record == {
        "event": "request",
        "verb": "predict",
        "id": 7,
        "id_sha256": digest(term_to_binary(7))[:16],
        "source": "billing",
        "version": "2.1",
        "trace_id": "ab" * 16,
        "request_bytes": 17,
        "request_sha256": digest(b"frame"),
        "answer_bytes": 99,
        "answer_sha256": digest(b"answer"),
        "lm_calls": 3,
        "input_tokens": 40,
        "output_tokens": 5,
        "cost_usd": 0.25,
        "program_id": name.decode(),
        "worker": 2,
        "waited_ms": 500.0,
        "duration_ms": 2000.0,
        "outcome": "ok",
    }


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (Overloaded(SECRET, context={"waiting": 3}), {"outcome": "overloaded"}),
        (
            ProcessCrashed(SECRET, traceback=SECRET, context={"reason": atom("signal")}),
            {"outcome": "process_crashed", "reason": "signal"},
        ),
        (Cancelled(SECRET, context={"lm_calls": 4, "best_program": SECRET}), {"outcome": "cancelled", "lm_calls": 4}),
    ],
    ids=["overloaded", "process_crashed", "cancelled"],
)
def test_an_error_is_told_by_its_type_and_reason_alone(failure: Any, told: dict[str, Any]) -> None:
    record = handled(Request("predict", 7, SECRET)).record(messages.error(7, failure), 1, "", 10.0)
    assert {name: record[name] for name in ("outcome", "reason", "lm_calls") if name in record} == told
    assert SECRET not in json.dumps(record)


def test_an_id_that_may_hold_text_is_told_by_a_hash_alone() -> None:
    for private in (SECRET.encode(), Atom(SECRET), (SECRET.encode(), 1), 2**80, True):
        record = handled(Request("predict", private, None)).record(messages.ok(private, None), 1, "", 10.0)
        assert "id" not in record
        assert SECRET not in json.dumps(record)
        assert record["id_sha256"] == digest(term_to_binary(private, deterministic=True))[:16]


leaves: st.SearchStrategy[object] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.just(SECRET),
    st.just(SECRET.encode()),
    st.just(Atom(SECRET)),
)
names = ["metrics", "optimization_metrics", "lm_calls", "cost_usd", "program_id", "error_type", "context", "reason"]
results = st.recursive(
    leaves, lambda inner: st.dictionaries(st.sampled_from(names).map(atom), inner) | st.lists(inner), max_leaves=8
)


@given(st.sampled_from(["ok", "error"]), results, leaves)
def test_whatever_an_answer_holds_a_line_of_it_can_be_written_and_shows_no_text(
    kind: str, term: object, request_id: object
) -> None:
    request = Request(SECRET, request_id, term, Meta(trace=SECRET))
    record = handled(request).record((atom(kind), request_id, term), 1, digest(b""), 11.0)
    line, _ = Chain().line(record, 0)
    assert SECRET.encode() not in line
    assert len(line) < 1000


def test_what_a_host_says_of_itself_is_bounded_and_stays_on_its_line() -> None:
    meta = Meta(source='"}\n{"event":"forged"}' + "ü" * 10_000, version="\x00" * 10_000)
    line, _ = Chain().line(handled(Request("predict", 1, None, meta)).record(None, 0, "", 11.0), 0)
    assert b"\n" not in line
    assert len(line) < 3000
    assert json.loads(line)["outcome"] == "unanswered"
    assert line.isascii()


def test_times_are_utc_to_the_millisecond() -> None:
    assert timestamp(1_700_000_000_123_999_999) == "2023-11-14T22:13:20.123Z"
