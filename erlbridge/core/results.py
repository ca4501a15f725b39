"""What it means to have asked for something before: who may have a stored outcome, and how it is written.

A request that has an `idempotency_key` is known again by that key, and by an identity of what it asks for, so that the
same key never gives the answer to another question. Knows terms and bytes; knows no disk and no clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from erlbridge.codec import Atom, ImproperList, binary_to_term, term_to_binary
from erlbridge.errors import DecodeError, ValidationError
from erlbridge.limits import MAX_KEYS, MAX_META_BYTES
from erlbridge.wire.messages import Term
from erlbridge.wire.place import Place, given
from erlbridge.wire.vocabulary import atom

_MAGIC: Final = b"erlbridge result 1\n"
_SUM_BYTES: Final = 32
CONFIG: Final = (Atom("config"), b"config")
_KEY: Final = (Atom("api_key"), b"api_key")
_KEY_VARIABLE: Final = (Atom("api_key_env"), b"api_key_env")
_FREE: Final = tuple(make(name) for name in ("fields", "args", "options") for make in (Atom, str.encode))
"""Keys of a config below which keys are names of fields, or an optimizer's and a trainer's own words."""
_MAP: Final = Atom("map")
_FLAT: Final = (bytes, Atom, int, float, bool, type(None))
METRICS: Final = (atom("optimization_metrics"), atom("metrics"))
"""Where a result says what it has cost."""
_CACHED: Final = atom("cached")


# -- who asks for the same -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Identity:
    """What a request asks for. Two requests of the same fingerprint ask for the same, with the same atoms: what the
    node may say to one it may say to the other.

    Attributes:
        fingerprint: SHA-256 of verb and payload, without the keys of models: a new key is no new question.
        keys: The keys that the request gives, which must not be stored with what comes of it.
        key_variables: Names of environment variables that hold such keys.
        cached_as: What the result cache knows the question by (`core.caching`); None of one that is not cached.
    """

    fingerprint: bytes
    keys: tuple[bytes, ...] = field(default=(), repr=False)
    key_variables: tuple[str, ...] = ()
    cached_as: bytes | None = None


def identity(verb: str, payload: Term) -> Identity:
    """The identity of a request for a worker. Raises `ValidationError` for one that nests beyond all reason.

    >>> spoken, written = ({Atom("config"): {Atom("seed"): 1, Atom("api_key"): key}} for key in (b"sk-1", b"sk-2"))
    >>> identity("predict", spoken).fingerprint == identity("predict", written).fingerprint
    True
    >>> identity("predict", spoken).fingerprint == identity("evaluate_pipeline", spoken).fingerprint
    False
    """
    return identity_of((verb,), payload, _KEY)


def identity_of(question: tuple[Term, ...], payload: Term, left_out: Collection[Term]) -> Identity:
    """The identity of a payload beside what else makes a question, but for those keys in its config that make no
    difference (`left_out`). Raises `ValidationError` as `identity` does."""
    keys: list[bytes] = []
    variables: list[str] = []
    asked = payload
    try:
        if isinstance(payload, dict):
            asked = {
                key: _without(value, left_out, keys, variables) if key in CONFIG else value
                for key, value in payload.items()
            }
        encoded = term_to_binary((*question, _ordered(asked, {})))
    except RecursionError:
        text = "expected values that nest less deep, with an idempotency_key or the result cache"
        raise ValidationError(text, "payload") from None
    return Identity(_sha256(encoded), tuple(keys), tuple(variables))


def _ordered(term: Term, orders: dict[tuple[object, ...], list[object]]) -> Term:
    """The same for equal terms, whatever the order of their maps: each map is its keys, ordered, and their values.

    Ten times as fast for examples as the codec's own deterministic form: those of one dataset have the same keys, whose
    order is found once. A tuple that looks like what stands here for a map is told apart from it.
    """
    if type(term) is dict:
        keys = tuple(term)
        order = orders.get(keys)
        if order is None:
            if not all(isinstance(key, Atom | bytes) for key in keys):
                return (_MAP, term_to_binary(term, deterministic=True))  # 1, 1.0 and true are one key to Python
            order = orders[keys] = sorted(keys, key=term_to_binary)
        return (
            _MAP,
            order,
            [value if type(value) in _FLAT else _ordered(value, orders) for value in map(term.get, order)],
        )
    if type(term) is list or type(term) is tuple:
        values = [value if type(value) in _FLAT else _ordered(value, orders) for value in term]
        if type(term) is list:
            return values
        return (_MAP, None, None, values) if values and values[0] == _MAP else tuple(values)
    if isinstance(term, Mapping | ImproperList):
        return (_MAP, term_to_binary(term, deterministic=True))
    return term


def _without(term: Term, left_out: Collection[Term], keys: list[bytes], variables: list[str]) -> Term:
    """A config without some of its keys, wherever they stand in it; those of models are noted."""
    match term:
        case dict():
            kept = {}
            for key, value in term.items():
                if key in _KEY and isinstance(value, bytes) and value:
                    keys.append(value)
                if key in _KEY_VARIABLE and isinstance(value, bytes):
                    variables.append(value.decode(errors="replace"))
                if key not in left_out:
                    # Below these a key may be called `cache` and mean something else.
                    kept[key] = _without(value, () if key in _FREE else left_out, keys, variables)
            return kept
        case list():
            return [_without(element, left_out, keys, variables) for element in term]
        case _:
            return term


def conflict(verb: str) -> ValidationError:
    """The refusal of a request whose key stands for another one."""
    return ValidationError(
        f"expected the payload that this key was used with (of {verb}), got another one; "
        "a key names one request: use a fresh one for each",
        "meta.idempotency_key",
    )


# -- what is stored --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stored:
    """A job's result as it was answered, with the verb and the fingerprint of its request."""

    verb: str
    fingerprint: bytes
    result: Term


