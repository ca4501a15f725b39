"""Elixir functions as a job calls them: by name, through the guard; a value that does not fit is a failure as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from erlbridge.core.functions import Function, call_failed
from erlbridge.errors import CallbackFailed, ValidationError
from erlbridge.programs.guard import Guard
from erlbridge.wire.place import Place

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class HostFunction:
    """One Elixir function within one job.

    Args:
        function: Its name.
        guard: Counts its calls and stops them with the job.
        timeout_ms: How long one call may take, None for as long as the job may.
    """

    function: Function
    guard: Guard
    timeout_ms: int | None = None

    def __call__(self, arguments: list[object], read: Callable[[Place], Value]) -> Value:
        """What the function gives for these arguments, as `read` takes it.

        Raises `CallbackFailed` for its failure, also when `read` refuses the value, or the guard's `Stop`.
        """
        found = self.guard.call(self.function.name, arguments, self.timeout_ms)
        try:
            return read(Place(found, "value"))
        except ValidationError as error:
            what = error.message.removeprefix("value: ")
            raise call_failed(self.function.name, f"gave a value that cannot be used: {what}") from None

    def demand(self, arguments: list[object], read: Callable[[Place], Value]) -> Value:
        """The same where the job cannot go on without the value: a failure ends it."""
        try:
            return self(arguments, read)
        except CallbackFailed as failure:
            self.end_job(failure)

    def end_job(self, failure: CallbackFailed) -> NoReturn:
        """Ends the job with the function's failure."""
        self.guard.stop(failure)
