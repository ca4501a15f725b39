"""Who may ask: the Host header, the token, and what only our own page can send. And how pages are fenced in.

- On loopback the Host must be loopback too, or a page anywhere could have its name resolve to it (DNS rebinding). Off
  loopback the token is what keeps others out; a page of another name has neither it nor the cookie.
- The token is compared in constant time. `/?token=…` sets a cookie that is derived from it and leaves the address bar.
- What changes something needs a header that no other origin can send without asking first, which is never allowed.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self

from erlbridge.core.settings import listening_at
from erlbridge.errors import ValidationError
from erlbridge.node.config import NodeConfig
from erlbridge.node.http.messages import HttpRequest, Response, refusal

COOKIE: Final = "erlbridge"
CHANGES: Final = "x-erlbridge"
"""The header that a request which changes something must carry, with any value."""
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every answer; one may say otherwise for itself."""
_OPEN: Final = ("/healthz", "/readyz")
"""Paths that need no token: who asks there, such as Kubernetes, has none, and learns a word."""
_LEAST_TOKEN: Final = 16


@dataclass(frozen=True, slots=True)
class Admission:
    """The rules of one address."""

    loopback: bool
    token: bytes | None

    @classmethod
    def of(cls, config: NodeConfig) -> Self:
        """The rules that the settings ask for. Raises `ValidationError` where a token is needed and there is none."""
        loopback = is_loopback(listening_at(config.http)[0])
        if not config.http_token_env:
            if not loopback:
                raise ValidationError(f"needed for an address off loopback, such as {config.http}", "http_token_env")
            return cls(loopback, None)
        token = os.environ.get(config.http_token_env, "")
        if len(token) < _LEAST_TOKEN:
            found = "is not set" if not token else f"has {len(token)} characters"
            raise ValidationError(
                f"expected the token in ${config.http_token_env}, at least {_LEAST_TOKEN} characters: it {found}",
                "http_token_env",
            )
        return cls(loopback, token.encode(errors="surrogateescape"))

    def refuse(self, request: HttpRequest) -> Response | None:
        """Why a request is not taken, or where it shall go instead; None when it may go on."""
        host = request.header("host")
        if self.loopback and not _names_loopback(host):
            return refusal(421, "this address answers to its own name only, such as localhost")
        if (given := request.query.get("token")) is not None and request.path == "/" and self.token is not None:
            if not hmac.compare_digest(given.encode(errors="surrogateescape"), self.token):
                return refusal(401, "wrong token")
            name, value = self._cookie()
            cookie = f"{name}={value}; Path=/; HttpOnly; SameSite=Strict"
            return Response(303, b"", "text/plain", {"Location": "/", "Set-Cookie": cookie})
        if self.token is not None and request.path not in _OPEN and not self._knows(request):
            return refusal(401, "a token is needed: Authorization: Bearer …, or /?token=… in a browser", _BEARER)
        if request.method == "POST" and not _of_ours(request, host):
            return refusal(403, f"expected the header {CHANGES} and a body of application/json, of this origin")
        return None

    def _knows(self, request: HttpRequest) -> bool:
        assert self.token is not None  # noqa: S101 - asked where there is one
        scheme, _, given = request.header("authorization").partition(" ")
        if scheme.lower() == "bearer":
            return hmac.compare_digest(given.strip().encode("latin-1"), self.token)
        name, value = self._cookie()
        sent = (one.strip().partition("=") for one in request.header("cookie").split(";"))
        return any(hmac.compare_digest(found.encode(), value.encode()) for known, _, found in sent if known == name)

    def _cookie(self) -> tuple[str, str]:
        """What a browser keeps instead of the token, good for as long as that is: name and value. A machine's cookies
        are those of all its ports, so that the name is this token's own."""
        assert self.token is not None  # noqa: S101
        digits = hmac.new(self.token, b"erlbridge console", sha256).hexdigest()
        return f"{COOKIE}-{digits[:8]}", digits[8:]


_BEARER: Final = {"WWW-Authenticate": "Bearer"}


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, and nobody else reaches it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _names_loopback(host: str) -> bool:
    """Whether a Host header names this machine; the port may be that of a tunnel."""
    name = host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    return is_loopback(name)


def _of_ours(request: HttpRequest, host: str) -> bool:
    origin = request.header("origin")
    return (
        bool(request.header(CHANGES))
        and request.header("content-type").partition(";")[0].strip().lower() == "application/json"
        and (not origin or origin.partition("://")[2] == host)
        and request.header("sec-fetch-site") in ("", "same-origin", "none")
    )
