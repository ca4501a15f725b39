"""A node whose host takes everything in the very moment in which the node, having paused, writes once more.

Run as a script by `test_matrix_stream`; a process of its own, because a node takes signals and standard output.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Final

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.limits import MAX_ID_SHARE, MAX_UNSENT_ANSWER_BYTES
from erlbridge.node.about import About
from erlbridge.node.channel import Channel
from erlbridge.node.config import NodeConfig
from erlbridge.node.node import Node
from erlbridge.wire.frames import FrameReader

LONG_ID: Final = b"x" * (MAX_UNSENT_ANSWER_BYTES + 1024 * 1024)
PATIENCE_S: Final = 10.0
READ_BYTES: Final = 1 << 20


class EagerWire(Channel):
    """Has what it writes read, but for what waits when the node is about to pause."""

    heard: int
    taken: FrameReader
    second: threading.Event

    def flush(self) -> bool:
        waited = super().flush()
        while self.paused and self.writer.pending_bytes:
            self.take()
            waited = super().flush()
        if not self.writer.pending_bytes:
            self.take()
        return waited

    def take(self) -> None:
        """Takes what is in the pipe."""
        while True:
            try:
                self.taken.feed(os.read(self.heard, READ_BYTES))
            except BlockingIOError:
                break
        if any(binary_to_term(frame)[:2] == (Atom("ok"), 2) for frame in self.taken):
            self.second.set()


def main() -> None:
    incoming, told = os.pipe()
    heard, outgoing = os.pipe()
    for descriptor in (incoming, outgoing, heard):
        os.set_blocking(descriptor, False)
    config = NodeConfig(
        workers=0,
        spare_workers=0,
        data=Path(tempfile.mkdtemp()),
        audit=False,
        max_frame_bytes=2 * MAX_ID_SHARE * MAX_UNSENT_ANSWER_BYTES,
        sample_interval_s=6 * PATIENCE_S,
    )
    node = Node(config, About(config), incoming, outgoing)
    node.wire.__class__ = wire = EagerWire
    wire.heard, wire.taken, wire.second = heard, FrameReader(), threading.Event()
    answered = False

    def ask() -> None:
        nonlocal answered
        frames = [term_to_binary((Atom("health_check"), request_id, {})) for request_id in (LONG_ID, 2)]
        with open(told, "wb") as host:
            host.write(b"".join(len(frame).to_bytes(4) + frame for frame in frames))
            host.flush()
            answered = wire.second.wait(PATIENCE_S)

    asking = threading.Thread(target=ask)
    asking.start()
    node.run()
    asking.join()
    sys.stdout.write("answered\n" if answered else f"not answered in {PATIENCE_S} s\n")


if __name__ == "__main__":
    main()
