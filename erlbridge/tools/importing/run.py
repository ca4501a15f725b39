"""An import: files to rows, rows to examples, examples to the dataset that is kept when all went well."""

from __future__ import annotations

import contextlib
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from erlbridge.errors import ValidationError
from erlbridge.tools.importing.rows import BadRow, Row, Unreadable
from erlbridge.tools.importing.shape import Shape
from erlbridge.tools.importing.sources import Source
from erlbridge.tools.progress import progress

_SAID: Final = 20
"""Bad rows of which each gets a line."""
_MEMORY_BYTES: Final = 2 * 2**30
"""What an import may take beyond what it began with. A few kilobytes of Parquet can claim more than any machine has."""


class Writer(Protocol):
    """Where examples go, each as its term."""

    def add_term(self, term: bytes) -> None:
        """Adds one."""


@dataclass(slots=True)
class Tally:
    """What has been read: rows that became examples, and rows that were passed over."""

    examples: int = 0
    skipped: int = 0


def import_rows(sources: Sequence[Source], shape: Shape, writer: Writer, skip_bad: int) -> Tally:
    """Hands every example of the files on, in their order.

    Args:
        skip_bad: How many bad rows are passed over, each with a line on standard error.

    Raises `ValidationError` with file, line and what was expected for one bad row more, for a file that cannot be read
    on, and for a name or type that no row has; also what the disk and the writer raise.
    """
    tally = Tally()
    unseen = {*shape.names, *(name for name in shape.types if name not in shape.names.values())}
    for source in sources:
        with _bounded_memory(source), source.opened() as opened, progress(source.name, opened.size) as bar:
            rows = source.rows(opened)
            shaped = replace(shape, empty_is_nil=source.format == "csv")
            while (row := _next(rows, source)) is not None:
                term = row if isinstance(row, BadRow) else _example(row, shaped)
                if isinstance(term, BadRow):
                    tally.skipped += 1
                    _pass_over(term, source, tally, skip_bad, bar.say)
                    continue
                assert isinstance(row, Row)  # noqa: S101 - it has an example
                if unseen:
                    unseen -= row.values.keys()
                    if unseen and source.format != "jsonl" and len(sources) == 1:
                        break  # a table has no further columns below
                writer.add_term(term)
                tally.examples += 1
                bar.reached(opened.reached, f"{tally.examples} examples")
    if unseen:
        raise ValidationError("no row has this name, which --name-map or --types gives", min(unseen))
    return tally


def place(source: Source, number: int, column: int | None = None) -> str:
    """A place in a file, as compilers and editors write it."""
    if source.format == "parquet":
        return f"{source.name}: row {number}" if number else source.name
    return ":".join([source.name, *(str(part) for part in (number, column) if part)])


def _next(rows: Iterator[Row | BadRow], source: Source) -> Row | BadRow | None:
    try:
        return next(rows, None)
    except Unreadable as error:
        raise ValidationError(str(error), place(source, error.number)) from None


def _example(row: Row, shape: Shape) -> bytes | BadRow:
    try:
        return shape.example(row.values)
    except ValueError as error:
        return BadRow(row.number, str(error))


def _pass_over(row: BadRow, source: Source, tally: Tally, skip_bad: int, say: Callable[[str], None]) -> None:
    at = place(source, row.number, row.column)
    if tally.skipped > skip_bad:
        hint = (
            f"{row.problem} (--skip-bad N passes over as many)"
            if not skip_bad
            else (f"{row.problem}; this is bad row {tally.skipped}, and --skip-bad allows {skip_bad}")
        )
        raise ValidationError(hint, at)
    if tally.skipped <= _SAID:
        say(f"{at}: {row.problem}; skipped")
    if tally.skipped == _SAID + 1:
        say("further bad rows are counted only")


@contextlib.contextmanager
def _bounded_memory(source: Source) -> Iterator[None]:
    """Has the kernel refuse what no honest file needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = _data_bytes() + _MEMORY_BYTES
    if soft != resource.RLIM_INFINITY:
        most = min(most, soft)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    try:
        yield
    except MemoryError:
        raise ValidationError(f"reading it takes more than {most >> 20} MiB of memory", source.name) from None
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int:
    """What this process has of what that limit counts, by /proc/self/statm; its sixth figure is data and stack."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[5]) * resource.getpagesize()


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP end the block as an exception does, so that nothing is left of it."""

    def end(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
