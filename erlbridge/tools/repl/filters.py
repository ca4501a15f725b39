"""Which frames are meant: `verb=predict error size>1MB after=12:03`. Every term of a filter must hold."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Final, TypeAlias

from erlbridge.errors import ValidationError
from erlbridge.tools.repl.said import Kind
from erlbridge.tools.repl.tape import Frame
from erlbridge.wire.place import nearest

Test: TypeAlias = Callable[[Frame], bool]

_TERM: Final = re.compile(r"([a-z]+)(<=|>=|!=|=|<|>|~)(.*)", re.DOTALL)
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(b|k|kb|kib|m|mb|mib|g|gb|gib)?", re.IGNORECASE)
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ns|us|µs|ms|s|m|h)?")
_SPAN_NS: Final = {"ns": 1, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9, "m": 6e10, "h": 3.6e12}
_NUMBERS: Final[dict[str, Callable[[Frame], int | None]]] = {
    "n": lambda frame: frame.number,
    "size": lambda frame: frame.size,
    "took": lambda frame: frame.took_ns,
}
TEXTS: Final[dict[str, Callable[[Frame], str]]] = {
    "id": lambda frame: frame.said.id,
    "verb": lambda frame: frame.verb,
    "head": lambda frame: frame.said.head,
    "kind": lambda frame: frame.said.kind.value,
    "error": lambda frame: frame.said.error or "",
    "wire": lambda frame: frame.wire,
    "dir": lambda frame: "in" if frame.inward else "out",
}
HELP: Final = """\
n        the frame's number                         n>100
id       the request's id, in Elixir's notation     id=7
verb     of the request, also of its answer         verb=predict
head     a verb, or the message's first atom        head=progress
kind     request, answer, event, control, broken    kind=answer
error    the error's type; alone, any error         error=lm_error
wire     host, repl, worker, 'worker 2'             wire=worker
dir      in (to the node or worker), out            dir=out
size     bytes on the wire                          size>1MB
took     of an answer, since its request            took>200ms
after    the time of day, or a date with it         after=12:03:04
before   the same                                   before=2026-11-23T12:03
last     so many of those that are left             last=20

= is equal, != is not, ~ holds the text; numbers also take <, <=, > and >=. A word without any of
these is looked for in the line about the frame. All must hold."""
KEYS: Final = (*TEXTS, *_NUMBERS, "after", "before", "last")


@dataclass(frozen=True, slots=True)
class Filter:
    """What is asked of frames. `last` is how many of those that pass are kept, None for all."""

    tests: tuple[Test, ...] = ()
    last: int | None = None

    def passes(self, frame: Frame) -> bool:
        """Whether a frame is one of those."""
        return all(test(frame) for test in self.tests)

    def of(self, frames: Iterable[Frame]) -> list[Frame]:
        """Those of the frames."""
        found = [frame for frame in frames if self.passes(frame)]
        return found if self.last is None else found[max(0, len(found) - self.last) :]


def parse_filter(text: str, frames: Sequence[Frame] = ()) -> Filter:
    """The filter that a line stands for. A time of day is one of the day of the first of the `frames`.

    Raises `ValidationError` with what was expected.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValidationError(f"{error}; put a quote around what has spaces, such as id='{{1, 2}}'", "filter") from None
    day = datetime.fromtimestamp(frames[0].wall_ns / 1e9).astimezone() if frames else datetime.now().astimezone()
    tests: list[Test] = []
    last: int | None = None
    for word in words:
        match = _TERM.fullmatch(word)
        if match is None:
            tests.append(_word(word))
            continue
        key, operator, value = match.groups()
        if key == "last":
            last = _count(value)
        else:
            tests.append(_test(key, operator, value, day))
    return Filter(tuple(tests), last)


def _test(key: str, operator: str, value: str, day: datetime) -> Test:
    if key in ("after", "before"):
        at_ns = _moment(key, value, day)
        return (lambda frame: frame.wall_ns >= at_ns) if key == "after" else (lambda frame: frame.wall_ns < at_ns)
    if key in _NUMBERS:
        return _number_test(key, operator, _number(key, value))
    if key not in TEXTS:
        raise ValidationError(f"unknown key `{key[:40]}`{nearest(key, KEYS)}; known are {', '.join(KEYS)}", "filter")
    if operator not in ("=", "!=", "~"):
        raise ValidationError(f"`{key}` is compared by =, != or ~, not by {operator}", "filter")
    read = TEXTS[key]
    if key == "kind" and operator != "~":
        kinds = [kind.value for kind in Kind]
        if value not in kinds:
            raise ValidationError(f"unknown kind `{value[:40]}`; known are {', '.join(kinds)}", "filter")

    def holds(frame: Frame) -> bool:
        found = read(frame)
        if operator == "~":
            return value.lower() in found.lower()
        # A shell's quotes are gone: `id="abc"` means the binary too.
        equal = found in (value, f'"{value}"', f":{value}") or (key == "wire" and found.startswith(f"{value} "))
        return equal == (operator == "=")

    return holds


def _word(word: str) -> Test:
    if word == "error":
        return lambda frame: frame.said.error is not None
    wanted = word.lower()
    return lambda frame: wanted in f"{frame.said.head} {frame.verb} {frame.said.id} {frame.said.summary}".lower()


def _number_test(key: str, operator: str, wanted: float) -> Test:
    read = _NUMBERS[key]

    def holds(frame: Frame) -> bool:
        found = read(frame)
        if found is None:
            return False
        match operator:
            case "<":
                return found < wanted
            case "<=":
                return found <= wanted
            case ">":
                return found > wanted
            case ">=":
                return found >= wanted
            case "!=":
                return found != wanted
            case _:
                return found == wanted

    if operator == "~":
        raise ValidationError(f"`{key}` is a number: compared by =, !=, <, <=, > or >=", "filter")
    return holds


def _number(key: str, value: str) -> float:
    if key == "took":
        span = _SPAN.fullmatch(value)
        if span is None:
            raise ValidationError(f"expected a time such as 200ms or 1.5s, got `{value[:40]}`", f"filter.{key}")
        return float(span[1]) * _SPAN_NS[span[2] or "ms"]
    size = _SIZE.fullmatch(value)
    if size is None or (key == "n" and size[2]):
        expected = "a number" if key == "n" else "a size such as 512, 64kB or 1MB"
        raise ValidationError(f"expected {expected}, got `{value[:40]}`", f"filter.{key}")
    unit = (size[2] or "b").lower()
    base = 1024 if "i" in unit else 1000
    return float(size[1]) * float(base ** "bkmg".index(unit[0]))


def _count(value: str) -> int:
    if not re.fullmatch(r"\d{1,9}", value):
        raise ValidationError(f"expected a count, got `{value[:40]}`", "filter.last")
    return int(value)


def _moment(key: str, value: str, day: datetime) -> int:
    try:
        if re.match(r"\d{4}-", value):
            at = datetime.fromisoformat(value) if "T" in value else datetime.combine(date.fromisoformat(value), time())
            at = at if at.tzinfo else at.replace(tzinfo=day.tzinfo)
        else:
            at = datetime.combine(day.date(), time.fromisoformat(value), tzinfo=day.tzinfo)
    except ValueError:
        raise ValidationError(
            f"expected a time such as 12:03 or 2026-11-23T12:03:04, got `{value[:40]}`", f"filter.{key}"
        ) from None
    return int(at.timestamp() * 1e9)
