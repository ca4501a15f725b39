"""Language models as a request names them. Knows names and limits; opens no connection and imports no DSPy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from erlbridge.codec import Atom
from erlbridge.core.functions import Function, names_function, parse_function
from erlbridge.errors import ValidationError
from erlbridge.limits import LM_TIMEOUT_S
from erlbridge.wire.place import Place, given

_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}\Z")
_ENVIRONMENT_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
_ADDRESS: Final = re.compile(r"https?://[^\s@]+\Z")
_KEY: Final = re.compile(r"[!-~]{4,4096}\Z")
_LM_KEYS: Final = (
    "model", "api_base", "api_key", "api_key_env", "timeout_ms", "temperature", "max_tokens", "latency_ms",
    "rate_limit",
)  # fmt: skip
_RATE_KEYS: Final = ("requests_per_minute", "tokens_per_minute")
_DAY_MS: Final = 86_400_000
_TRAINED: Final = re.compile(r"offline:[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What an endpoint may be asked for, by all workers of this machine together; None is no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class LM:
    """A language model: `offline`, or a name as DSPy takes it.

    Its key is better named by its variable than given: a key that is given passes through the host's memory and the
    wire. Either way it is a secret everywhere: no repr, error, log, artifact or file shows it.
    """

    model: str
    api_base: str | None = None
    api_key_env: str | None = None
    timeout_s: float = LM_TIMEOUT_S
    temperature: float | None = None
    max_tokens: int | None = None
    latency_s: float = 0.0
    function: Function | None = None
    """The Elixir function that answers in the place of an endpoint; `model` is then its name."""
    rate_limit: RateLimit | None = None
    api_key: str | None = field(default=None, repr=False)

    @property
    def offline(self) -> bool:
        """Whether this is the embedded offline LM, as it is or trained."""
        return (self.model == "offline" or self.trained) and self.function is None

    @property
    def remote(self) -> bool:
        """Whether an endpoint is asked over the network."""
        return not self.offline and self.function is None

    @property
    def trained(self) -> bool:
        """Whether this is an offline LM that was trained; the node keeps it under this name."""
        return self.model.startswith("offline:") and self.function is None

    @property
    def endpoint(self) -> str:
        """Who answers, as answers and rate limits are told apart: the address, else the provider."""
        return self.api_base or self.model.partition("/")[0]

    @property
    def limited_as(self) -> str:
        """Who answers, as an operator names it to limit how many jobs ask there at once.

        >>> LM("openai/gpt-4o-mini").limited_as, LM("openai/x", api_base="http://GPU:8000/v1/?key=k").limited_as
        ('openai', 'http://gpu:8000/v1')
        >>> LM("offline:" + 64 * "0").limited_as, LM("my_lm", function=Function(Atom("my_lm"))).limited_as
        ('offline', 'call:my_lm')
        """
        if self.function is not None:
            return f"call:{self.function.text}"
        return "offline" if self.offline else endpoint_name(self.endpoint)


def endpoint_name(text: str) -> str:
    """An endpoint's name in its one spelling: of an address without what may hold a key, the query, and in small
    letters as far as its host; anything else as it is."""
    scheme, found, rest = text.partition("://")
    if not found:
        return text
    host, slash, path = re.split("[?#]", rest, maxsplit=1)[0].partition("/")
    return f"{scheme}://{host}".lower() + f"{slash}{path}".rstrip("/")


def parse_lm(place: Place) -> LM:
    """The model at a place: a name, `:offline`, `{:call, name}` or a map. Raises `ValidationError` with the path."""
    if names_function(place.term):
        function = parse_function(place)
        return LM(function.text, function=function)
    if not isinstance(place.term, Mapping):
        return LM(_model(place))
    entries = place.only(_LM_KEYS)
    model = place.required(entries, "model")
    if names_function(model.term):
        return _of_function(model, entries)
    lm = LM(
        model=_model(model),
        api_base=_address(entries["api_base"]) if given(entries, "api_base") else None,
        api_key=_key(entries["api_key"]) if given(entries, "api_key") else None,
        api_key_env=_key_variable(entries["api_key_env"]) if given(entries, "api_key_env") else None,
        timeout_s=entries["timeout_ms"].integer(minimum=1, maximum=_DAY_MS) / 1000
        if given(entries, "timeout_ms")
        else LM_TIMEOUT_S,
        temperature=_temperature(entries),
        max_tokens=_max_tokens(entries),
        latency_s=entries["latency_ms"].integer(minimum=0, maximum=60_000) / 1000
        if given(entries, "latency_ms")
        else 0.0,
        rate_limit=_rate_limit(entries["rate_limit"]) if given(entries, "rate_limit") else None,
    )
    if lm.offline and (lm.api_base or lm.api_key or lm.api_key_env):
        raise ValidationError("the offline LM takes no api_base and no key", place.path)
    if lm.api_key and lm.api_key_env:
        raise ValidationError("expected either api_key or api_key_env", place.path)
    if lm.latency_s and not lm.offline:
        raise ValidationError("latency_ms belongs to the offline LM", place.path)
    return lm


def _of_function(place: Place, entries: dict[str, Place]) -> LM:
    function = parse_function(place)
    if given(entries, "api_key"):
        raise ValidationError("expected nothing: an Elixir function knows its own key", entries["api_key"].path)
    for key in ("api_base", "api_key_env", "timeout_ms", "latency_ms", "rate_limit"):
        if given(entries, key):
            raise entries[key].refused("nothing: an Elixir function knows its own endpoint, key and timeout")
    return LM(function.text, temperature=_temperature(entries), max_tokens=_max_tokens(entries), function=function)


def _temperature(entries: dict[str, Place]) -> float | None:
    return entries["temperature"].number(minimum=0, maximum=2) if given(entries, "temperature") else None


def _max_tokens(entries: dict[str, Place]) -> int | None:
    return entries["max_tokens"].integer(minimum=1, maximum=10_000_000) if given(entries, "max_tokens") else None


def _model(place: Place) -> str:
    found = place.name()
    if not _MODEL.match(found):
        raise place.refused("a model's name such as `openai/gpt-4o-mini`, or :offline")
    if isinstance(place.term, Atom) and found != "offline":
        raise place.refused("a model's name as a binary, or :offline")
    if found.startswith("offline:") and not _TRAINED.match(found):
        raise place.refused("a trained offline model, `offline:` and 64 hexadecimal digits")
    return found


def _key_variable(place: Place) -> str:
    found = place.term.decode("latin-1") if isinstance(place.term, bytes) else place.term
    if not isinstance(found, str) or not _ENVIRONMENT_NAME.match(found):
        # Not shown: a host that confuses the two options puts its key here.
        raise ValidationError("expected the name of an environment variable, as a binary", place.path)
    return found


def _address(place: Place) -> str:
    found = place.text()
    if not _ADDRESS.match(found):  # not shown, for there may be a password in it
        raise ValidationError("expected an http(s) address without a user in it", place.path)
    return found


def _key(place: Place) -> str:
    # Its own refusal: the others show what they refuse, and this may be a key with a slip of the hand in it.
    found = place.term.decode("latin-1") if isinstance(place.term, bytes) else place.term
    if not isinstance(found, str) or not _KEY.match(found):
        raise ValidationError(
            "expected a binary of 4 to 4096 printable ASCII characters without spaces; "
            "leave it out for a server that wants no key",
            place.path,
        )
    return found


def _rate_limit(place: Place) -> RateLimit:
    entries = place.only(_RATE_KEYS)

    def integer(key: str, maximum: int) -> int | None:
        return entries[key].integer(minimum=1, maximum=maximum) if given(entries, key) else None

    limit = RateLimit(integer("requests_per_minute", 10_000_000), integer("tokens_per_minute", 10_000_000_000))
    if limit == RateLimit():
        raise place.refused("requests_per_minute, tokens_per_minute or both")
    return limit
