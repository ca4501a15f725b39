"""What processes and the machine use: the one door to /proc and to psutil, which is loaded for what is seldom asked.

Processes are read raw: psutil takes ten times as long for the same two numbers, and they are wanted ten times a second.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from erlbridge.core.vigil import Sample

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_STAT_BYTES: Final = 1024
_UTIME, _STIME, _RSS = 11, 12, 21
"""Places in `/proc/PID/stat` (`proc_pid_stat(5)`), counted from the field behind the name, which may hold anything."""
_FUTEX: Final = "futex"
"""In the name of the kernel's function in which a thread waits for a lock."""
_OWN_DESCRIPTORS: Final = "/proc/self/fd"


@dataclass(frozen=True, slots=True)
class Machine:
    """What a node shares with everybody else.

    `memory_bytes` is what there is for this node: the machine's, or what its cgroups allow if that is less.
    """

    memory_bytes: int
    available_bytes: int
    disk_free_bytes: int


class Watchdog:
    """Samples processes by pid. It keeps the files of those it knows open: each look is one system call a process, and
    a pid that was given to another process meanwhile is never taken for the first."""

    def __init__(self) -> None:
        self._files: dict[int, int] = {}

    def look(self, pids: Iterable[int]) -> dict[int, Sample]:
        """A sample of each process that is alive; costs 7 µs each."""
        samples: dict[int, Sample] = {}
        for pid in pids:
            try:
                file = self._files.get(pid)
                if file is None:
                    file = self._files[pid] = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
                text = os.pread(file, _STAT_BYTES, 0)
            except OSError:  # gone between the list and the look, or no descriptor is left to look with
                continue
            fields = text[text.rindex(b")") + 2 :].split(b" ", _RSS + 1)
            cpu_s = (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS_PER_S
            samples[pid] = Sample(int(fields[_RSS]) * _PAGE_BYTES, cpu_s)
        return samples

    def keep_only(self, pids: Iterable[int]) -> None:
        """Closes the files of all other processes."""
        for pid in self._files.keys() - set(pids):
            os.close(self._files.pop(pid))

    def machine(self, data: Path) -> Machine:
        """A look at what is shared; `data` need not be there yet. Costs 0.2 ms, the first time 30. Raises `OSError`."""
        import psutil  # noqa: PLC0415 - 25 ms that the node's start does not wait for

        memory = psutil.virtual_memory()
        allowed = memory_bytes()
        # Nearest to it of what exists: a directory that is made later lies on the same disk as its parent.
        there = next((path for path in (data, *data.absolute().parents) if path.exists()), data)
        return Machine(allowed, min(memory.available, allowed), psutil.disk_usage(str(there)).free)


def process_of(pidfd: int) -> int | None:
    """The pid of the process that a descriptor stands for, None when that is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines():
            if line.startswith("Pid:") and (pid := int(line.removeprefix("Pid:"))) > 0:
                return pid
    return None


def threads_at_work(pid: int) -> Iterator[int]:
    """A process's main thread, and each other that waits for none of them when its turn comes. Where one keeps the
    interpreter's lock, it is among them, running or waiting in the kernel for something else."""
    yield pid
    with suppress(OSError):
        for thread in map(int, os.listdir(f"/proc/{pid}/task")):
            with suppress(OSError):
                if thread != pid and _FUTEX not in Path(f"/proc/{pid}/task/{thread}/wchan").read_text():
                    yield thread


def memory_bytes() -> int:
    """What there is for this process: the machine's memory, or what its cgroups allow if that is less."""
    found = os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES
    for path in _cgroup_files():
        with suppress(OSError, ValueError), open(path) as file:  # it may be gone, or say "max"
            found = min(found, int(file.read()))
    return found


def hides_workers(mounts: str) -> bool:
    """Whether /proc shows workers, which are closed to others of their user, to root alone, so that no look finds them.

    `mounts` is the text of `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`); of two at one place the later holds.
    """
    hidden = False
    for line in mounts.splitlines():
        mount, _, system = line.partition(" - ")
        if mount.split()[4] == "/proc":
            options = dict(option.partition("=")[::2] for option in system.split()[-1].split(","))
            hidden = options.get("hidepid", "off") not in {"off", "0"}
    return hidden


def descriptors() -> tuple[int, int]:
    """How many this process has, and how many it may have. Asking needs none."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        # Linux says their number as the directory's size since 6.2, without a descriptor to read it with.
        return os.stat(_OWN_DESCRIPTORS).st_size or len(os.listdir(_OWN_DESCRIPTORS)), most
    except OSError:
        return most, most


@cache
def _cgroup_files() -> tuple[str, ...]:
    """The files with the memory limits of the cgroups, of either version, that this process was started in; psutil
    reads none of them. Found once: a `Path` interns its parts anew each time, and asked every second that makes
    CPython's table of such strings grow after a while, by half a MiB at once."""
    found: list[str] = []
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "memory":
                found += _files_up(Path("/sys/fs/cgroup/memory"), path, "memory.limit_in_bytes")
            elif not controllers:
                found += _files_up(Path("/sys/fs/cgroup"), path, "memory.max")
    return tuple(found)


def _files_up(root: Path, path: str, name: str) -> list[str]:
    group = Path(path.lstrip("/"))
    return [str(root / level / name) for level in (group, *group.parents) if (root / level / name).exists()]
