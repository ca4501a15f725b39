"""What went wrong with a model, in the bridge's own errors, and with no key in any text.

Knows DSPy's LM errors, their kinds and which of them no further call can mend; knows where keys may stand. Decides
nothing about a job.
"""

from __future__ import annotations

import html
import json
import os
import re
import traceback as traceback_module
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import dspy  # type: ignore[import-untyped]
from dspy.utils import exceptions as lm_errors  # type: ignore[import-untyped]

from erlbridge.core.secrecy import named_secrets, passwords
from erlbridge.errors import BridgeError, LMFailed

_KINDS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (lm_errors.LMAuthError, "auth"),
    (lm_errors.LMBillingError, "billing"),
    (lm_errors.LMRateLimitError, "rate_limit"),
    (lm_errors.LMTimeoutError, "timeout"),
    (lm_errors.LMServerError, "server"),
    (lm_errors.LMTransportError, "transport"),
    (lm_errors.LMLockTimeoutError, "transport"),
    (lm_errors.LMStreamAssemblyError, "transport"),
    (lm_errors.LMInvalidRequestError, "invalid_request"),
    (lm_errors.LMConfigurationError, "configuration"),
    (lm_errors.LMUnsupportedFeatureError, "configuration"),
)
_FATAL: Final = (
    lm_errors.LMAuthError,
    lm_errors.LMBillingError,
    lm_errors.LMConfigurationError,
    lm_errors.LMUnsupportedModelError,
    lm_errors.LMUnsupportedFeatureError,
)
_SHORTEST_NAMED_SECRET: Final = 4
"""A key that the request names is one, however short; below four characters a text would be more holes than text."""

_PATTERNS: Final = 64
"""Kept from job to job, most of them for the environment's secrets: one for a long key takes a millisecond to make."""

_REDACTED: Final = "[redacted]"
_BACKSLASHES: Final = r"\\\\{0,7}"
"""One to eight: text that was escaped three times over."""

_SHORT_ESCAPES: Final = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed when made again."""
    # A streamed answer that breaks off is to DSPy a fault of its protocol; mostly it is one of the line.
    return bool(dspy.is_retryable_lm_error(error)) or isinstance(error, lm_errors.LMStreamAssemblyError)


def is_fatal(error: BaseException) -> bool:
    """Whether every further call of this model would fail in the same way."""
    return isinstance(error, _FATAL)


def kind_of(error: BaseException) -> str:
    """The error's kind, one of `vocabulary.ERROR_KINDS`."""
    return next((kind for known, kind in _KINDS if isinstance(error, known)), "unknown")


def lm_failed(error: BaseException, *, failed_calls: int | None = None) -> LMFailed:
    """The wire error for an exception of a model call."""
    retry_after = getattr(error, "retry_after", None)
    context: dict[str, object] = {"model": getattr(error, "model", None)}
    if failed_calls is not None:
        context["failed_calls"] = failed_calls
    return LMFailed(
        f"{type(error).__name__}: {error}",
        kind=kind_of(error),
        transient=is_transient(error),
        traceback=traceback_text(error),
        retry_after_ms=round(retry_after * 1000) if isinstance(retry_after, int | float) else None,
        context=context,
    )


def traceback_text(error: BaseException) -> str:
    """Python's traceback of an exception and its causes."""
    return "".join(traceback_module.format_exception(error))


def forget_data(error: BaseException) -> None:
    """Takes away what an exception and its causes hold beside their words: the locals of the frames that they passed
    and a text that was no JSON. Until the collector comes they would keep an answer of many megabytes."""
    for part in _chain(error):
        traceback_module.clear_frames(part.__traceback__)
        if isinstance(part, json.JSONDecodeError):
            part.doc = ""


