"""Plays one conversation to a node in this process, cut at every byte, and says where an answer is not as expected.

Run as a script by `test_matrix_stream`; a process of its own, because a node takes signals and standard output.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.node.about import About
from erlbridge.node.config import NodeConfig
from erlbridge.node.node import Node
from erlbridge.wire.frames import FrameReader

OFFLINE = {Atom("lm"): Atom("offline")}
JOB = {Atom("signature"): b"a -> b", Atom("config"): OFFLINE}
NOTHING = {Atom("program_id"): b"program:" + b"0" * 64}
# Each message, and what is answered once it is whole: (id, tag). Nothing runs the jobs: no worker, so they wait.
CONVERSATION: tuple[tuple[tuple[Any, ...], tuple[tuple[Any, str], ...]], ...] = (
    ((Atom("health_check"), 1, {}), ((1, "ok"),)),
    ((Atom("predict"), 2, {**JOB, Atom("input"): {Atom("a"): b"x"}}), ()),
    ((Atom("credit"), 5), ()),
    ((Atom("optimize_signature"), 3, {**JOB, Atom("training_data"): [{b"a": b"x", b"b": b"y"}]}), ()),
    ((Atom("cancel"), 4, {Atom("id"): 2}), ((4, "ok"), (2, "error"))),
    ((Atom("predict"), 5, {**JOB, Atom("inputs"): 7}), ((5, "error"),)),
    ((Atom("list_programs"), 6, {}), ((6, "ok"),)),
    ((Atom("get_program"), 7, NOTHING), ((7, "error"),)),
    ((Atom("delete_program"), 8, NOTHING), ((8, "error"),)),
    ((Atom("result"), 9, (Atom("ok"), 1)), ()),
    ((Atom("cancel"), 10, {Atom("id"): 3}), ((10, "ok"), (3, "error"))),
    ((Atom("health_check"), b"eleven", {}), ((b"eleven", "ok"),)),
)
FRAMES = [len(frame).to_bytes(4) + frame for frame in (term_to_binary(message) for message, _ in CONVERSATION)]
STREAM = b"".join(FRAMES)


def expected(offset: int) -> list[tuple[Any, str]]:
    """The answers to the frames that are whole in the first `offset` bytes."""
    answers: list[tuple[Any, str]] = []
    for frame, (_, answered) in zip(FRAMES, CONVERSATION, strict=True):
        offset -= len(frame)
        if offset < 0:
            break
        answers += answered
    return answers


def in_any_order(answers: list[tuple[Any, str]]) -> list[tuple[Any, str]]:
    """Answers whose order is not promised: those that need the disk come when it has spoken."""
    return sorted(answers, key=repr)


def answers_to(data: bytes, config: NodeConfig) -> tuple[int, list[tuple[Any, str]]]:
    """A node's exit code and answers when the host says so much and closes."""
    incoming, told = os.pipe()
    heard, outgoing = os.pipe()
    os.write(told, data)
    os.close(told)
    for descriptor in (incoming, outgoing):
        os.set_blocking(descriptor, False)
    code = Node(config, About(config), incoming, outgoing).run()
    os.close(outgoing)
    reader = FrameReader()
    while piece := os.read(heard, 1 << 16):
        reader.feed(piece)
    os.close(heard)
    os.close(incoming)
    terms = [binary_to_term(frame) for frame in reader]
    return code, [(term[1], str(term[0])) for term in terms if str(term[0]) in ("ok", "error")]


def main() -> None:
    config = NodeConfig(workers=0, spare_workers=0, data=Path(tempfile.mkdtemp()), audit=False)
    for offset in range(len(STREAM) + 1):
        found = answers_to(STREAM[:offset], config)
        code, answered = found
        if code != 0 or in_any_order(answered) != in_any_order(expected(offset)):
            sys.stdout.write(f"cut at {offset}: {found}, expected {expected(offset)}\n")
    sys.stdout.write(f"{len(STREAM) + 1} cuts\n")


if __name__ == "__main__":
    main()
