"""What a node knows to be secret, for whoever shows or keeps frames: captures and the console."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING

from erlbridge.core.secrecy import SHORTEST_SECRET, named_secrets, passwords
from erlbridge.node.config import NodeConfig

if TYPE_CHECKING:
    from erlbridge.wire.redaction import Redaction


def redaction_of(config: NodeConfig) -> Redaction:
    """What writes over the secrets of the node's settings and of its environment, and those that frames name."""
    from erlbridge.wire.redaction import Redaction  # noqa: PLC0415 - for those who capture or look

    return Redaction(_spelled(_secrets(config)))


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


def _spelled(secrets: Iterator[str]) -> Iterator[bytes]:
    """Each as it is, and as JSON, Python and URLs write it."""
    import json  # noqa: PLC0415 - as above
    from urllib.parse import quote  # noqa: PLC0415

    for secret in secrets:
        for text in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], quote(secret, safe="", errors="replace")):
            yield text.encode(errors="surrogateescape")