class Secrets:
    """Values that must not appear in any text that leaves the worker, however they are written there.

    >>> secrets = Secrets({"OPENAI_API_KEY": "sk-12/3456\\n"})
    >>> secrets.redact("Incorrect key sk-12/3456 provided, also in ?key=sk-12%2F3456")
    'Incorrect key [redacted] provided, also in ?key=[redacted]'
    """

    def __init__(self, environment: Mapping[str, str], named: Iterable[str] = (), given: Iterable[str] = ()) -> None:
        environment = dict(environment)  # that of the process decodes each value whenever it is asked for
        asked, keys = set(named), set(given)
        found = named_secrets(environment) | {name: environment.get(name, "").strip() for name in asked}
        found = {name: value for name, value in found.items() if len(value) >= _SHORTEST_NAMED_SECRET}
        keys |= {value for name, value in found.items() if name in asked or name.upper().endswith("API_KEY")}
        values = keys | passwords(environment.values()) | set(found.values())
        # The longest first: a key may begin with another one. One pattern each, which is searched three times faster.
        self._patterns = [_spelled(value) for value in sorted(values, key=len, reverse=True)]
        self._keys = [_spelled(value) for value in sorted(keys, key=len, reverse=True)]

    @classmethod
    def of_process(cls, named: Iterable[str | None] = (), given: Iterable[str | None] = ()) -> Secrets:
        """The secrets of this process's environment, those of the variables that a request names, and the keys that it
        gives."""
        return cls(os.environ, filter(None, named), filter(None, given))

    @property
    def key_patterns(self) -> list[re.Pattern[str]]:
        """What `redact_answer` finds keys with, in the order in which it looks."""
        return list(self._keys)

    def redact(self, text: str) -> str:
        """The text without secrets."""
        for pattern in self._patterns:
            text = pattern.sub(_REDACTED, text)
        return text

    def redact_answer(self, text: str) -> str:
        """A model's answer without the keys that models are called with. Other secrets were never sent, and a password
        such as `postgres` may be the very word that was asked for."""
        for pattern in self._keys:
            text = pattern.sub(_REDACTED, text)
        return text

    def keys_show_in(self, text: str) -> bool:
        """Whether a key that models are called with stands in the text."""
        return any(pattern.search(text) for pattern in self._keys)

    def show_in(self, text: str) -> bool:
        """Whether a secret stands in the text."""
        return any(pattern.search(text) for pattern in self._patterns)

    def scrub(self, error: BaseException) -> None:
        """Takes the secrets out of an exception and its causes, in place, so that no log or traceback shows them."""
        if not self._patterns:
            return
        for part in _chain(error):
            part.args = tuple(self._clean(item) for item in part.args)
            for name in ("message", "traceback"):
                found = getattr(part, name, None)
                if isinstance(found, str):
                    setattr(part, name, self.redact(found))
            if notes := getattr(part, "__notes__", None):
                part.__notes__ = [self._clean(note) for note in notes]
            if isinstance(part, BridgeError):
                part.context = {key: self._clean(value) for key, value in part.context.items()}

    def _clean(self, value: Any) -> Any:
        return self.redact(value) if isinstance(value, str) else value


@lru_cache(_PATTERNS)
def _spelled(secret: str) -> re.Pattern[str]:
    """Finds a secret in plain text and as Python's repr, JSON, a URL or HTML write it, also mixed."""
    # A run of backslashes counts as one: a pattern with several would try all ways to share a run among them.
    return re.compile("".join(map(_spellings, re.sub(r"\\+", r"\\", secret))))


def _spellings(character: str) -> str:
    """A pattern of the ways to write one character. Each begins with a fixed character, which makes the search fast."""
    code, utf16, utf8 = ord(character), character.encode("utf-16-be", "surrogatepass"), _octets(character)
    url = "".join(f"%{octet}" for octet in utf8)
    forms = [
        re.escape(character),
        "".join(f"{_BACKSLASHES}u{_hex(utf16[i : i + 2])}" for i in range(0, len(utf16), 2)),
        "".join(f"{_BACKSLASHES}x{octet}" for octet in utf8),
        url,
    ]
    if 0x80 <= code < 0x100:
        forms.append(f"{_BACKSLASHES}x{_hex(bytes([code]))}")
    if code > 0xFFFF:
        forms.append(f"{_BACKSLASHES}U{_hex(code.to_bytes(4))}")
    if character == "\\":
        forms += [r"\\\\{0,63}", f"{url}(?:{url}){{0,63}}"]
    if character in "\"'/":
        forms.append(_BACKSLASHES + character)
    if character in _SHORT_ESCAPES:
        forms.append(_BACKSLASHES + _SHORT_ESCAPES[character])
    if character == " ":
        forms.append(r"\+")
    if (entity := html.escape(character)) != character:
        forms.append(re.escape(entity))
    number = f"&#(?:0{{0,8}}{code}|[xX]0{{0,8}}{_either_case(format(code, 'x'))});"
    forms.append(f"{number}(?:{number}){{0,63}}" if character == "\\" else number)
    return f"(?:{'|'.join(forms)})"


def _octets(character: str) -> list[str]:
    return [_hex(bytes([octet])) for octet in character.encode("utf-8", "surrogatepass")]


def _hex(octets: bytes) -> str:
    return _either_case(octets.hex())


def _either_case(digits: str) -> str:
    return "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in digits)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        part = waiting.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        waiting += (part.__cause__, part.__context__)
