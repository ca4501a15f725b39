"""DSPy's cache, replaced: answers come from and go to `answers`, under keys that tell endpoints apart.

DSPy's own cache lies in the user's home, may grow to 30 GB and unpickles what it finds; its key knows no address. DSPy
asks this one before each call, which makes it the place where a call is either answered for nothing or goes out.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dspy  # type: ignore[import-untyped]
from dspy.clients.cache import Cache  # type: ignore[import-untyped]
from pydantic import BaseModel

from erlbridge.programs.answers import Answers
from erlbridge.programs.failures import Secrets

_FORMAT: Final = "dspy-lm15-result-v1"
"""What DSPy calls the plain form of a result (`CallResult.dump`)."""

_PARTS: Final[Mapping[str, type | tuple[type, ...]]] = {
    "responses": list, "outputs": list, "usage": dict, "cost_details": dict,
    "cost": (float, int, type(None)), "response_model": (str, type(None)),
}  # fmt: skip

_LITELLM: Final = "litellm"

_NOT_IN_KEY: Final = ("timeout",)
"""What changes no answer. DSPy leaves out the key and the address by itself."""


def data_directory() -> Path | None:
    """The data directory of the node that this worker belongs to; None outside of a node, where nothing is kept."""
    found = os.environ.get("ERLBRIDGE_WORKER_DATA")
    return Path(found) if found else None


@dataclass(frozen=True, slots=True)
class Calling:
    """The call that a thread is making.

    Args:
        endpoint: Who is asked; answers of another one are not its.
        sample: Which of the answers that were asked for at once; each is another one.
        secrets: No answer with a key in it is kept: a later job reads it and knows nothing of that key.
        goes_out: Called when the cache has no answer, before the model is asked; may raise to stop the job.
        found: Called when the cache has one.
    """

    endpoint: str
    sample: int
    secrets: Secrets
    goes_out: Callable[[], None]
    found: Callable[[], None]


calling: ContextVar[Calling | None] = ContextVar("calling", default=None)


class AnswerCache(Cache):  # type: ignore[misc]
    """What DSPy asks before each call that may be cached, and tells the answer of each. Raises nothing of its own: an
    answer that cannot be kept costs a call, not a job."""

    def __init__(self, answers: Answers) -> None:
        super().__init__(enable_disk_cache=False, enable_memory_cache=False, disk_cache_dir=None)
        self.answers = answers

    def get(self, request: dict[str, Any], ignored_args_for_cache_key: list[str] | None = None) -> Any:
        """The answer to a request, None when there is none; then it goes out."""
        call = calling.get()
        if call is None:
            return None
        key = self._key(call, request, ignored_args_for_cache_key)
        record = _read(None if key is None else self.answers.get(key))
        if record is not None:
            call.found()
        else:
            call.goes_out()
        return record

    def put(
        self,
        request: dict[str, Any],
        value: Any,
        ignored_args_for_cache_key: list[str] | None = None,
        enable_memory_cache: bool = True,  # noqa: ARG002 - DSPy's shape
    ) -> None:
        """Keeps an answer."""
        call = calling.get()
        record = _written(value)
        if call is None or record is None or call.secrets.keys_show_in(repr(record)):
            return
        key = self._key(call, request, ignored_args_for_cache_key)
        if key is not None:
            self.answers.put(key, record)

    def _key(self, call: Calling, request: dict[str, Any], ignored: list[str] | None) -> bytes | None:
        try:
            asked = self.cache_key(request, [*(ignored or ()), *_NOT_IN_KEY])
        except (TypeError, ValueError):
            return None  # it holds what JSON does not, such as a picture
        return hashlib.sha256(f"{dspy.__version__} {call.endpoint} {call.sample} {asked}".encode()).digest()


def _written(value: Any) -> dict[str, Any] | None:
    """What is kept of a result: DSPy's own plain form, or litellm's object as plain data."""
    if isinstance(value, BaseModel):
        return {_LITELLM: value.model_dump(mode="json")}
    return value if isinstance(value, dict) else None


def _read(record: object) -> dict[str, Any] | None:
    """What DSPy takes for a result, None for anything else that may lie in the file."""
    if not isinstance(record, dict):
        return None
    if isinstance(found := record.get(_LITELLM), dict):
        return found
    known = record.get("_dspy_format") == _FORMAT
    return record if known and all(isinstance(record.get(name), kinds) for name, kinds in _PARTS.items()) else None


@functools.cache
def keep_answers() -> None:
    """Gives DSPy this cache, once a process."""
    dspy.cache = AnswerCache(Answers(data_directory()))
