"""A stream that is cut anywhere, frames of noise and lengths out of bounds: nothing partial is taken, nothing grows."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cut_conversation
import eager_host
import pytest
from cut_conversation import FRAMES, STREAM, expected, in_any_order
from measures import LONG, record
from node_client import NodeClient, NodeGone
from tickets import optimization, prediction, slow

from erlbridge.codec import Atom, DecodeError, binary_to_term, term_to_binary
from erlbridge.errors import FrameError
from erlbridge.limits import MAX_FRAME_BYTES
from erlbridge.wire.frames import FrameReader

STARTS = [sum(map(len, FRAMES[:number])) for number in range(len(FRAMES))]
HEADERS = [start + byte for start in STARTS for byte in range(1, 5)]


def test_a_conversation_cut_at_any_byte_is_answered_as_far_as_it_is_whole() -> None:
    ran = subprocess.run(
        [sys.executable, cut_conversation.__file__], stdout=subprocess.PIPE, text=True, timeout=120, check=True
    )
    assert ran.stdout == f"{len(STREAM) + 1} cuts\n"


def test_requests_that_a_pause_left_unread_are_answered_though_the_host_takes_all_at_once() -> None:
    ran = subprocess.run(
        [sys.executable, eager_host.__file__], stdout=subprocess.PIPE, text=True, timeout=60, check=True
    )
    assert ran.stdout == "answered\n"


@pytest.mark.parametrize("offset", [3, *(HEADERS if LONG else ()), STARTS[1] + 50, len(STREAM)])
def test_a_real_node_ends_with_0_wherever_its_host_goes_away(
    start_node: Callable[..., NodeClient], offset: int
) -> None:
    node = start_node("--workers", "1")
    node.send_bytes(STREAM[:offset])
    node.close_wire()
    with pytest.raises(NodeGone) as gone:
        node.until(lambda _term: False)
    assert gone.value.code == 0
    answered = [(term[1], str(term[0])) for term in node.events if str(term[0]) in ("ok", "error")]
    assert in_any_order(answered) == in_any_order(expected(offset)), "those of the disk come when it has spoken"


def damaged(frames: list[bytes], rng: random.Random) -> bytes:
    """Noise, or a true frame with bytes changed, left out or added."""
    match rng.randrange(5):
        case 0:
            return rng.randbytes(rng.randrange(200))
        case 1:
            return b"\x83" + rng.randbytes(rng.randrange(200))
        case 2:
            frame = rng.choice(frames)
            return frame[: rng.randrange(len(frame))]
        case 3:
            frame = bytearray(rng.choice(frames))
            at = rng.randrange(len(frame))
            frame[at:at] = rng.randbytes(rng.randrange(1, 5))
            return bytes(frame)
        case _:
            frame = bytearray(rng.choice(frames))
            for _ in range(rng.randrange(1, 4)):
                frame[rng.randrange(len(frame))] = rng.randrange(256)
            return bytes(frame)


def test_ten_thousand_random_and_damaged_frames_leave_a_node_that_serves(node: NodeClient) -> None:
    node.wait_until_healthy()
    rng = random.Random(20)
    true = [frame[4:] for frame in FRAMES]
    true += [term_to_binary((Atom("predict"), b"p", prediction())), term_to_binary((Atom("train"), 1, optimization(2)))]
    frames = [damaged(true, rng) for _ in range(10_000)]
    before, peak = rss_bytes(node), 0
    last = term_to_binary((Atom("health_check"), b"the last", {}))
    stream = b"".join(len(frame).to_bytes(4) + frame for frame in [*frames, last])
    sender = threading.Thread(target=node.send_bytes, args=(stream,))
    sender.start()
    answers: Counter[str] = Counter()
    while (term := node.receive())[1] != b"the last":
        answers[str(term[0])] += 1
        peak = max(peak, rss_bytes(node) - before)
    sender.join()
    assert answers["error"] > 5000
    assert answers["ok"] + answers["error"] <= len(frames)
    record("the stream", "10,000 random and damaged frames", "growth of the node", peak, 50 * 2**20, unit="bytes")
    assert node.ask("predict", prediction())[0] == "ok"


def grown(node: NodeClient, before: int) -> int:
    """Bytes more than before, 0 of a node that has ended."""
    return 0 if node.process.poll() is not None else max(0, rss_bytes(node) - before)


def rss_bytes(node: NodeClient) -> int:
    """Memory of the node itself, which the guardian that `process` is started."""
    if not hasattr(node, "node_pid"):
        node.node_pid = int(node.health()[Atom("node")][Atom("os_pid")])
    return int(Path(f"/proc/{node.node_pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("length", [MAX_FRAME_BYTES + 1, *([2**31, 0xA0000000, 2**32 - 1] if LONG else ())])
def test_a_length_out_of_bounds_ends_the_node_with_4_after_what_was_whole(
    start_node: Callable[..., NodeClient], length: int
) -> None:
    node = start_node("--workers", "1")
    node.ready()
    node.health()
    before = rss_bytes(node)
    node.send((Atom("predict"), b"held", prediction(slow(60_000))))
    node.send((Atom("health_check"), b"whole", {}))
    node.send_bytes(length.to_bytes(4) + b"\x83" * 100_000)
    with pytest.raises(NodeGone) as gone:
        node.until(
            lambda _term: record(
                "the stream", f"header of {length}", "growth of the node", grown(node, before), 2 * 2**20, unit="bytes"
            )
        )
    answered = {event[1]: event[2] for event in node.events if str(event[0]) in ("ok", "error")}
    assert gone.value.code == 4
    assert set(answered) == {b"whole", None}
    assert answered[None][Atom("error_type")] == Atom("frame_error")


def test_any_cut_of_a_conversation_gives_the_whole_frames_and_no_other() -> None:
    for offset in range(len(STREAM) + 1):
        reader, frames = FrameReader(), 0
        reader.feed(STREAM[:offset])
        for frame in reader:
            assert frame == FRAMES[frames][4:]
            frames += 1
        assert sum(map(len, FRAMES[:frames])) + reader.pending_bytes == offset
        assert frames == len(FRAMES) or reader.pending_bytes < len(FRAMES[frames])


@pytest.mark.parametrize("byte", range(4))
def test_no_header_is_believed_before_it_is_whole(byte: int) -> None:
    reader = FrameReader(limit_bytes=100)
    reader.feed(b"\xff" * byte)
    assert list(reader) == []
    reader.feed(b"\xff" * (4 - byte))
    with pytest.raises(FrameError):
        list(reader)


def test_a_frame_cut_at_any_byte_is_no_term() -> None:
    for frame in FRAMES:
        for end in range(4, len(frame)):
            with pytest.raises(DecodeError):
                binary_to_term(frame[4:end])
