"""What benchmarks have in common: figures as Markdown, aims beside them, and their section of docs/benchmarks.md.

    python benchmarks/report.py NAME TEXT

A benchmark prints what it measured; with `--write` that also replaces what stands in the document between
`<!-- NAME -->` and `<!-- end of NAME -->`. The prose around sections is written by hand. From the shell, and so from
Elixir, the command above writes TEXT into the section NAME.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DOCUMENT: Final = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


@dataclass(frozen=True, slots=True)
class Aim:
    """A ratio, where it is to lie, and what is known to stand in its way where it does not."""

    what: str
    figure: float
    aim: float
    at_least: bool = False
    """Whether more is better. Else the aim is the most that is well."""
    limit: str = ""
    """The name of what bounds it, told where the aim is missed."""
    margin: float = 4.0
    """How many times worse than its aim a figure must be for a gate to fall: machines differ, and others use them."""

    @property
    def reached(self) -> bool:
        return self.figure >= self.aim if self.at_least else self.figure <= self.aim

    @property
    def bound(self) -> float:
        """The worst figure with which a gate stands."""
        return self.aim / self.margin if self.at_least else self.aim * self.margin

    @property
    def fails_the_gate(self) -> bool:
        """Also where the figure is no number."""
        return not (self.figure >= self.bound if self.at_least else self.figure <= self.bound)

    def cells(self) -> tuple[str, str, str, str]:
        """The row of `aims`."""
        verdict = "reached" if self.reached else f"not reached{self.limit and ': '}{self.limit}"
        return self.what, ratio(self.figure), f"at {'least' if self.at_least else 'most'} {ratio(self.aim)}", verdict


def ratio(value: float) -> str:
    """Three figures are as much as a measurement is worth: `0.87 ×`, `3.4 ×`, `120 ×`."""
    digits = 2 if value < 2 else 1 if value < 20 else 0
    return f"{value:,.{digits}f} ×"


def span(seconds: float) -> str:
    """A time in the unit in which it is short: `31 µs`, `0.85 ms`, `1.2 s`."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size or unit == "µs":
            value = seconds / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
    raise AssertionError(seconds)


