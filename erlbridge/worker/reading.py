"""Who reads a worker's wire: the main thread between two jobs, a second thread while a job lasts.

Were it always the second, each job would be handed from thread to thread, and waking two of them for it costs more than
many a job. So the main thread reads a job and runs it at once; a timer of the kernel's, which wakes nobody before it
is due, has the second one take over from a job that is not done soon, be it hanging in C. Whoever reads hands the
reading back with the next job.
"""

from __future__ import annotations

import math
import os
import queue
import select
import socket
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from erlbridge.codec import binary_to_term
from erlbridge.limits import MAX_WAIT_S, MAX_WORKER_FRAME_BYTES
from erlbridge.wire.frames import FrameReader
from erlbridge.worker.alarm import NEVER, NOW, Alarm, after
from erlbridge.worker.deadline import Deadline

_READ_BYTES: Final = 256 * 1024
_UNHEARD_S: Final = 0.005
"""How long a job runs unheard. A thread that computes keeps the interpreter's lock from another for as long."""

Job = TypeVar("Job")


class Reading(Generic[Job]):
    """Gives each term that comes to `take`, on whichever thread reads; what that returns is the next job.

    The process ends when the node is gone, whatever its main thread is doing.
    """

    def __init__(
        self,
        wire: socket.socket,
        take: Callable[[object], Job | None],
        deadline: Deadline,
        unheard_s: float = _UNHEARD_S,
    ) -> None:
        self._wire = wire
        self._take = take
        self._deadline = deadline
        self._frames = FrameReader(MAX_WORKER_FRAME_BYTES)
        self._readable = select.poll()
        self._readable.register(wire, select.POLLIN)
        self._alarm = Alarm()
        self._soon = after(unheard_s)
        self._lock = threading.Lock()
        self._running = False
        self._relieved = False
        """Whether the second thread reads."""
        self._handed: queue.SimpleQueue[Job] = queue.SimpleQueue()
        """The job that the second thread has read, if it was that one."""

    def start(self) -> None:
        """Starts the second thread."""
        threading.Thread(target=self._stand_in, name="erlbridge-wire", daemon=True).start()

    def next_job(self) -> Job:
        """For the main thread, which is done with the job before, if there was one, and runs this one at once."""
        with self._lock:
            if self._running:
                self._running = False
                self._alarm.set(NEVER)
            mine = not self._relieved and self._handed.empty()
        job = self._read() if mine else self._handed.get()
        with self._lock:
            self._running = True
            self._alarm.set(self._soon)
        return job

    def listen(self) -> None:
        """The job that runs waits for what comes, so it is to be heard at once."""
        with self._lock:
            if self._running and not self._relieved:
                self._alarm.set(NOW)

    def _stand_in(self) -> None:
        while True:
            self._alarm.wait()
            with self._lock:
                self._relieved = self._running  # else the job has ended in between
            if self._relieved:
                job = self._read(watching=True)
                with self._lock:
                    self._relieved = False
                    self._handed.put(job)

    def _read(self, *, watching: bool = False) -> Job:
        """The next job; where another is watched meanwhile, its deadline is looked at."""
        try:
            while True:
                if watching:
                    self._watch()
                if not (data := self._wire.recv(_READ_BYTES)):
                    os._exit(0)
                self._frames.feed(data)
                # All that has come, also behind the job: nobody reads it before the job has lasted for a while.
                jobs = [job for frame in self._frames if (job := self._take(binary_to_term(frame))) is not None]
                if jobs:
                    return jobs[0]  # the node sends the next one when this one is answered
        except BaseException:  # noqa: BLE001 - such as a reset
            os._exit(0)

    def _watch(self) -> None:
        """Waits until there is something to read."""
        while (left_s := self._deadline.left_s()) is not None:
            if self._readable.poll(math.ceil(min(left_s, MAX_WAIT_S) * 1000)):
                return
            self._deadline.look()
