"""Who can train a model's weights. Knows providers by their class; trains nothing itself.

DSPy guesses a provider from a model's name and lets it take address and key from the environment, whatever the request
says about the model: training data meant for one server would go to another. So only providers that are named here
are used.
"""

from __future__ import annotations

from typing import Any

from erlbridge.errors import ValidationError

TRAINERS: tuple[type[Any], ...] = ()
"""Providers (`dspy.clients.Provider`) that train the very model of a request, with its address and key."""


def require_trainer(lm: Any, optimizer: str) -> None:
    """Raises `ValidationError` where nobody can train the weights of the model."""
    if not isinstance(lm.provider, TRAINERS):
        raise ValidationError(
            f"{optimizer} trains a model's weights, and no provider here can train `{lm.model}`; take an optimizer "
            "that writes prompts, such as mipro_v2",
            "payload.config.lm",
        )
