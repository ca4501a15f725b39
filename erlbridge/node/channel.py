"""A framed, non-blocking byte stream on a pair of descriptors, watched by a selector. Moves frames; reads no terms."""

from __future__ import annotations

import os
import select
import selectors
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from erlbridge.limits import MAX_FRAME_BYTES
from erlbridge.node.tap import Tap
from erlbridge.wire.capture import HOST
from erlbridge.wire.frames import FrameReader, FrameWriter

_GATHERED_BYTES: Final = 64 * 1024
"""What is written at once, whoever gathers: what a pipe takes."""

Frame = TypeVar("Frame", bytes, bytes | memoryview)


class Channel:
    """One end of a wire. `incoming` and `outgoing` may be the same descriptor (a socket).

    The selector calls `on_readable` when there is something to read. Frames that do not fit into the descriptor wait
    here and go out as soon as it takes more. Who listens at the `tap` hears of every frame, as one of wire `number`.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        incoming: int,
        outgoing: int,
        on_readable: Callable[[], None],
        limit_bytes: int = MAX_FRAME_BYTES,
        *,
        tap: Tap | None = None,
        number: int = HOST,
    ) -> None:
        self._tap = tap or Tap()
        self._number = number
        self.incoming = incoming
        self.outgoing = outgoing
        self.reader = FrameReader(limit_bytes)
        self.writer = FrameWriter(limit_bytes)
        self.closed = False
        self.paused = False
        self.gathers = False
        """Whether short frames wait for `flush`, so that one call writes many. Who sets it flushes soon."""
        self._selector = selector
        self._on_readable = on_readable
        self._watched: dict[int, int] = {}
        self._watch()

    def read(self) -> Iterator[bytes]:
        """The frames that have arrived by now. At the stream's end `closed` is set and nothing more comes.

        Raises `FrameError` when the framing is lost.
        """
        self.receive()
        yield from self._heard(self.reader)

    def views(self) -> Iterator[bytes | memoryview]:
        """The frames that were received; a long one as a view that is good until the next is asked for. Raises
        `FrameError` when the framing is lost."""
        return self._heard(self.reader.views())

    def _heard(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            if (hear := self._tap.hear) is not None:
                hear(self._number, "in", frame)
            yield frame

    def receive(self) -> None:
        """Takes what one read gives into `reader`. At the stream's end `closed` is set."""
        try:
            count = os.readv(self.incoming, self.reader.room())
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if not count:
            self.closed = True
            self._watch()
            return
        self.reader.filled(count)

    def drain(self) -> Iterator[bytes]:
        """All frames that are there, for a peer that will send no more."""
        while not self.closed:
            before = self.reader.received_bytes
            yield from self.read()
            if self.reader.received_bytes == before:
                return  # somebody else still holds the other end open; nothing more of this peer can come

    def send(self, *frames: bytes) -> None:
        """Queues frames and writes what the descriptor takes at once; later, where short ones are gathered."""
        for frame in frames:
            self.writer.add(frame)
            if (hear := self._tap.hear) is not None:
                hear(self._number, "out", frame)
        if not self.gathers or self.writer.pending_bytes > _GATHERED_BYTES:
            self.flush()

    def flush(self) -> bool:
        """Writes what the descriptor takes now. Gives whether something waited and nothing does any more."""
        if not self.writer.pending_bytes:
            return False
        try:
            while self.writer.pending_bytes:
                self.writer.advance(os.writev(self.outgoing, self.writer.buffers()))
        except BlockingIOError:
            pass
        except OSError:
            # The reader is gone. Its end shows on the incoming side too, which says what to do about it.
            self.writer = FrameWriter(self.writer.limit_bytes)
        self._watch()
        return not self.writer.pending_bytes

    def finish(self, within_s: float) -> None:
        """Writes what is left, for at most so long, before the process ends."""
        poll = select.poll()
        poll.register(self.outgoing, select.POLLOUT)
        deadline = time.monotonic() + within_s
        while self.writer.pending_bytes and (left_s := deadline - time.monotonic()) > 0:
            poll.poll(left_s * 1000)
            self.flush()

    def hung_up(self) -> bool:
        """Whether the peer has closed its end. A paused channel does not read, and would not see it otherwise."""
        poll = select.poll()
        poll.register(self.incoming, select.POLLRDHUP)
        return any(state & (select.POLLHUP | select.POLLRDHUP | select.POLLERR) for _, state in poll.poll(0))

    def pause(self, paused: bool) -> None:
        """Stops reading, so that a peer which does not take its answers cannot make more of them."""
        if self.paused != paused:
            self.paused = paused
            self._watch()

    def close(self) -> None:
        """Ends both directions; what was not written is dropped."""
        self.closed = True
        self.writer = FrameWriter(self.writer.limit_bytes)
        self._watch()
        for descriptor in {self.incoming, self.outgoing}:
            os.close(descriptor)

    def _watch(self) -> None:
        """Brings what the selector watches in line with what this end waits for."""
        wanted: dict[int, int] = {}
        if not self.paused and not self.closed:
            wanted[self.incoming] = selectors.EVENT_READ
        if self.writer.pending_bytes:
            wanted[self.outgoing] = wanted.get(self.outgoing, 0) | selectors.EVENT_WRITE
        if wanted == self._watched:
            return
        for descriptor in self._watched.keys() - wanted.keys():
            self._selector.unregister(descriptor)
        for descriptor, events in wanted.items():
            if descriptor not in self._watched:
                self._selector.register(descriptor, events, self._ready)
            elif self._watched[descriptor] != events:
                self._selector.modify(descriptor, events, self._ready)
        self._watched = wanted

    def _ready(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self.flush()
        if events & selectors.EVENT_READ:
            self._on_readable()
