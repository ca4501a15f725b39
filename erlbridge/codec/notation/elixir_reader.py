"""Elixir's notation to terms."""

from __future__ import annotations

from erlbridge.errors import NotationError


def from_elixir(text: str) -> object:
    raise NotationError("not yet", 1, 1)
