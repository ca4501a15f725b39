"""Offline models that were trained, as a store keeps them. Knows names, not what the bytes mean."""

from __future__ import annotations

from typing import Final

from erlbridge.store.contents import Kind

_PREFIX: Final = "offline:"

MODEL: Final = Kind(
    noun="model",
    directory="models",
    prefix=_PREFIX,
    key="model",
    remedy="train it again, or take :offline",
    describe=lambda _: b"",
)


def names_model(name: str) -> bool:
    """Whether a name is a trained model's; others are programs'."""
    return name.startswith(_PREFIX)
