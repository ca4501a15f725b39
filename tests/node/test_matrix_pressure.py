"""A host that does not read, one that floods, a worker that prints without end: bounded memory, each request answered.

`ERLBRIDGE_LONG=1` takes the fault matrix's own sizes; otherwise they are smaller.
"""

from __future__ import annotations

import json
import os
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measures import LONG, record
from node_client import PATIENCE_S, NodeClient, alive
from tickets import prediction, slow

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.limits import (
    CANCEL_GRACE_S,
    MAX_FRAME_BYTES,
    MAX_LOG_LINES,
    MAX_LOG_LINES_PER_S,
    MAX_UNSENT_BYTES,
)
from erlbridge.wire.frames import FrameReader

STALLED_S = 30.0 if LONG else 1.0
REQUESTS = 100_000 if LONG else 5_000
PRINTING_S = 20.0 if LONG else 1.0
PRESSURE = str(Path(__file__).parent / "pressure")
DEADLINE = Atom("deadline_ms")
LATE_S = 0.25 if LONG else 1.0  # many tests share the machine when they are not alone
ROOM_BYTES = 3 * MAX_FRAME_BYTES
"""What the node needs beside what waits: a frame, its term and the frame for the host, of one answer at a time."""


def rss_bytes(node: NodeClient) -> int:
    """Memory of the node itself, which the guardian that `process` is started."""
    if not hasattr(node, "node_pid"):
        node.node_pid = int(node.health()[Atom("node")][Atom("os_pid")])
    return int(Path(f"/proc/{node.node_pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def framed(term: object) -> bytes:
    frame = term_to_binary(term)
    return len(frame).to_bytes(4) + frame


def test_a_host_that_stops_reading_grows_nothing_and_gets_every_answer_when_it_reads_again(
    start_node: Callable[..., NodeClient],
) -> None:
    workers, jobs = 4, 32 if LONG else 8
    node = start_node(
        *("--workers", str(workers), "--spare-workers", "0"),
        PYTHONPATH=PRESSURE,
        PRESSURE_PROGRESS_S="0.2",
        PRESSURE_ANSWER_BYTES=str(MAX_FRAME_BYTES - 10_000),
    )
    node.ready()
    node.wait_until_healthy()
    node.send((Atom("credit"), 10**9))
    numbers = [node.request("predict", prediction()) for _ in range(jobs)]
    before, peak = rss_bytes(node), 0
    end = time.monotonic() + STALLED_S
    while time.monotonic() < end or peak < MAX_UNSENT_BYTES // 2:
        assert time.monotonic() < end + PATIENCE_S, "nothing was answered"
        peak = max(peak, rss_bytes(node) - before)
        time.sleep(0.005)
    limit = MAX_UNSENT_BYTES + workers * MAX_FRAME_BYTES + ROOM_BYTES
    record(
        "a host that does not read, or floods",
        f"host stops reading for {STALLED_S:g} s, {jobs} answers of 16 MiB",
        "growth of the node",
        peak,
        limit,
        unit="bytes",
    )
    answered: Counter[Any] = Counter()
    for _ in numbers:
        term = node.until(lambda term: str(term[0]) in ("ok", "error"))
        assert str(term[0]) == "ok", term[2]
        answered[term[1]] += 1
        node.events.clear()
    assert answered == Counter(numbers)


def test_a_deadline_passes_for_a_host_that_does_not_read_too(node: NodeClient) -> None:
    node.wait_until_healthy()
    sent_at = time.monotonic()
    job = node.request("predict", prediction(slow(60_000)), {DEADLINE: 500})
    workers = node.health()[Atom("workers")]
    (os_pid,) = [worker[Atom("os_pid")] for worker in workers if worker[Atom("job")] is not None]
    # Each comes back with its id: the pipe gets full, and then more waits for it than may wait.
    fill = [b"%d" % number + b"x" * 1_000_000 for number in range(9)]
    for name in fill:
        node.send((Atom("health_check"), name, {}))
    # Nothing can be heard of the deadline; that the worker which does not stop is killed after its grace shows it.
    while alive(os_pid):
        assert time.monotonic() < sent_at + PATIENCE_S
        time.sleep(0.005)
    late_s = time.monotonic() - sent_at - 0.5 - CANCEL_GRACE_S
    tag, error = node.answer(job)
    assert (tag, error[Atom("error_type")]) == ("error", Atom("timeout_error"))
    record("a host that does not read, or floods", "host stops reading", "deadline late by", abs(late_s), LATE_S)


def test_a_flood_of_requests_is_answered_one_by_one_and_deadlines_hold(node: NodeClient) -> None:
    node.wait_until_healthy()
    before, peak = rss_bytes(node), 0
    heard: list[bytes] = []
    deadlines = {b"held %d" % number: 0.3 * (number + 1) for number in range(2)}
    began = time.monotonic()
    for name, span_s in deadlines.items():
        meta = {DEADLINE: int(span_s * 1000), Atom("source"): name}
        node.send((Atom("predict"), name, prediction(slow(60_000)), meta))
    request = prediction()
    # The numbers of a thousand requests stand at the same places of their frames, four bytes each (INTEGER_EXT).
    flood = b"".join(framed((Atom("predict"), 10**6 + number, request)) for number in range(1000))
    places = [flood.index(b"b" + (10**6 + number).to_bytes(4)) + 1 for number in range(1000)]

    def send() -> None:
        for thousand in range(REQUESTS // 1000):
            block = bytearray(flood)
            for number, place in enumerate(places):
                block[place : place + 4] = (10**6 + thousand * 1000 + number).to_bytes(4)
            node.send_bytes(bytes(block))

    sender = threading.Thread(target=send)
    sender.start()
    reader = FrameReader()
    assert node.process.stdout is not None
    while len(heard) < REQUESTS + len(deadlines):
        reader.feed(os.read(node.process.stdout.fileno(), 1 << 20))
        heard += [frame for frame in reader if frame[4] in (len("ok"), len("error"))]
        peak = max(peak, rss_bytes(node) - before)
    sender.join()
    took_s = time.monotonic() - began
    answers = [binary_to_term(frame) for frame in heard]
    assert Counter(term[1] for term in answers) == Counter([*range(10**6, 10**6 + REQUESTS), *deadlines])
    refused = [term for term in answers if str(term[0]) == "error" and term[1] not in deadlines]
    assert {str(term[2][Atom("error_type")]) for term in refused} == {"overloaded"}
    late = [term[2][Atom("error_type")] for term in answers if term[1] in deadlines]
    assert late == [Atom("timeout_error")] * len(deadlines)
    fault = f"host floods {REQUESTS} requests"
    record("a host that does not read, or floods", fault, "growth of the node", peak, 64 * 2**20, unit="bytes")
    record("a host that does not read, or floods", fault, "each thousand of them in", took_s / REQUESTS * 1000, 3.0)
    # A host that is slow hears of a deadline behind all the answers before; when it passed the node has written down.
    for name, span_s in deadlines.items():
        late_s = audited(node, name)["duration_ms"] / 1000 - span_s
        record("a host that does not read, or floods", fault, "deadline late by", abs(late_s), LATE_S)


def test_requests_refused_by_a_full_queue_leave_nothing_behind(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--workers", "1", "--spare-workers", "0", "--max-queue", "1")
    node.ready()
    node.wait_until_healthy()
    taken = [node.request("predict", prediction(slow(60_000))) for _ in range(2)]
    large = {**prediction(), Atom("input"): {Atom("subject"): b"x" * 4 * 2**20, Atom("body"): b""}}
    assert node.ask("predict", large)[1][Atom("error_type")] == Atom("overloaded")
    before, peak, count = rss_bytes(node), 0, 30
    for _ in range(count):
        assert node.ask("predict", large)[1][Atom("error_type")] == Atom("overloaded")
        peak = max(peak, rss_bytes(node) - before)
    fault = f"{count} requests of 4 MiB to a full queue"
    record("a host that does not read, or floods", fault, "growth of the node", peak, 24 * 2**20, unit="bytes")
    for number in taken:
        node.ask("cancel", {Atom("id"): number})


def audited(node: NodeClient, source: bytes) -> dict[str, Any]:
    """What the audit log says of the request with this source."""
    arguments = list(node.process.args)
    data = Path(arguments[arguments.index("--data") + 1])
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        for file in data.rglob("audit*.jsonl"):
            for line in file.read_bytes().splitlines():
                if b'"source":"%s"' % source in line:
                    return dict(json.loads(line))
        time.sleep(0.05)
    raise AssertionError(f"no line of {source!r}")


def test_requests_with_large_answers_are_served_as_fast_as_they_are_read(node: NodeClient) -> None:
    words = b"word " * 100_000
    signature = {**prediction()[Atom("signature")], Atom("instructions"): words}
    optimized = {
        Atom("signature"): signature,
        Atom("training_data"): [{**prediction()[Atom("input")], Atom("category"): b"shipping"}],
        Atom("config"): {Atom("lm"): Atom("offline"), Atom("optimizer"): Atom("labeled_few_shot")},
    }
    tag, made = node.ask("optimize_signature", optimized)
    assert tag == "ok", made
    before = rss_bytes(node)
    count = 60  # of half a megabyte each, for a few bytes of request each
    asked = [node.request("get_program", {Atom("program_id"): made[Atom("program_id")]}) for _ in range(count)]
    peak = 0
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        peak = max(peak, rss_bytes(node) - before)
        time.sleep(0.005)
    record(
        "a host that does not read, or floods",
        "small requests with large answers, unread",
        "growth of the node",
        peak,
        40 * 2**20,
        unit="bytes",
    )
    assert [node.answer(number)[0] for number in asked] == ["ok"] * count


def test_a_worker_that_prints_without_end_slows_nobody_and_is_stopped_at_its_deadline(
    start_node: Callable[..., NodeClient],
) -> None:
    node = start_node(
        *("--workers", "1", "--spare-workers", "0", "--credit", "1000000"),
        PYTHONPATH=PRESSURE,
        PRESSURE_PRINT_BYTES=str(10**15),
    )
    node.ready()
    (worker,) = node.wait_until_healthy()[Atom("workers")]
    before = rss_bytes(node)
    sent_at = time.monotonic()
    printing = node.request("predict", prediction(), {DEADLINE: int(PRINTING_S * 1000)})
    waits: list[float] = []
    ended_at = 0.0
    while not ended_at:
        asked_at = time.monotonic()
        asked = node.request("health_check", {})
        term: Any = None
        while term is None or term[1] != asked:
            term = node.until(lambda term: str(term[0]) in ("ok", "error"))
            if term[1] == printing:
                assert term[2][Atom("error_type")] == Atom("timeout_error")
                ended_at = time.monotonic()
        waits.append(time.monotonic() - asked_at)
    printed = int(Path(f"/proc/{worker[Atom('os_pid')]}/io").read_text().split("wchar:")[1].split()[0])
    dropped = node.health()[Atom("dropped_events")][Atom("log")]
    lines = sum(str(event[0]) == "log" for event in node.events)
    assert lines <= MAX_LOG_LINES + MAX_LOG_LINES_PER_S * (PRINTING_S + 2)
    assert (lines + dropped) * len("line of output\n") > printed / 2
    waits.sort()
    fault = f"a worker prints without end for {PRINTING_S:g} s"
    record("output of every kind", fault, "deadline late by", abs(ended_at - sent_at - PRINTING_S), LATE_S)
    record("output of every kind", fault, "median wait of health_check", statistics.median(waits), 0.02)
    record("output of every kind", fault, "99th percentile of it", waits[len(waits) * 99 // 100], LATE_S)
    record("output of every kind", fault, "growth of the node", rss_bytes(node) - before, 20 * 2**20, unit="bytes")
