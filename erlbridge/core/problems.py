"""What is wrong with a document, all of it at once: each problem with its path, its line and what to do.

Knows problems as values; the readers of a workflow collect them here instead of ending at the first one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from erlbridge.errors import ValidationError
from erlbridge.wire.vocabulary import atom_keys

MAX_LISTED: Final = 100
"""Errors, and as many warnings, that are collected; a document with more has one mistake many times."""

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or odd, with a document. `line` counts from 1, None where the host sent a map."""

    path: str
    line: int | None
    message: str

    def term(self) -> dict[object, object]:
        """The problem as the host gets it."""
        return atom_keys({"path": self.path, "line": self.line, "message": self.message})


@dataclass(slots=True)
class Problems:
    """The errors and warnings of one document.

    Args:
        lines: The line of each path; a path that is not there has the line of the nearest one above it.
        file: What the host calls the document, for messages.
        place: Where in the payload the document stands.

    >>> problems = Problems({"steps": 1, "steps[0]": 2})
    >>> problems.error("steps[0].type", "expected a binary")
    >>> problems.errors
    [Problem(path='steps[0].type', line=2, message='expected a binary')]
    """

    lines: Mapping[str, int] = field(default_factory=dict)
    file: str | None = None
    place: str = "payload"
    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def error(self, path: str, message: str) -> None:
        """Something that must be mended before the document can be used. The last one that is listed ends the reading,
        with the `ValidationError` of `check`."""
        self._add(self.errors, path, message)
        if len(self.errors) == MAX_LISTED:
            self.check()

    def warn(self, path: str, message: str) -> None:
        """Something that is understood, though perhaps not as it was meant."""
        self._add(self.warnings, path, message)

    def attempt(self, read: Callable[..., Value], *arguments: object) -> Value | None:
        """What `read` gives for these arguments, or None when it raises `ValidationError`, which is then one of the
        errors."""
        try:
            return read(*arguments)
        except ValidationError as error:
            if "errors" in error.context:
                raise  # the reading has ended
            self.error(error.path, said(error))
            return None

    def check(self) -> None:
        """Raises one `ValidationError` when there are errors; its `context.errors` lists them."""
        if not self.errors:
            return
        self.errors.sort(key=lambda problem: problem.line or 0)
        first = self.errors[0]
        line = "" if first.line is None else f"line {first.line}, "
        count = "1 error" if len(self.errors) == 1 else f"{len(self.errors)} errors"
        where = f"{line}{first.path}: " if first.path else line
        failure = ValidationError(f"{count} in {self.file or 'the workflow'}: {where}{first.message}", self.place)
        failure.context |= {
            "errors": [problem.term() for problem in self.errors],
            "warnings": [problem.term() for problem in self.warnings],
            "count": len(self.errors),
            "file": self.file,
        }
        raise failure

    def _add(self, problems: list[Problem], path: str, message: str) -> None:
        problem = Problem(path, self._line(path), message)
        if problem not in problems and len(problems) < MAX_LISTED:
            problems.append(problem)

    def _line(self, path: str) -> int | None:
        while path not in self.lines and path:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get(path)


def said(error: ValidationError) -> str:
    """What a `ValidationError` says, without its path."""
    return error.message.removeprefix(f"{error.path}: ")