def percentile(values: Iterable[float], part: float) -> float:
    """The value below which this part of them lies; 0.5 is the median's neighbour. Raises ValueError for none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("nothing was measured")
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, without a line's end behind its last line."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("|".join(("", *(f" {cell} " if cell != "---" else cell for cell in line), "")) for line in lines)


_AIM_HEADS: Final = ("aim", "measured", "to be", "")


def aims(found: Iterable[Aim]) -> str:
    """The table of aims and what was reached."""
    return markdown(_AIM_HEADS, [aim.cells() for aim in found])


def all_aims(document: str) -> str:
    """One table of those of all sections of a document, each with the name of its benchmark."""
    heads, rule = markdown(_AIM_HEADS, []).splitlines()
    table = re.compile(rf"^{re.escape(heads)}\n{re.escape(rule)}\n((?:\|.*\n)+)", re.MULTILINE)
    rows = []
    for section in re.finditer(r"^<!-- (.+) -->\n(.*?)^<!-- end of \1 -->$", document, re.MULTILINE | re.DOTALL):
        for found in table.finditer(section[2]):
            rows += [f"| `{section[1]}` {row}" for row in found[1].splitlines()]
    return "\n".join([markdown(("benchmark", *_AIM_HEADS), []), *rows])


def machine() -> str:
    """One line: cores, processor, system, versions and day."""
    versions = [f"CPython {platform.python_version()}"]
    if otp := _otp():
        versions.append(f"OTP {otp}")
    versions += [f"DSPy {version}" for version in _versions("dspy")]
    release = ".".join(platform.release().split(".")[:2])
    return (
        f"*{len(os.sched_getaffinity(0))} cores of {_processor()}, {platform.system()} {release}, "
        f"{', '.join(versions)}; {datetime.datetime.now(datetime.UTC):%Y-%m-%d}.*"
    )


def takes_flags(parser: argparse.ArgumentParser, *, gate: bool = True) -> None:
    """What `erlbridge bench` gives to each benchmark, which Ctrl-C or the end of patience ends without a traceback; one
    without aims has no gate."""
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--write", action="store_true", help="replace its section of docs/benchmarks.md")
    how.add_argument("--short", action="store_true", help="a few seconds' worth, to see that nothing is badly wrong")
    if gate:
        parser.add_argument(
            "--gate", action="store_true", help="exit with 1 where a ratio has become several times worse"
        )


def options(about: str | None, *, full: int, short: int, what: str = "ROUNDS") -> argparse.Namespace:
    """What a benchmark of rounds and without aims was given: the flags, and as `rounds` how many; `about` is its
    docstring."""
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    takes_flags(parser, gate=False)
    takes_rounds(parser, full=full, short=short, what=what)
    given = parser.parse_args()
    settle_rounds(parser, given, full=full, short=short, what=what)
    return given


def takes_rounds(parser: argparse.ArgumentParser, *, full: int, short: int, what: str = "ROUNDS") -> None:
    """How many rounds, read as `rounds`, which `settle_rounds` makes a number of."""
    parser.add_argument("rounds", nargs="?", type=count, metavar=what, help=f"{full}; {short} where it is short")


def settle_rounds(
    parser: argparse.ArgumentParser, given: argparse.Namespace, *, full: int, short: int, what: str = "ROUNDS"
) -> None:
    """As many as were asked for or are usual; what is written is no less than that."""
    given.rounds = given.rounds or (short if given.short else full)
    refuse_part(parser, given, given.rounds < full and f"{what} of at least {full}")


def refuse_part(parser: argparse.ArgumentParser, given: argparse.Namespace, *lacking: str | bool) -> None:
    """Ends with a sentence where a section of the document would be replaced by less than it is to have. `lacking` says
    what it takes, or is false where nothing lacks."""
    for what in filter(None, lacking):
        if given.write:
            parser.error(f"--write replaces the whole section, which takes {what}")


def at_least(least: int) -> Callable[[str], int]:
    """Reads a number from this on, for argparse."""

    def number(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"a whole number from {least} on is wanted, not {text!r}")
        return int(text)

    return number


count: Final = at_least(1)
"""How often something is to be done."""


def publish(name: str, *parts: str, write: bool) -> None:
    """Prints the parts and the line of the machine, and writes them into the document's section of that name; its
    section `all aims` follows.

    Raises LookupError where the document has no such section.
    """
    text = "\n\n".join((*parts, machine()))
    print(text, flush=True)
    if write:
        document = with_section(DOCUMENT.read_text(encoding="utf-8"), name, text)
        DOCUMENT.write_text(with_section(document, "all aims", all_aims(document)), encoding="utf-8")


def with_section(document: str, name: str, text: str) -> str:
    """The document with this text between the marks of that name. Raises LookupError unless each is there once."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    if document.count(begin) != 1 or document.count(end) != 1:
        raise LookupError(
            f"{DOCUMENT.name} needs one section {name!r}: {begin.strip()} and {end} on lines of their own"
        )
    before, _, rest = document.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}{text}\n{end}{after}"


def gate(found: Iterable[Aim]) -> int:
    """The exit code of a gate, which says what fell behind. One that nothing passes through is none, and falls."""
    found = list(found)
    if not found:
        print("gate: nothing was compared: what it is compared with is missing here", file=sys.stderr)
        return 1
    fallen = [aim for aim in found if aim.fails_the_gate]
    for aim in fallen:
        what, measured, wanted, _ = aim.cells()
        print(f"gate: {what}: {measured}, to be {wanted}; the gate is at {ratio(aim.bound)}", file=sys.stderr)
    return 1 if fallen else 0


def _processor() -> str:
    try:
        about = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        about = ""
    named = re.search(r"^model name\s*:\s*(.+)$", about, re.MULTILINE)
    return named[1].strip() if named else platform.machine()


def _otp() -> str | None:
    """The release of the Erlang on the path, without starting one."""
    found = shutil.which("erl")
    if found is None:
        return None
    for folder in Path(found).resolve().parents:
        started = folder / "releases" / "start_erl.data"
        if started.is_file():
            return started.read_text(encoding="ascii").split()[-1]
    return None


def _versions(package: str) -> list[str]:
    try:
        return [importlib.metadata.version(package)]
    except importlib.metadata.PackageNotFoundError:
        return []


if __name__ == "__main__":
    publish(sys.argv[1], sys.argv[2], write=True)