def name_of(idempotency_key: str) -> str:
    """The name under which an outcome is stored: the key's hash, since a key is any text.

    >>> len(name_of("../../etc/passwd"))
    64
    """
    return _sha256(idempotency_key.encode(errors="surrogatepass")).hex()


def pack(name: str, stored: Stored) -> bytes:
    """A stored outcome's bytes. Their checksum covers the name: a file that was swapped for another is as damaged as
    one that was cut."""
    body = term_to_binary((stored.verb, stored.fingerprint, stored.result))
    return _MAGIC + _sha256(name.encode() + body) + body


def unpack(name: str, content: bytes) -> Stored | None:
    """What `pack` has written under this name, None when it is damaged.

    >>> stored = Stored("predict", b"f", {b"answer": b"yes"})
    >>> unpack("a", pack("a", stored)) == stored, unpack("b", pack("a", stored)), unpack("a", pack("a", stored)[:-1])
    (True, None, None)
    """
    start = len(_MAGIC) + _SUM_BYTES
    body = content[start:]
    if not content.startswith(_MAGIC) or content[len(_MAGIC) : start] != _sha256(name.encode() + body):
        return None
    try:
        match binary_to_term(body):
            case (bytes() as verb, bytes() as fingerprint, result):
                return Stored(verb.decode(), fingerprint, result)
    except (DecodeError, UnicodeDecodeError):
        pass
    return None


def shared(result: Term) -> Term:
    """A result for somebody who has not paid for it: its cost stands as it was, beside `cached: true`."""
    if not isinstance(result, Mapping):
        return result
    metrics = {key: result[key] for key in METRICS if isinstance(result.get(key), Mapping)}
    return {**result, **{key: {**found, _CACHED: True} for key, found in metrics.items()}}


# -- what is asked of it ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FetchResult:
    """The stored outcome of a key. `atoms`, by name, are those that the answer may use besides the published ones."""

    idempotency_key: str
    atoms: Mapping[str, Atom]


def parse_fetch(payload: Term) -> FetchResult:
    """Raises `ValidationError` with the path."""
    place = Place(payload, "payload")
    entries = place.only(("idempotency_key", "atoms"))
    key = place.required(entries, "idempotency_key")
    if isinstance(key.term, bytes) and len(key.term) > MAX_META_BYTES:
        raise key.refused(f"a text of at most {MAX_META_BYTES} bytes")
    atoms: dict[str, Atom] = {}
    if given(entries, "atoms"):
        if len(entries["atoms"].elements()) > MAX_KEYS:
            raise entries["atoms"].refused(f"at most {MAX_KEYS} atoms")
        for element in entries["atoms"].items():
            name = element.atom()
            atoms[name] = Atom(name)
    return FetchResult(key.name(), atoms)


def _sha256(content: bytes) -> bytes:
    import hashlib  # noqa: PLC0415 - 5 ms that the node's start does not wait for

    return hashlib.sha256(content).digest()
