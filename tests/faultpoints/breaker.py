"""What `breaker.c` is told and tells: which operations processes did on a directory's files, and what becomes of one.

int mode, at, seen, fired, victim; unsigned used; char point[512]; char log[4 MiB]
"""

from __future__ import annotations

import atexit
import functools
import mmap
import shutil
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Fault = Literal["killed after it", "killed within it", "disk full from it on", "refused once"]
FAULTS: Final[tuple[Fault, ...]] = ("killed after it", "killed within it", "disk full from it on", "refused once")
"""By their number less one in `breaker.c`."""

_HEAD: Final = struct.Struct("iiiiiI512s")
_LOG_BYTES: Final = 4 << 20
_FIRED_AT: Final = struct.calcsize("iii")


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """The `number`th time (from 1) that an operation is done on a file of this name, in which `*` and `#` stand for
    what differs from run to run. Without a name it is the `number`th change of any file."""

    operation: str
    name: str
    number: int

    @property
    def reads(self) -> bool:
        """Whether it changes nothing: only a disk that refuses is of interest there."""
        return self.operation.startswith("read")

    def __str__(self) -> str:
        return f"{self.operation} {self.name} #{self.number}"


@dataclass(frozen=True, slots=True)
class Operation:
    """One that a process did."""

    pid: int
    operation: str
    name: str


class Breaker:
    """Stands between processes and the files of one directory. Records until it is armed."""

    def __init__(self, root: Path, control: Path) -> None:
        self.root = root
        self._path = control
        with control.open("w+b") as file:
            file.truncate(_HEAD.size + _LOG_BYTES)
            self._shared = mmap.mmap(file.fileno(), 0)

    @property
    def environment(self) -> dict[str, str]:
        """The variables under which a process is watched, and all that it starts."""
        return {
            "LD_PRELOAD": str(library()),
            "FAULTPOINTS_CONTROL": str(self._path),
            "FAULTPOINTS_ROOT": str(self.root),
        }

    def arm(self, point: Point, fault: Fault, victim: int = 0) -> None:
        """From now on, waits for the point. Who does it is killed, or the process with the pid `victim`."""
        text = f"{point.operation} {point.name}".encode() if point.name else b""
        self._shared[: _HEAD.size] = _HEAD.pack(FAULTS.index(fault) + 1, point.number, 0, 0, victim, 0, text)

    def disarm(self) -> None:
        """There is room again, nothing is refused and nobody killed; operations are recorded from nothing on."""
        self._shared[: _HEAD.size] = bytes(_HEAD.size)

    @property
    def fired(self) -> bool:
        """Whether the point was met."""
        return bool(struct.unpack_from("i", self._shared, _FIRED_AT)[0])

    def operations(self) -> list[Operation]:
        """What was done since it records, in order."""
        used = _HEAD.unpack_from(self._shared)[5]
        assert used < _LOG_BYTES, "more operations than the log has room for"
        lines = self._shared[_HEAD.size : _HEAD.size + used].decode().splitlines()
        return [Operation(int(pid), operation, name) for pid, operation, name in (line.split(" ", 2) for line in lines)]

    def close(self) -> None:
        """Forgets the memory; processes that still run keep theirs."""
        self._shared.close()
        self._path.unlink()


def points(operations: Iterable[Operation]) -> list[Point]:
    """Every point of these operations, in order."""
    seen: Counter[tuple[str, str]] = Counter()
    found = []
    for done in operations:
        seen[done.operation, done.name] += 1
        found.append(Point(done.operation, done.name, seen[done.operation, done.name]))
    return found


def faults_at(point: Point) -> tuple[Fault, ...]:
    """What may happen there."""
    if point.reads:
        return ("refused once",)
    if point.operation == "write":
        return FAULTS
    return ("killed after it", "disk full from it on", "refused once")


@functools.cache
def library() -> Path:
    """`breaker.c` as a library. Raises `LookupError` when there is no compiler for it."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise LookupError("no C compiler is here to build what counts operations")
    made = Path(tempfile.mkdtemp(prefix="faultpoints-")) / "breaker.so"
    atexit.register(shutil.rmtree, made.parent, ignore_errors=True)
    source = Path(__file__).with_name("breaker.c")
    subprocess.run([compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", made, source, "-ldl"], check=True)
    return made
