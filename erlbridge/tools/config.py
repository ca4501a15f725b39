"""`erlbridge config show`: the settings in force and where each came from."""

from __future__ import annotations

import json as json_text
import sys

from erlbridge.node.config import settings
from erlbridge.node.config_sources import Resolved


def show(resolved: Resolved, *, json: bool) -> int:
    """Prints one line for each setting, `name = value  # origin`, or one JSON object with all of them."""
    rows = [
        (setting.name, setting.kind.shown(getattr(resolved.config, setting.name)), resolved.origins[setting.name])
        for setting in settings().values()
    ]
    if json:
        report = {name: {"value": value, "origin": origin} for name, value, origin in rows}
        sys.stdout.write(json_text.dumps(report, indent=2) + "\n")
        return 0
    name_width = max(len(name) for name, _, _ in rows)
    value_width = min(40, max(len(value) for _, value, _ in rows))
    for name, value, origin in rows:
        sys.stdout.write(f"{name:<{name_width}} = {value:<{value_width}}  # {origin}\n")
    return 0
