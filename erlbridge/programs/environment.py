"""What DSPy and its parts read from the environment while they are imported; so this module is imported before them.

Sets only what the operator has not set. Knows names of variables and nothing of DSPy.
"""

from __future__ import annotations

import os
from typing import Any, Final

DEFAULTS: Final = {
    # The price map that comes with litellm instead of one from the network, which costs up to 5 s at the first call.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    # DSPy's bootstrapping draws a bar on standard error for each candidate, with a thread of its own.
    "TQDM_DISABLE": "1",
}

for _name, _value in DEFAULTS.items():
    os.environ.setdefault(_name, _value)

import tqdm  # type: ignore[import-untyped]  # noqa: E402 - it reads its variable when it is imported


class _Undrawn(tqdm.tqdm):  # type: ignore[misc]
    """A bar that is never drawn. DSPy's optimizers ask for bars whatever the variable says; in a worker each redrawing
    would be a log event, and how far a job is goes to the host as progress."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "disable": True})


tqdm.tqdm = _Undrawn  # DSPy looks it up at each use
