"""The workers as the scheduler sees them: who is there, who takes the next job, who has to go, whom to fork.

Knows workers and times; knows no queue and answers nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from erlbridge.core.backoff import delay_s
from erlbridge.core.deadlines import earliest
from erlbridge.core.events import Fork, Kill
from erlbridge.core.queue import Entry
from erlbridge.core.verdicts import Verdict
from erlbridge.errors import ProcessCrashed
from erlbridge.limits import BOOT_TIMEOUT_S, DEATH_GRACE_S, MAX_BOOT_FAILURES, PROGRAMS_REMEMBERED


@dataclass(slots=True, eq=False)
class Worker:
    """A worker process.

    Attributes:
        state: `starting`, `idle`, `busy`, `cancelling` (asked to stop its job) or `stopping` (killed).
        entry: Its job, also when that has been answered and is only waited for.
        boot_by: When it must have booted.
        failures: How many in whose place it was forked, one after the other, have not booted.
        programs: What it ran last, the newest at the end.
        worn: It is to be replaced once its job is done, and may work until then.
        kill_at: When it is killed unless its job, which was asked to stop, has ended.
        trace_until: How long its stack is waited for; None when nobody asked.
        verdict: Why it is to be killed, or was.
        gone_by: Once it was killed: when its death is taken for granted.
    """

    number: int
    boot_by: float
    failures: int = 0
    state: str = "starting"
    os_pid: int | None = None
    entry: Entry | None = None
    jobs: int = 0
    idle_since: float = 0.0
    programs: dict[str, None] = field(default_factory=dict)
    worn: bool = False
    kill_at: float | None = None
    trace_until: float | None = None
    stack: str = ""
    verdict: Verdict | None = None
    gone_by: float | None = None

    @property
    def killed(self) -> bool:
        """Whether it has been killed; nothing is asked of it any more."""
        return self.gone_by is not None

    def next_change(self) -> float | None:
        """When something has to be done about it if nothing happens."""
        if self.gone_by is not None:
            return self.gone_by
        if self.state == "starting":
            return self.boot_by
        return self.trace_until if self.kill_at is None else earliest((self.kill_at, self.trace_until))


@dataclass(slots=True)
class Roster:
    """Keeps `worker_count` workers and `spare_workers` more booted; at most `worker_count` run jobs at once, and beside
    them nested requests in the places that are lent (`core.nesting`).

    A worker that was killed or is worn does not count any more: its replacement is forked at once. A worn one goes when
    it is idle and as many others are ready as may run, so that capacity does not dip.

    Attributes:
        recycle_after_jobs: A worker is worn with its job of this number; 0 is never.
        restarts: Workers that died or had to be killed.
        recycled: Workers that were replaced because they were worn.
        last_death: Of a worker without a job; when no worker can boot, it says why.

    >>> roster = Roster(worker_count=1, spare_workers=1)
    >>> list(roster.top_up(0.0, roster.full))
    [Fork(worker=1), Fork(worker=2)]
    >>> roster.booted(2, now=0.2)
    >>> roster.free(), roster.census()["starting"]
    (1, 1)
    """

    worker_count: int
    spare_workers: int = 0
    boot_timeout_s: float = BOOT_TIMEOUT_S
    recycle_after_jobs: int = 0
    restarts: int = 0
    recycled: int = 0
    last_death: ProcessCrashed = field(default_factory=lambda: ProcessCrashed("no worker can boot"))
    workers: dict[int, Worker] = field(default_factory=dict)
    _last_number: int = 0
    _early_deaths: int = 0
    _failed: list[int] = field(default_factory=list)
    _forks: list[tuple[float, int]] = field(default_factory=list)

    # -- what is there

    @property
    def full(self) -> int:
        """How many workers are kept when nothing is wrong."""
        return self.worker_count + self.spare_workers

    @property
    def running(self) -> int:
        """Workers that hold a job."""
        return sum(worker.entry is not None for worker in self.workers.values())

    @property
    def ready(self) -> int:
        """Workers that hold a job, or could."""
        return sum(worker.state in ("idle", "busy") for worker in self.workers.values())

    @property
    def cannot_boot(self) -> bool:
        """Whether to give up: no worker is there that has booted, and in every place so many in a row have not."""
        if self.restarts < MAX_BOOT_FAILURES:
            return False  # each failure is one of them
        failures = [worker.failures for worker in self.lasting()] + [count for _, count in self._forks] + self._failed
        return min(failures, default=0) >= MAX_BOOT_FAILURES

    def free(self, lent: int = 0) -> int:
        """How many jobs could begin now that are nobody's nested ones; `lent` places are there beside the usual."""
        idle, places, usual = 0, self.worker_count + lent, self.worker_count
        for worker in self.workers.values():
            if worker.state == "idle":
                idle += 1
            elif worker.entry is not None:
                places -= 1
                if worker.entry.parent is None:
                    usual -= 1
        return max(0, min(idle, places, usual))

    def free_for_nested(self, lent: int) -> int:
        """The same for nested ones, which may take any place."""
        idle = sum(worker.state == "idle" for worker in self.workers.values())
        return max(0, min(idle, self.worker_count + lent - self.running))

    def lasting(self) -> list[Worker]:
        """The workers that are there to stay: neither killed nor worn."""
        return [worker for worker in self.workers.values() if worker.gone_by is None and not worker.worn]

    def census(self) -> dict[str, int]:
        """How many are `idle`, `busy` (also with a job that was asked to stop), `starting` and `stopping`; how many of
        the ready are more than may run (`spares`); and how many were `recycled`."""
        states = dict.fromkeys(("idle", "busy", "cancelling", "starting", "stopping"), 0)
        for worker in self.workers.values():
            states[worker.state] += 1
        return {
            "idle": states["idle"],
            "busy": states["busy"] + states["cancelling"],
            "starting": states["starting"],
            "stopping": states["stopping"],
            "spares": max(0, states["idle"] + states["busy"] + states["cancelling"] - self.worker_count),
            "recycled": self.recycled,
        }

    def next_change(self) -> float | None:
        """When something has to be done about a worker if nothing happens."""
        return earliest([worker.next_change() for worker in self.workers.values()])

    def next_fork(self) -> float | None:
        """When the next worker is to be forked; None when none has to wait for that."""
        return min(self._forks)[0] if self._forks else None

    # -- jobs

    def choose(self, entry: Entry) -> Worker:
        """The idle worker that takes a job: one that lasts before one that is worn, then who ran most of its programs,
        then who has been idle longest. There must be one."""
        idle = [worker for worker in self.workers.values() if worker.state == "idle"]
        if len(idle) == 1:
            return idle[0]

        def rank(worker: Worker) -> tuple[bool, int, float, int]:
            known = sum(program in worker.programs for program in entry.programs)
            return worker.worn, -known, worker.idle_since, worker.number

        return min(idle, key=rank)

    def begin(self, worker: Worker, entry: Entry, now: float) -> None:
        """The worker gets the job."""
        worker.state, worker.entry = "busy", entry
        entry.worker, entry.sent_at = worker.number, now
        worker.jobs += 1
        for program in entry.programs:
            worker.programs.pop(program, None)
            worker.programs[program] = None
        while len(worker.programs) > PROGRAMS_REMEMBERED:
            del worker.programs[next(iter(worker.programs))]
        if self.recycle_after_jobs and worker.jobs >= self.recycle_after_jobs:
            worker.worn = True

    def end(self, worker: Worker, now: float) -> None:
        """The worker has ended its job; unless it was killed meanwhile, it is idle, whatever was to be done to it."""
        self._early_deaths = 0
        worker.entry = None
        worker.kill_at = worker.trace_until = None
        worker.stack = ""
        if not worker.killed:
            worker.state, worker.idle_since = "idle", now
            worker.verdict = None

    # -- coming and going

    def booted(self, number: int, now: float) -> None:
        """A worker waits for its first job."""
        worker = self.workers.get(number)
        if worker is not None and worker.state == "starting":
            worker.state, worker.idle_since = "idle", now
            worker.failures = 0

    def kill(self, worker: Worker, now: float) -> list[Kill]:
        """Ends a worker, once."""
        if worker.killed:
            return []
        self._count_early(worker)
        self.restarts += 1
        return [self._end(worker, now)]

    def retire(self, now: float) -> list[Kill]:
        """Ends the worn workers that are idle and can be spared. A kill, as an idle worker has nothing to tidy up."""
        worn = [worker for worker in self.workers.values() if worker.worn and worker.state == "idle"]
        if not worn:
            return []
        if sum(one.state in ("idle", "busy", "cancelling") for one in self.lasting()) < self.worker_count:
            return []
        self.recycled += len(worn)
        return [self._end(worker, now) for worker in worn]

    def shrink(self, now: float, wanted: int) -> list[Kill]:
        """Ends idle workers beyond those wanted, the youngest first: places were lent that nobody needs any more."""
        if len(self.workers) <= wanted:
            return []
        lasting = self.lasting()
        idle = [worker for worker in reversed(lasting) if worker.state == "idle"]
        return [self._end(worker, now) for worker in idle[: max(0, len(lasting) - wanted)]]

    def bury(self, number: int) -> Worker | None:
        """A worker is gone. None when it was gone already."""
        worker = self.workers.pop(number, None)
        if worker is not None and not worker.killed:
            self._count_early(worker)
            self.restarts += 1
        return worker

    def top_up(self, now: float, wanted: int) -> list[Fork]:
        """Forks until so many workers last or are on their way: at once, or after a pause when they die early."""
        missing = wanted - len(self.lasting()) - len(self._forks)
        if not missing and not self._forks:
            self._failed.clear()
            return []
        if missing < 0:
            self._forks = sorted(self._forks)[: max(0, len(self._forks) + missing)]
        for _ in range(missing):
            failures = self._failed.pop() if self._failed else 0
            self._forks.append((now + self._pause_s(failures), failures))
        self._failed.clear()
        due = [failures for at, failures in self._forks if at <= now]
        self._forks = [fork for fork in self._forks if fork[0] > now]
        return [self._fork(now, failures) for failures in due]

    def _fork(self, now: float, failures: int) -> Fork:
        self._last_number += 1
        self.workers[self._last_number] = Worker(self._last_number, now + self.boot_timeout_s, failures)
        return Fork(self._last_number)

    def _end(self, worker: Worker, now: float) -> Kill:
        worker.state = "stopping"
        worker.kill_at = worker.trace_until = None
        worker.gone_by = now + DEATH_GRACE_S
        return Kill(worker.number)

    def _count_early(self, worker: Worker) -> None:
        """Counts who goes without having had a job: forked again at once, such workers would come and go for ever, as
        when a limit on memory is below what a worker needs."""
        if worker.state == "starting":
            self._failed.append(worker.failures + 1)
        elif not worker.jobs:
            self._early_deaths += 1

    def _pause_s(self, failures: int) -> float:
        # A round of workers that had booted may have had bad luck, and is replaced at once.
        rounds = max(failures, -(-self._early_deaths // self.full) - 1)
        return delay_s(rounds) if rounds > 0 else 0.0
