"""The process that workers are forked from: it loads DSPy once, then hands out ready workers in milliseconds.

It speaks with the node over a sequenced-packet socket on descriptor 3, one term a packet:

    settings                   the first packet, as `core.allotment` writes them
    {:loaded, 0, 0}            what is forked from here on is there in milliseconds
    {:fork, number}            with three descriptors: the worker's socket, where its output goes, and its stacks
    {:forked, number, os_pid}  with one: a pidfd, by which the node kills the worker and sees its end
    {:exited, number, wait_status}

What a dead worker leaves behind, also in sessions of its own, is adopted here and ended with it. When the node ends,
this process does, and nothing of it is left.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.core.allotment import WorkerSettings, cpus_of_next
from erlbridge.kinship import adopt_orphans, die_with_parent, end_descendants, restore_signals
from erlbridge.worker.allotment import allot, set_environment
from erlbridge.worker.printing import flush_c_output, redirect_output
from erlbridge.worker.sandbox.confine import Unconfined
from erlbridge.worker.sandbox.keeper import Keeper, Sandbox
from erlbridge.worker.stacks import Stacks, ignore_asking

CONTROL_FD = 3
_LAST = (signal.SIGTERM, signal.SIGHUP)
_PACKET_BYTES = 4096
_NOT_FORKED = 1 << 8
"""The wait status of a process that exited with 1."""
_SETTINGS_BYTES = 64 * 1024
_FORK, _LOADED, _FORKED, _EXITED = Atom("fork"), Atom("loaded"), Atom("forked"), Atom("exited")


def main() -> NoReturn:
    """Loads what workers need, then serves the node until it is gone."""
    restore_signals()
    for number in _LAST:
        signal.signal(number, lambda *_: _end())
    adopt_orphans()
    # A group of its own, for until the node has said who it is: the kernel continues one that is orphaned while it is
    # stopped, and sends it SIGHUP.
    os.setpgid(0, 0)
    control = socket.socket(fileno=CONTROL_FD)
    control.set_inheritable(False)
    packet = control.recv(_SETTINGS_BYTES)
    if not packet:
        os._exit(0)  # the node is gone already
    settings = WorkerSettings.from_term(binary_to_term(packet))
    # The node's end is a signal that can be caught: killed with it, nobody would be left to end what workers started.
    # It is the one that wakes who is stopped, or just about to be. Any other would wait for whoever does that.
    signal.signal(signal.SIGCONT, lambda *_: _end_without(settings.node_pid))
    die_with_parent(settings.node_pid, signal.SIGCONT)
    ignore_asking()
    set_environment(settings)
    try:
        keeper = Keeper(settings)
    except Unconfined:
        os._exit(1)
    for number in _LAST:
        signal.signal(number, lambda *_: _end(keeper))
    signal.signal(signal.SIGCONT, lambda *_: _end_without(settings.node_pid, keeper))
    gc.disable()  # what is loaded stays, and is gone through once below instead of again and again meanwhile
    import erlbridge.worker.main  # noqa: F401, PLC0415 - DSPy loads here, once for all workers
    from erlbridge.programs import optimizers, traces  # noqa: PLC0415

    optimizers.load()
    traces.load()
    gc.collect()
    gc.freeze()  # the collector leaves what all workers share alone, so that its pages stay shared
    gc.enable()
    with suppress(BrokenPipeError, ConnectionResetError):  # gone while it was told something
        _Forkserver(control, settings, keeper).serve()
    _end(keeper)


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
        """Forks and reaps until the node is gone."""
        signal.signal(signal.SIGCHLD, _ignore)
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        self.say(_LOADED, 0, 0)
        while True:
            readable, _, _ = select.select([self.control.fileno(), self.wake_read], [], [])
            if self.wake_read in readable:
                os.read(self.wake_read, _PACKET_BYTES)
                self.reap()
            if self.control.fileno() in readable and not self.take():
                return

    def take(self) -> bool:
        """Does what one packet asks; False when the node is gone."""
        packet, descriptors, flags, _ = socket.recv_fds(self.control, _PACKET_BYTES, 3)
        if not packet:
            return False
        match binary_to_term(packet):
            case (Atom() as verb, int() as number) if verb == _FORK:
                self.try_to_fork(number, descriptors, cut=bool(flags & socket.MSG_CTRUNC))
                for descriptor in descriptors:
                    os.close(descriptor)
        return True

    def try_to_fork(self, number: int, descriptors: list[int], *, cut: bool) -> None:
        """Forks a worker. Where that cannot be, which passes, its end is told instead: the others live on."""
        try:
            if cut:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            self.fork(number, *descriptors)
        except OSError as error:
            sys.stderr.write(f"erlbridge: worker {number} was not forked: {error.strerror}\n")
            if number in self.pids:
                os.kill(self.pids[number], signal.SIGKILL)  # its end is told when it is reaped
            else:
                self.say(_EXITED, number, _NOT_FORKED)

    def fork(self, number: int, wire: int, output: int, stacks: int) -> None:
        parent = os.getpid()
        taken = [cpu for cpus in self.cpus.values() for cpu in cpus]
        cpus = cpus_of_next(self.settings.cpus or os.sched_getaffinity(0), self.settings.pin, taken)
        sandbox = self.keeper.sandbox(number)
        pid = os.fork()
        if pid == 0:
            self.become_worker(parent, wire, output, stacks, cpus=cpus, sandbox=sandbox)
        self.pids[number] = pid
        self.cpus[number] = cpus
        pidfd = os.pidfd_open(pid)
        try:
            self.say(_FORKED, number, pid, with_descriptor=pidfd)
        finally:
            os.close(pidfd)

    def become_worker(
        self, parent: int, wire: int, output: int, stacks: int, *, cpus: frozenset[int], sandbox: Sandbox
    ) -> NoReturn:
        """In the child: nothing of the forkserver stays open, and nothing that goes wrong returns into its loop."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (*_LAST, signal.SIGCONT):
                signal.signal(number, signal.SIG_DFL)
            restore_signals()
            die_with_parent(parent)
            adopt_orphans()  # so that what reaches the forkserver is a dead worker's, never a living one's
            self.control.close()
            os.close(self.wake_read)
            os.close(self.wake_write)
            redirect_output(output)
            os.close(output)
            written = Stacks(stacks)
            allot(self.settings, cpus)
            report = sandbox.enter()  # the last of all: much of the above is refused from here on
            from erlbridge.worker.main import work  # noqa: PLC0415 - loaded already; named here for the layer's sake

            work(socket.socket(fileno=wire), report, written)
            status = 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            flush_c_output()
            os._exit(status)

    def reap(self) -> None:
        """Tells of every worker that has ended, and ends and removes what it left behind."""
        ended = []
        for number, pid in list(self.pids.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                del self.pids[number], self.cpus[number]
                self.say(_EXITED, number, status)
                ended.append(number)
        end_descendants(spare={*self.pids.values(), *self.keeper.cleaners()})
        for number in ended:
            self.keeper.gone(number)

    def say(self, *term: object, with_descriptor: int | None = None) -> None:
        descriptors = [] if with_descriptor is None else [with_descriptor]
        socket.send_fds(self.control, [term_to_binary(term)], descriptors)


def _end(keeper: Keeper | None = None) -> NoReturn:
    """Ends this process with every descendant, wherever it was, and removes what they left."""
    end_descendants()
    if keeper is not None:
        keeper.close()
    os._exit(0)


def _end_without(node_pid: int, keeper: Keeper | None = None) -> None:
    """The same when the node is gone: whoever else continues this process wants it to go on."""
    if os.getppid() != node_pid:
        _end(keeper)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """A handler must exist for a signal to reach the wakeup descriptor."""


if __name__ == "__main__":
    main()
