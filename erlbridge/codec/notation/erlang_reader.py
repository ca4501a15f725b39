"""Erlang's notation to terms."""

from __future__ import annotations

from erlbridge.errors import NotationError


def from_erlang(text: str) -> object:
    raise NotationError("not yet", 1, 1)
