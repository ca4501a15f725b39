"""What reading either notation shares: a place in a text, and the loop that follows nesting without recursion.

A notation gives a function that begins to read a value: it gives the value at once, or a generator, which yields
whenever it has come to a value inside of it and is sent that value.
"""

from __future__ import annotations

import re
from types import GeneratorType

from erlbridge.codec.notation.numbers import read_decimal
from erlbridge.errors import NotationError
from erlbridge.limits import MAX_ATOM_CHARACTERS, MAX_DECIMAL_DIGITS, MAX_NOTATION_CHARACTERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any, NoReturn, TypeAlias

    Reading: TypeAlias = Generator[None, Any, object]

_WORD = re.compile(r"[\w@]+[?!]?")


class Cursor:
    """A place in a text, and what may be asked of what stands there."""

    __slots__ = ("blank", "pos", "text")

    def __init__(self, text: str, blank: re.Pattern[str]) -> None:
        self.text = text
        self.pos = 0
        self.blank = blank

    def skip_blank(self) -> None:
        """Goes on to what is neither blank nor a comment."""
        found = self.blank.match(self.text, self.pos)
        if found is not None:
            self.pos = found.end()

    def take(self, token: str) -> bool:
        """Whether this stands here, behind blanks; if so, goes on behind it."""
        self.skip_blank()
        if self.text.startswith(token, self.pos):
            self.pos += len(token)
            return True
        return False

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """What matches right here; if something does, goes on behind it."""
        found = pattern.match(self.text, self.pos)
        if found is not None:
            self.pos = found.end()
        return found

    def need(self, token: str, where: str) -> None:
        """Goes on behind this, which must stand here."""
        if not self.take(token):
            self.expected(f"`{token}` {where}")

    def expected(self, what: str) -> NoReturn:
        """Refuses what stands here."""
        self.skip_blank()
        self.fail(f"expected {what}, got {self.seen()}")

    def seen(self) -> str:
        """What stands here, for a message."""
        if self.pos >= len(self.text):
            return "the end of the text"
        if self.text.startswith("...", self.pos):
            return "`...`, which stands for what was left out"
        word = _WORD.match(self.text, self.pos)
        shown = word[0][:40] if word else self.text[self.pos]
        return f"`{shown}`" if shown.isprintable() else f"U+{ord(shown[0]):04X}"

    def fail(self, message: str, pos: int | None = None) -> NoReturn:
        """Refuses the text, here or at another place."""
        at = self.pos if pos is None else pos
        before = self.text[:at]
        raise NotationError(message, before.count("\n") + 1, at - (before.rfind("\n") + 1) + 1)


def read(cursor: Cursor, begin: Callable[[Cursor], object], max_depth: int, *, dot: bool = False) -> object:
    """The one value of the whole text, which a dot may end."""
    if len(cursor.text) > MAX_NOTATION_CHARACTERS:
        cursor.fail(f"text of {len(cursor.text)} characters, limit {MAX_NOTATION_CHARACTERS}")
    value = read_value(cursor, begin, max_depth)
    if dot:
        cursor.take(".")
    cursor.skip_blank()
    if cursor.pos < len(cursor.text):
        cursor.expected("the end of the term")
    return value


def read_value(cursor: Cursor, begin: Callable[[Cursor], object], max_depth: int) -> object:
    """The value that stands here."""
    stack: list[Reading] = []
    value = begin(cursor)
    while True:
        reply = None
        if type(value) is GeneratorType:
            if len(stack) >= max_depth:
                cursor.fail(f"term nested deeper than {max_depth}")
            stack.append(value)
        elif stack:
            reply = value
        else:
            return value
        try:
            stack[-1].send(reply)
        except StopIteration as end:
            stack.pop()
            value = end.value
        else:
            value = begin(cursor)


def digits_value(cursor: Cursor, digits: str, base: int, start: int) -> int:
    """The integer of these digits, which began at `start`."""
    digits = digits.replace("_", "")
    if base & (base - 1) == 0:
        return int(digits, base)
    if len(digits) > MAX_DECIMAL_DIGITS:
        cursor.fail(f"integer of {len(digits)} digits, limit {MAX_DECIMAL_DIGITS}; write it in hexadecimal", start)
    if base == 10:
        return read_decimal(digits)
    if len(digits) > 4000:
        cursor.fail(f"integer of {len(digits)} digits in base {base}, limit 4000; write it in hexadecimal", start)
    return int(digits, base)


def float_value(cursor: Cursor, text: str, start: int) -> float:
    """The float of this text, which began at `start`."""
    value = float(text.replace("_", ""))
    if value - value != 0.0:
        cursor.fail(f"float {text[:40]} is beyond the largest there is", start)
    return value


def checked_name(cursor: Cursor, name: str, start: int) -> str:
    """The name of an atom, which began at `start`."""
    if len(name) > MAX_ATOM_CHARACTERS:
        cursor.fail(f"atom of {len(name)} characters, limit {MAX_ATOM_CHARACTERS}", start)
    return name
