"""Whether a model's endpoint is there, asked in a way that costs nothing: for the list of its models.

Knows where well-known providers are, and the variables of their keys; imports no DSPy. What a model answers is no
business of this module.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import httpx


@dataclass(frozen=True, slots=True)
class Provider:
    """Where a provider is asked, and the variable that its key is looked for in.

    `bearer` says that the key goes into `Authorization`; of another way to give it nothing is known here, and the
    endpoint is asked without.
    """

    address: str
    key_variable: str
    bearer: bool = True


PROVIDERS: Final[Mapping[str, Provider]] = MappingProxyType(
    {
        "openai": Provider("https://api.openai.com/v1", "OPENAI_API_KEY"),
        "anthropic": Provider("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", bearer=False),
        "gemini": Provider("https://generativelanguage.googleapis.com/v1beta", "GEMINI_API_KEY", bearer=False),
        "mistral": Provider("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
        "groq": Provider("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
        "deepseek": Provider("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
        "openrouter": Provider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
        "together_ai": Provider("https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
    }
)
"""By the name before the slash of a model."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What an endpoint said: its status, its `Date` in seconds since 1970 where it told one, and after how long."""

    status: int
    date: float | None
    took_s: float


def ask_for_models(address: str, key: str | None, timeout_s: float) -> Heard:
    """Asks `address`/models; no model is called. The machine's proxies are used, and no redirect is followed.

    Raises `OSError` with what kept it from being asked, without the key.
    """
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    started = time.monotonic()
    try:
        with (
            httpx.Client(timeout=timeout_s, follow_redirects=False) as client,
            client.stream("GET", f"{address.rstrip('/')}/models", headers=headers) as response,  # its body is not read
        ):
            return Heard(response.status_code, _date(response.headers.get("date")), time.monotonic() - started)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise OSError(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__) from None


def _date(text: str | None) -> float | None:
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - few ask

    if text is None:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None
