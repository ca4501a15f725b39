"""How a worker writes its stacks while its threads come and go."""

from __future__ import annotations

import ctypes
import os
import random
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from erlbridge.core.allotment import STACKS_SIGNAL

LOOKS = 200
BUSY = textwrap.dedent(
    """
    import sys, threading
    from erlbridge.worker.stacks import Stacks

    def down(depth):
        return depth and down(depth - 1)

    def come_and_go():
        while True:
            threads = [threading.Thread(target=down, args=(40,)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    stacks = Stacks(int(sys.argv[1]))
    for _ in range(2):
        threading.Thread(target=come_and_go, daemon=True).start()
    print("begun", flush=True)
    for line in sys.stdin:
        stacks.write()
        print("written", flush=True)
    """
)


class Busy:
    """A process of many short threads, and the pipe into which it writes their stacks."""

    def __init__(self) -> None:
        self.pipe, theirs = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", BUSY, str(theirs)],
            pass_fds=(theirs,),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        os.close(theirs)
        self.hear("begun")

    def hear(self, word: str) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline() == f"{word}\n", f"it ended with {self.process.wait()}"

    def ask(self) -> bytes:
        """Has it write its stacks, and takes what is in the pipe."""
        assert self.process.stdin
        self.process.stdin.write("stacks\n")
        self.hear("written")
        return os.read(self.pipe, 65536)


@pytest.fixture
def busy() -> Iterator[Busy]:
    found = Busy()
    yield found
    with found.process:
        found.process.kill()
    os.close(found.pipe)


def test_asked_for_its_stacks_a_busy_worker_writes_those_of_all_threads_and_lives(busy: Busy) -> None:
    assert all(b"in come_and_go" in busy.ask() for _ in range(LOOKS))


def test_a_signal_has_a_thread_write_its_own_stack_and_no_thread_is_harmed(busy: Busy) -> None:
    draw = random.Random(1)
    libc = ctypes.CDLL(None)
    for _ in range(LOOKS):
        libc.tgkill(busy.process.pid, draw.choice(threads_of(busy.process.pid)), STACKS_SIGNAL)
        busy.ask()
    assert busy.process.poll() is None


def threads_of(pid: int) -> list[int]:
    return [int(thread.name) for thread in Path(f"/proc/{pid}/task").iterdir()]
