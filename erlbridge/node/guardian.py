"""The port's program: a small parent of the node, which keeps the promise that nothing outlives the node or its host.

It takes no part in the wire. It watches the node through a pidfd, and the wire's descriptors for the host's hanging up,
without reading them. Every orphan below it becomes its child, so that it finds them all; and when it is killed itself,
the kernel kills the node, and the forkserver does the rest.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import time
from typing import Final

from erlbridge.kinship import adopt_orphans, die_with_parent, end_descendants
from erlbridge.node.descriptors import open_standard_error

_PASSED_ON: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_HOST_GONE_GRACE_S: Final = 0.4
"""For a node whose host is gone to end by itself, as one does that reads. No survivor shall be left after a second."""
_HOST_READS_GRACE_S: Final = 10.0
"""The same while the host may still read: what the node has answered by then may be on its way out."""
_WAKE_BYTES: Final = 64
_SIGNALLED: Final = 128
"""A node that was ended by a signal exits as it would under a shell: with the signal's number above this one."""
_EXIT_FAULT: Final = 70


def guard(incoming: int, outgoing: int) -> None:
    """Splits the process in two: the child returns and goes on as the node, which dies with its guardian.

    The parent guards it and never returns; it ends with the node's exit code. The child has the signals that the
    guardian passes on blocked, until it has its handlers.
    """
    open_standard_error()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the BEAM has it ignored, and `waitpid` would tell nothing
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    adopt_orphans()
    own = os.getpid()
    node = os.fork()
    if node == 0:
        die_with_parent(own)  # before it can be stopped: a stopped process would never get to it
        adopt_orphans()  # those of a forkserver that was killed
        return
    code = _EXIT_FAULT
    try:
        code = _Guardian(node, incoming, outgoing).watch()
    except BaseException:  # noqa: BLE001 - whatever it is, the node must not be left without a guardian
        import traceback  # noqa: PLC0415

        traceback.print_exc()
        end_descendants()
    finally:
        os._exit(code)


class _Guardian:
    def __init__(self, node: int, incoming: int, outgoing: int) -> None:
        self.node = node
        self.pidfd = os.pidfd_open(node)
        # A signal that comes just before the wait begins would otherwise be passed on only when something else happens.
        self.woken, wake = os.pipe()
        os.set_blocking(self.woken, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in _PASSED_ON:
            signal.signal(number, self._pass_on)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
        self.incoming, self.outgoing = _copy(incoming), _copy(outgoing)
        _close_all_but(self.pidfd, self.incoming, self.outgoing, self.woken, wake)

    def watch(self) -> int:
        """Waits for the node's end and gives its exit code; nothing of it is left then."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        poll.register(self.woken, select.POLLIN)
        if self.incoming >= 0:
            poll.register(self.incoming, select.POLLRDHUP)  # a hang-up is told unasked, a socket's half of one is not
        kill_at = math.inf
        while self.pidfd not in (told := _next(poll, kill_at)):
            if self.woken in told:
                os.read(self.woken, _WAKE_BYTES)
            if self.incoming in told:
                poll.unregister(self.incoming)
                kill_at = time.monotonic() + _HOST_READS_GRACE_S
                if self.outgoing >= 0:
                    poll.register(self.outgoing, 0)
            if self.outgoing in told:
                poll.unregister(self.outgoing)
                kill_at = min(kill_at, time.monotonic() + _HOST_GONE_GRACE_S)
            if time.monotonic() >= kill_at:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
                kill_at = math.inf
        code = os.waitstatus_to_exitcode(os.waitpid(self.node, 0)[1])
        end_descendants()
        return code if code >= 0 else _SIGNALLED - code

    def _pass_on(self, number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)


def wake_guardian() -> None:
    """Said by a node that ends: a guardian that somebody has stopped would not see it."""
    os.kill(os.getppid(), signal.SIGCONT)  # its parent, for without that it would be dead


def _next(poll: select.poll, kill_at: float) -> set[int]:
    """The descriptors that have something to tell; none of them when the time has come."""
    left_s = kill_at - time.monotonic()
    return {told for told, _ in poll.poll(None if left_s == math.inf else max(0, math.ceil(left_s * 1000)))}


def _copy(descriptor: int) -> int:
    """Away from 0 and 1, where a stray print would find it; -1 for one that is not open, as the node will tell."""
    try:
        return os.dup(descriptor)
    except OSError:
        return -1


def _close_all_but(*kept: int) -> None:
    """Nobody shall wait for a stream to end because of this process. Standard error stays, for what goes wrong here."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2 and descriptor not in kept:
            with contextlib.suppress(OSError):  # that of the listing itself
                os.close(descriptor)
