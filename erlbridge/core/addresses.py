"""Addresses of services, in the form of URLs, which may hold secrets: how they are read, and shown without these."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# Compiled when first used, which few nodes do: it takes milliseconds of their start.
_ADDRESS: Final = (
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:(?P<user>[^@/?#:]*)(?::(?P<password>[^@/?#]*))?@)?"
    r"(?P<place>[^@?#]*)(?:\?(?P<options>[^@#]*))?\Z"
)
_HIDDEN_OPTIONS: Final = r"pass|pwd|secret|token|credential|key|sig|%"
"""Options whose names hold one of these; a name that is percent-encoded may say any of them."""
_REDACTED: Final = "[redacted]"


@dataclass(frozen=True, slots=True)
class Address:
    """A URL in two parts: what may be shown, and what may not."""

    scheme: str
    shown: str
    secrets: tuple[str, ...]


def parse_address(text: str) -> Address | None:
    """What a URL says, None for text that is none. A password's `@`, `/`, `?` and `#` must be percent-encoded: else
    nobody could say where it ends, and what may be shown.

    >>> parse_address("postgresql://app:pa%40ss@db/store?sslmode=require&sslpassword=s3cret")
    Address(scheme='postgresql', shown='postgresql://app@db/store?sslmode=require', secrets=('pa%40ss', 's3cret'))
    >>> parse_address("host=db password=s3cret")
    """
    match = re.match(_ADDRESS, text, re.ASCII | re.IGNORECASE)
    if match is None or "\0" in text:
        return None
    secrets = [match["password"]] if match["password"] else []
    options = []
    for option in (match["options"] or "").split("&"):
        name, _, value = option.partition("=")
        if re.search(_HIDDEN_OPTIONS, name, re.IGNORECASE):
            secrets.append(value)
        elif option:
            options.append(option)
    user = f"{match['user']}@" if match["user"] is not None else ""
    shown = f"{match['scheme'].lower()}://{user}{match['place']}{'?' if options else ''}{'&'.join(options)}"
    return Address(match["scheme"].lower(), shown, tuple(filter(None, secrets)))


def redacted(text: str, address: Address) -> str:
    """A text of somebody else's about an address, such as a library's error, without its secrets.

    >>> redacted("no login with pa@ss", Address("postgresql", "postgresql://app@db", ("pa%40ss",)))
    'no login with [redacted]'
    """
    from urllib.parse import unquote  # noqa: PLC0415 - for errors, which the node's start does not wait for

    for secret in address.secrets:
        for spelled in (secret, unquote(secret)):
            text = text.replace(spelled, _REDACTED)
    return text
