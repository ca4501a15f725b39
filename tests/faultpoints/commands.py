"""Commands of the command line on a store, killed and refused at each of their operations on its files.

What a store held before must be there afterwards, and the command must come to its end when it is given once more.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node_client import NodeGone

from faultpoints.breaker import Breaker, Fault, Point, faults_at, points
from faultpoints.conversations import jobs, transfers
from faultpoints.host import Broken, Host, Ledger
from faultpoints.trial import OURS, Tried, age, files


@dataclass(frozen=True, slots=True)
class Command:
    """`arguments` are its words for a store and a directory beside it."""

    name: str
    arguments: Callable[[Path, Path], list[str]]
    prepare: Callable[[Path, Path], None] = lambda _data, _beside: None


def _an_old_store(data: Path, _beside: Path) -> None:
    age(data)


def _an_archive(data: Path, beside: Path) -> None:
    """Another store takes over what this one has exported."""
    _run(["store", "export", str(beside / "archive"), "--data", str(data)])
    for path in list(data.iterdir()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _a_file(_data: Path, beside: Path) -> None:
    (beside / "rows.jsonl").write_text("".join(f'{{"question": "q{n}", "answer": "{n}"}}\n' for n in range(300)))


COMMANDS: Final = (
    Command("gc", lambda data, _: ["store", "gc", "--data", str(data)], _an_old_store),
    Command("verify", lambda data, _: ["store", "verify", "--data", str(data)]),
    Command(
        "import", lambda data, beside: ["store", "import", str(beside / "archive"), "--data", str(data)], _an_archive
    ),
    Command(
        "dataset import",
        lambda data, beside: ["dataset", "import", str(beside / "rows.jsonl"), "--data", str(data)],
        _a_file,
    ),
)


class Commands:
    """Trials of one command on copies of one store."""

    def __init__(self, command: Command) -> None:
        self._command = command
        self._room = Path(tempfile.mkdtemp(prefix="faultpoints-"))
        data, beside = self._room / "store", self._room / "beside"
        beside.mkdir()
        host = Host(data)
        with host.with_node():
            transfers(host)
            jobs(host)
        self.ledger = host.ledger
        command.prepare(data, beside)
        after = self._copy("after")
        breaker = Breaker(after, self._room / "control")
        self.told = _run(command.arguments(after, beside), **breaker.environment)
        self.points = [point for point in points(breaker.operations()) if OURS.match(point.name)]
        breaker.close()
        self._files = frozenset(files(after)) | frozenset(files(data))

    @property
    def plan(self) -> list[tuple[Point, Fault]]:
        """Everything that may happen."""
        return [(point, fault) for point in self.points for fault in faults_at(point)]

    def attempt(self, point: Point, fault: Fault) -> Tried:
        """Tries a point."""
        begun = time.monotonic()
        data = self._copy(f"{time.monotonic_ns()}")
        breaker = Breaker(data, data.with_suffix(".control"))
        met, broken = False, ""
        try:
            breaker.arm(point, fault)
            told = _run(self._command.arguments(data, self._room / "beside"), **breaker.environment)
            met = breaker.fired
            if met and fault.startswith("killed") and told.returncode != -9:
                raise Broken(f"killed, and it ended with {told.returncode}: {told.stderr}")
            if "Traceback" in told.stderr:
                raise Broken(f"it ended with a traceback: {told.stderr}")
            again = _run(self._command.arguments(data, self._room / "beside"))
            if again.returncode:
                raise Broken(f"the next one ended with {again.returncode}: {again.stdout} {again.stderr}")
            age(data)
            _run(["store", "gc", "--data", str(data)])
            host = Host(data)
            host.ledger = self._promised()
            with host.with_node():
                host.check()
            if strange := sorted(set(files(data)) - self._files):
                raise Broken(f"left behind: {', '.join(strange)}")
        except (Broken, AssertionError, NodeGone, BrokenPipeError, subprocess.TimeoutExpired) as error:
            broken = f"{type(error).__name__}: {error}"
        finally:
            breaker.close()
            shutil.rmtree(data)
        return Tried(f"`{self._command.name}`", point, fault, "who does it", met, broken, time.monotonic() - begun)

    def close(self) -> None:
        """Removes everything."""
        shutil.rmtree(self._room)

    def _copy(self, name: str) -> Path:
        """The store once more, with its files' times."""
        return shutil.copytree(self._room / "store", self._room / name, symlinks=True)

    def _promised(self) -> Ledger:
        """What an old store keeps for ever; what was let go of for its age was promised to nobody."""
        return Ledger(programs=self.ledger.programs, gone=self.ledger.gone)


def is_known(command: Command) -> bool:
    """Whether this command line has it."""
    words = command.arguments(Path("data"), Path("beside"))[:2]
    return "invalid choice" not in _run([*words, "--help"]).stderr


def _run(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "erlbridge", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
