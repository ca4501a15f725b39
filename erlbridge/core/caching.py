"""Which requests the result cache may answer, what it knows a question by, and which results it takes.

A cached result stands for a job that was not run, so it must be what that job might have given. A job is not cached
that the node cannot tell from another by its payload: one with Elixir functions, which may have changed, and a
workflow, whose own text may name them. Nor is one that streams: its host waits for pieces. What a model draws by chance
is no obstacle: its answers are kept as well, for whoever does not say `cache: false`. Knows terms; no disk, no clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from erlbridge.codec import Atom, binary_to_term
from erlbridge.core.results import CONFIG, METRICS, Identity, identity_of
from erlbridge.errors import DecodeError
from erlbridge.wire.messages import Request, Term
from erlbridge.wire.vocabulary import atom

VERBS: Final = ("optimize_signature", "evaluate_pipeline", "predict", "train_model")
"""Those whose result follows from the payload."""

_FORMAT: Final = 1


def _spelled(*names: str) -> tuple[Term, ...]:
    return tuple(spelling for name in names for spelling in (Atom(name), name.encode()))


_CACHE: Final = _spelled("cache")
_RESULT_CACHE: Final = _spelled("result_cache")
_STREAM: Final = _spelled("stream")
_NO_DIFFERENCE: Final = frozenset(
    _spelled(
        "api_key",
        "api_key_env",
        "cache",
        "call_timeout_ms",
        "latency_ms",
        "num_threads",
        "rate_limit",
        "result_cache",
        "timeout_ms",
    )
)
"""Keys of a config that say how fast and for whose money a job runs, not what it gives."""
_DATA: Final = frozenset(_spelled("training_data", "validation_data", "data", "input", "inputs"))
"""Where a payload holds examples, which name no function."""
_RECORDS: Final = frozenset(_spelled("config", "usage", "scores", "state"))
"""What a program's envelope tells of how it was made; functions that are named there are not called again."""
_CALL: Final = Atom("call")
_FAILED: Final = (atom("errors"), atom("failures"))
_GIVEN_UP: Final = atom("given_up_calls")
_PREDICTIONS: Final = atom("predictions")
_ERROR: Final = atom("error")
_NAMES: Final = (atom("program_id"), atom("model"))


def asks_for_cache(request: Request, by_default: bool) -> bool:
    """Whether a request may be answered from the cache and its result kept there, as far as its payload tells."""
    payload = request.payload
    if request.verb not in VERBS or not isinstance(payload, dict):
        return False
    config = _given(payload, CONFIG)
    if not isinstance(config, Mapping) or _given(config, _CACHE) is False or _given(payload, _STREAM):
        return False
    wanted = _given(config, _RESULT_CACHE)
    if not (by_default if wanted is None else wanted is True):
        return False
    return not any(
        _calls(value, () if key in CONFIG else _RECORDS) for key, value in payload.items() if key not in _DATA
    )


def cached_identity(request: Request, library: str) -> Identity:
    """What a request asks for, as the cache knows it. `library` names the versions that answer it.

    Raises `ValidationError` for a payload that nests beyond all reason.

    >>> fast, slow = (
    ...     Request("predict", 1, {Atom("config"): {Atom("lm"): b"openai/x", Atom("num_threads"): n}}) for n in (8, 1)
    ... )
    >>> cached_identity(fast, "0.1.0") == cached_identity(slow, "0.1.0")
    True
    >>> cached_identity(fast, "0.1.0") == cached_identity(fast, "0.2.0")
    False
    """
    found = identity_of((_FORMAT, request.verb, library), request.payload, _NO_DIFFERENCE)
    return replace(found, cached_as=found.fingerprint)


def calls_functions(program: bytes) -> bool:
    """Whether a stored program, as it lies on the disk, names Elixir functions: its tools, for example."""
    try:
        return _calls(binary_to_term(program), _RECORDS)
    except DecodeError:
        return True  # nothing is known of it


def worth_keeping(result: Term) -> bool:
    """Whether a result is one to give again: nothing of it has failed, nor any call on the way to it, without which it
    would have been another one."""
    if not isinstance(result, Mapping) or any(result.get(key) for key in _FAILED):
        return False
    if any(isinstance(metrics := result.get(key), Mapping) and metrics.get(_GIVEN_UP) for key in METRICS):
        return False
    predictions = result.get(_PREDICTIONS)
    rows = predictions if isinstance(predictions, list) else []
    return not any(isinstance(row, Mapping) and row.get(_ERROR) is not None for row in rows)


def names_in(result: Term) -> list[str]:
    """What a result says is stored at the node: its program, its offline model."""
    if not isinstance(result, Mapping):
        return []
    found = (result.get(key) for key in _NAMES)
    texts = (name.decode(errors="replace") if isinstance(name, bytes) else name for name in found)
    return [text for text in texts if isinstance(text, str) and text.startswith(("program:", "offline:"))]


def _given(entries: Mapping[Term, Term], spellings: Collection[Term]) -> Term:
    return next((entries[key] for key in spellings if key in entries), None)


def _calls(term: Term, passed_over: Collection[Term]) -> bool:
    """Whether `{:call, name}` stands anywhere in a term but under these keys."""
    waiting = [term]
    while waiting:
        found = waiting.pop()
        match found:
            case (tag, Atom() | bytes()) if tag == _CALL:
                return True
            case Mapping():
                waiting += [value for key, value in found.items() if key not in passed_over]
            case list() | tuple():
                waiting += found
            case _:
                pass
    return False
