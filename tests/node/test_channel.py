"""A channel: what is written in one call, and when."""

from __future__ import annotations

import os
import selectors
from collections.abc import Iterator
from typing import Final

import pytest

from erlbridge.node.channel import Channel

READ_BYTES: Final = 1 << 20


@pytest.fixture
def wire() -> Iterator[tuple[Channel, int]]:
    """A channel, and where what it writes can be read: one call of it at a time, as `O_DIRECT` has it for pipes."""
    nothing, silent = os.pipe()
    written, outgoing = os.pipe2(os.O_DIRECT | os.O_NONBLOCK)
    with selectors.PollSelector() as selector:
        channel = Channel(selector, nothing, outgoing, lambda: None)
        yield channel, written
        channel.close()
    os.close(silent)
    os.close(written)


def framed(*frames: bytes) -> bytes:
    return b"".join(len(frame).to_bytes(4) + frame for frame in frames)


def test_frames_that_are_sent_together_are_one_write(wire: tuple[Channel, int]) -> None:
    channel, written = wire
    channel.send(b"what is to be known", b"the job")
    channel.send(b"another")
    assert os.read(written, READ_BYTES) == framed(b"what is to be known", b"the job")
    assert os.read(written, READ_BYTES) == framed(b"another")


def test_gathered_frames_wait_for_each_other_until_they_are_flushed(wire: tuple[Channel, int]) -> None:
    channel, written = wire
    channel.gathers = True
    channel.send(b"one")
    channel.send(b"two")
    with pytest.raises(BlockingIOError):
        os.read(written, READ_BYTES)
    channel.flush()
    assert os.read(written, READ_BYTES) == framed(b"one", b"two")


def test_a_frame_that_fills_a_pipe_waits_for_no_other(wire: tuple[Channel, int]) -> None:
    channel, written = wire
    channel.gathers = True
    channel.send(b"x" * 70_000)
    assert os.read(written, READ_BYTES)[:8] == (70_000).to_bytes(4) + b"xxxx"
