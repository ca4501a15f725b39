"""`erlbridge bench`: what `benchmarks/` of a checkout measures. A wheel does not bring it along, and says so."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import erlbridge
from erlbridge.errors import NotFound
from erlbridge.wire.place import nearest

_CHECKOUT: Final = Path(erlbridge.__file__).resolve().parents[1]
_SOURCES: Final = _CHECKOUT / "benchmarks"
GATED: Final = ("codec", "round_trip")
"""Those with a short form whose ratios tell within seconds that something has become several times slower."""
EXIT_FAILED: Final = 1
"""A ratio below its gate, or a benchmark that does not run."""
EXIT_CANNOT: Final = 77
"""What a benchmark exits with that needs what this machine has not, as test runners know it; it has said what."""
_PATIENCE_S: Final = 900.0
"""What no benchmark needs where nobody sits beside it; each takes some minutes at most."""
_FAREWELL_S: Final = 5.0
"""What one that is ended has to take back what it has put on the disk."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A file of `benchmarks/` that can be run, the first line of what it says of itself, and whether it judges."""

    name: str
    about: str
    file: Path
    gated: bool
    """Whether it takes `--gate`."""

    @property
    def directory(self) -> Path | None:
        """Where it must run: Elixir in its project, Python anywhere."""
        return _CHECKOUT / "priv_stub" if self.file.suffix == ".exs" else None

    def command(self, arguments: Sequence[str]) -> list[str]:
        """How it is started; one in Elixir by mix. Raises `NotFound` where there is no mix."""
        if self.file.suffix == ".py":
            return [sys.executable, str(self.file), *arguments]
        mix = shutil.which("mix")
        if mix is None:
            raise NotFound(f"the benchmark {self.name!r} needs Elixir: there is no mix on the path")
        return [mix, "run", str(self.file), *arguments]


def benchmarks(directory: Path = _SOURCES) -> dict[str, Benchmark]:
    """The benchmarks of this checkout by name, none in a wheel. What has no `main` is a part that others share."""
    found = {}
    for file in sorted(directory.glob("*.*")):
        match file.suffix:
            case ".py":
                one = _python(file)
            case ".exs":
                one = _elixir(file)
            case _:
                continue
        if one is not None:
            found[one.name] = one
    return found


def show(name: str | None, *, json: bool) -> int:
    """Prints what there is to measure, or this alone. Raises `NotFound` where it is not there, or nothing is."""
    found = _there() if name is None else {name: _named(name)}
    if json:
        print("".join(_line(one) + "\n" for one in found.values()), end="")
        return 0
    width = max(map(len, found))
    for one in found.values():
        print(f"{one.name:<{width}}  {one.about}")
    return 0


def run(name: str, arguments: Sequence[str], patience_s: float | None = None) -> int:
    """Runs one with arguments of its own and gives its exit code, or that of failure for one that is ended because it
    takes longer than this. Raises `NotFound`."""
    found = _named(name)
    environment = {
        "LC_ALL": "C.UTF-8",
        "ERLBRIDGE_PYTHON": sys.executable,
        **os.environ,
        # Ctrl-C ends a BEAM, too, which would ask what is to be done, with nobody left to hear the answer.
        "ELIXIR_ERL_OPTIONS": f"{os.environ.get('ELIXIR_ERL_OPTIONS', '')} +Bd".strip(),
    }
    command = found.command(arguments)
    # A file of this checkout, in this group of processes: Ctrl-C reaches all of them.
    with subprocess.Popen(command, cwd=found.directory, env=environment) as process:  # noqa: S603
        try:
            return process.wait(patience_s)
        except subprocess.TimeoutExpired:
            print(f"{name} is ended: it has taken more than {patience_s:.0f} s", file=sys.stderr)
            return EXIT_FAILED
        except KeyboardInterrupt:
            with contextlib.suppress(subprocess.TimeoutExpired):  # it has heard of it as well, and clears up
                process.wait(_FAREWELL_S)
            raise
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends what still runs, with what it has started: a BEAM, nodes, a database. What is left would be measured with
    all that comes after it."""
    if process.poll() is not None:
        return
    started = list(_descendants(process.pid))
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_FAREWELL_S)
    process.kill()
    for one in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def _descendants(pid: int) -> Iterator[int]:
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # which has gone meanwhile
            for child in map(int, listed.read_text(encoding="ascii").split()):
                yield child
                yield from _descendants(child)


def run_all(arguments: Sequence[str], *, short: bool) -> int:
    """Runs all, or those that have a short form, each with the same arguments, but for the gate of those that judge
    nothing; gives 1 if one failed. Raises `NotFound` where there are none.

    One that cannot run here has said what it needs and is passed over; where none can, the code says so. What a gate
    finds slow is measured once more: a machine that was busy with something else has come to rest by then, and a fault
    has not.
    """
    there = _there()
    names = GATED if short else tuple(there)
    failed, passed_over = [], []
    for number, name in enumerate(names, 1):
        print(f"\n-- {name} ({number} of {len(names)})", flush=True)
        began = time.monotonic()
        given = [flag for flag in arguments if flag != "--gate" or name not in there or there[name].gated]
        try:
            code = run(name, given, _PATIENCE_S)
            if code == EXIT_FAILED and "--gate" in given:
                print(f"-- {name}, once more", flush=True)
                code = run(name, given, _PATIENCE_S)
        except NotFound as missing:
            print(missing.message, file=sys.stderr)
            code = EXIT_CANNOT
        print(f"-- {name}: {time.monotonic() - began:.0f} s", flush=True)
        if code == EXIT_CANNOT:
            passed_over.append(name)
        elif code:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_CANNOT if len(passed_over) == len(names) else 0


def _there() -> dict[str, Benchmark]:
    found = benchmarks()
    if not found:
        raise NotFound(
            "the benchmarks are not installed with the package: run this in a checkout of its sources "
            "(docs/benchmarks.md has what they measured)"
        )
    return found


def _named(name: str) -> Benchmark:
    found = _there()
    if name not in found:
        raise NotFound(f"there is no benchmark {name!r}{nearest(name, found)}; known are {', '.join(found)}")
    return found[name]


def _python(file: Path) -> Benchmark | None:
    """What it is by its text; no benchmark without a `main`."""
    module = ast.parse(file.read_text(encoding="utf-8"))
    if not any(isinstance(part, ast.FunctionDef) and part.name == "main" for part in module.body):
        return None
    called = {part.func for part in ast.walk(module) if isinstance(part, ast.Call)}
    gated = "gate" in {getattr(one, "attr", getattr(one, "id", None)) for one in called}
    return Benchmark(file.stem, (ast.get_docstring(module) or "").partition("\n")[0], file, gated)


def _elixir(file: Path) -> Benchmark:
    about = file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
    return Benchmark(file.stem, about, file, gated=False)


def _line(one: Benchmark) -> str:
    return json.dumps({"benchmark": one.name, "about": one.about}, ensure_ascii=False)
