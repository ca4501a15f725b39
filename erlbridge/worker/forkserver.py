"""The process that workers are forked from: it loads DSPy once, then hands out ready workers in milliseconds.

It speaks with the node over a sequenced-packet socket on descriptor 3, one term a packet:

    settings          the first packet, as `core.allotment` writes them
    {:fork, number}   with two descriptors: the worker's socket and where its output goes
    {:kill, number}
    {:forked, number, os_pid}
    {:exited, number, wait_status}

As the workers' parent it knows their exit status and can kill without a pid being reused in between. It ends when the
node does, and its workers with it.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from types import FrameType
from typing import NoReturn

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.core.allotment import WorkerSettings, cpus_of_next
from erlbridge.worker.allotment import allot, set_environment
from erlbridge.worker.lifeline import die_with_parent, redirect_output, restore_signals
from erlbridge.worker.sandbox.confine import Unconfined
from erlbridge.worker.sandbox.keeper import Keeper, Sandbox

CONTROL_FD = 3
_PACKET_BYTES = 4096
_SETTINGS_BYTES = 64 * 1024
_FORK, _KILL = Atom("fork"), Atom("kill")
_FORKED, _EXITED = Atom("forked"), Atom("exited")


def main() -> NoReturn:
    """Loads what workers need, then serves the node until it is gone."""
    control = socket.socket(fileno=CONTROL_FD)
    control.set_inheritable(False)
    packet = control.recv(_SETTINGS_BYTES)
    if not packet:
        os._exit(0)  # the node is gone already
    settings = WorkerSettings.from_term(binary_to_term(packet))
    die_with_parent(settings.node_pid)
    restore_signals()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is the node's to act on
    set_environment(settings)
    try:
        keeper = Keeper(settings)
    except Unconfined:
        os._exit(1)
    import erlbridge.worker.main  # noqa: F401, PLC0415 - DSPy loads here, once for all workers

    gc.collect()
    gc.freeze()  # the collector leaves what all workers share alone, so that its pages stay shared
    _Forkserver(control, settings, keeper).serve()
    os._exit(0)


class _Forkserver:
    def __init__(self, control: socket.socket, settings: WorkerSettings, keeper: Keeper) -> None:
        self.control = control
        self.settings = settings
        self.keeper = keeper
        self.cpus: dict[int, frozenset[int]] = {}
        self.pids: dict[int, int] = {}
        self.wake_read, self.wake_write = os.pipe()
        os.set_blocking(self.wake_read, False)
        os.set_blocking(self.wake_write, False)

    def serve(self) -> None:
        signal.signal(signal.SIGCHLD, _ignore)
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        while True:
            readable, _, _ = select.select([self.control.fileno(), self.wake_read], [], [])
            if self.wake_read in readable:
                os.read(self.wake_read, _PACKET_BYTES)
                self.reap()
            if self.control.fileno() in readable and not self.take():
                return

    def take(self) -> bool:
        """Does what one packet asks; False when the node is gone."""
        packet, descriptors, _, _ = socket.recv_fds(self.control, _PACKET_BYTES, 2)
        if not packet:
            for pid in self.pids.values():
                os.kill(pid, signal.SIGKILL)
            for pid in self.pids.values():
                os.waitpid(pid, 0)  # what it has open would stay on the disk
            self.keeper.close()
            return False
        match binary_to_term(packet):
            case (Atom() as verb, int(number)) if verb == _FORK:
                self.fork(number, *descriptors)
                for descriptor in descriptors:
                    os.close(descriptor)
            case (Atom() as verb, int(number)) if verb == _KILL and number in self.pids:
                os.kill(self.pids[number], signal.SIGKILL)
        return True

    def fork(self, number: int, wire: int, output: int) -> None:
        parent = os.getpid()
        taken = [cpu for cpus in self.cpus.values() for cpu in cpus]
        cpus = cpus_of_next(self.settings.cpus or os.sched_getaffinity(0), self.settings.pin, taken)
        sandbox = self.keeper.sandbox(number)
        pid = os.fork()
        if pid == 0:
            self.become_worker(parent, wire, output, cpus, sandbox)
        self.pids[number] = pid
        self.cpus[number] = cpus
        self.say(_FORKED, number, pid)

    def become_worker(self, parent: int, wire: int, output: int, cpus: frozenset[int], sandbox: Sandbox) -> NoReturn:
        """In the child: nothing of the forkserver stays open, and nothing that goes wrong returns into its loop."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            restore_signals()
            die_with_parent(parent)
            self.control.close()
            os.close(self.wake_read)
            os.close(self.wake_write)
            redirect_output(output)
            os.close(output)
            allot(self.settings, cpus)
            report = sandbox.enter()  # the last of all: much of the above is refused from here on
            from erlbridge.worker.main import work  # noqa: PLC0415 - loaded already; named here for the layer's sake

            work(socket.socket(fileno=wire), report)
            status = 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def reap(self) -> None:
        """Tells of every worker that has ended."""
        for number, pid in list(self.pids.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                del self.pids[number], self.cpus[number]
                self.keeper.gone(number)
                self.say(_EXITED, number, status)

    def say(self, *term: object) -> None:
        self.control.send(term_to_binary(term))


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """A handler must exist for a signal to reach the wakeup descriptor."""


if __name__ == "__main__":
    main()
