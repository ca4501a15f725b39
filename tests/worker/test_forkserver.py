"""The forkserver by itself, with this process in the node's place."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

from node_client import await_gone, descendants

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.core.allotment import WorkerSettings

BEGIN = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.execv(sys.executable, [sys.executable, "-P", "-m", "erlbridge.worker.forkserver"])
"""
UNRULY = Path(__file__).parents[1] / "node" / "unruly"


def test_a_node_that_is_gone_while_it_is_told_of_a_death_leaves_nothing(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(60)
    ours.send(term_to_binary(WorkerSettings(node_pid=os.getpid(), data=str(tmp_path)).to_term()))
    with subprocess.Popen(
        [sys.executable, "-P", "-c", BEGIN, str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env={**os.environ, "PYTHONPATH": str(UNRULY)},
    ) as forkserver:
        theirs.close()
        assert binary_to_term(ours.recv(4096))[0] == Atom("loaded")
        wire, its_wire = socket.socketpair()
        null = os.open(os.devnull, os.O_WRONLY)
        socket.send_fds(ours, [term_to_binary((Atom("fork"), 1))], [its_wire.fileno(), null, null])
        its_wire.close()
        packet, pidfds, _, _ = socket.recv_fds(ours, 4096, 1)
        assert wire.recv(4)  # it has booted, and started what it starts
        left = descendants(forkserver.pid)
        assert len(left) > 1
        os.kill(forkserver.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, forkserver.pid, os.WSTOPPED)
        ours.close()
        os.kill(binary_to_term(packet)[2], signal.SIGKILL)
        assert select.select(pidfds, [], [], 10)[0]
        os.kill(forkserver.pid, signal.SIGCONT)
        assert forkserver.wait(10) == 0
        for descriptor in (*pidfds, null):
            os.close(descriptor)
        wire.close()
    await_gone(left)
