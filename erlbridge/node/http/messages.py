"""A request and an answer of HTTP, as values."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from erlbridge.node.http.mailbox import Question

_MOST_FIELDS: Final = 20


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What somebody asks. Names of headers are in lower case; of a name that comes twice the last counts."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""

    def header(self, name: str) -> str:
        """A header's value, empty where it was not sent."""
        return self.headers.get(name, "")


def read_request(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> HttpRequest:
    """A request out of the bytes that came. Raises `ValueError` for a target that is none."""
    parts = urlsplit(target.decode("latin-1"))
    given = parts.query.replace("+", "%2B")  # no form is sent here, and tokens in base64 have it
    query = dict(parse_qsl(given, max_num_fields=_MOST_FIELDS))
    return HttpRequest(
        method.decode("latin-1"),
        parts.path,
        query,
        {name.decode("latin-1"): value.decode("latin-1") for name, value in headers},
        body,
    )


@dataclass(frozen=True, slots=True)
class Response:
    """What it gets."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InLoop:
    """It gets what the node's loop says. `then` makes the answer of that; None is what the loop has not said
    `within_s`."""

    question: Question
    within_s: float
    then: Callable[[Any], Response]


@dataclass(frozen=True, slots=True)
class Stream:
    """It gets the state, and then all that changes, until it goes away."""


Reply: TypeAlias = Response | InLoop | Stream


def refusal(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """An answer that says why there is none."""
    return Response(status, f"{text}\n".encode(), headers=headers or {})


def json_response(value: object, status: int = 200) -> Response:
    """A value as JSON."""
    return Response(status, compact(value), "application/json")


def compact(value: object) -> bytes:
    """A value as JSON on one line, in ASCII: no byte of it can end a line of an event stream."""
    return json.dumps(value, separators=(",", ":")).encode()
