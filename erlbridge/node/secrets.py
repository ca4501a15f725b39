"""What no frame that a node shows may show: secrets of its settings and of its environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields

from erlbridge.core.secrecy import SHORTEST_SECRET, named_secrets, passwords
from erlbridge.node.config import NodeConfig


def spelled_secrets(config: NodeConfig) -> Iterator[bytes]:
    """What is secret in the node's settings and in its environment: as it is, and as JSON, Python and URLs write it."""
    import json  # noqa: PLC0415 - for those who show frames
    from urllib.parse import quote  # noqa: PLC0415

    for secret in _secrets(config):
        for text in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], quote(secret, safe="", errors="replace")):
            yield text.encode(errors="surrogateescape")


def _secrets(config: NodeConfig) -> Iterator[str]:
    """What is secret in the node's settings and in its environment."""
    yield from named_secrets(os.environ).values()
    yield from passwords(os.environ.values())
    for entry in fields(config):
        value = getattr(config, entry.name)
        if not isinstance(value, str) or not value:
            continue
        yield from passwords([value])
        if entry.name.endswith("_env") and len(named := os.environ.get(value, "").strip()) >= SHORTEST_SECRET:
            yield named
