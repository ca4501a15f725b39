"""`erlbridge ask`: any request of the wire, its payload as JSON or YAML; what no other command is made for."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Final

from erlbridge.core.datasets import PREFIX
from erlbridge.errors import ValidationError
from erlbridge.node.config import NodeConfig
from erlbridge.tools.documents import read_document
from erlbridge.tools.jobs import inputs
from erlbridge.tools.jobs.running import Session, success, with_node
from erlbridge.tools.json_view import line

_NAMES_DATA: Final = ("training_data", "validation_data", "data")


def ask(options: argparse.Namespace) -> int:
    """Sends the request and prints its result as one line of JSON."""
    options.json = True  # an error too: who sends a payload reads one
    return with_node(options, lambda session, config: _ask(options, session, config))


def _ask(options: argparse.Namespace, session: Session, config: NodeConfig) -> int:
    payload: dict[str, object] = {}
    if options.payload is not None:
        held = read_document(options.payload)
        if not isinstance(held, dict):
            raise ValidationError("expected a map", str(options.payload))
        payload = held
    payload |= inputs.entries(options.entry, "--entry")
    result = session.ask(options.verb, _with_datasets(config, payload), inputs.meta(options))
    print(line(success(result)))
    return 0


def _with_datasets(config: NodeConfig, payload: Mapping[str, object]) -> dict[str, object]:
    """`{:dataset, name}` in the place of each name of one, which JSON has no form for."""
    return {
        name: inputs.dataset(config, [value], name)
        if name in _NAMES_DATA and isinstance(value, str) and value.startswith((PREFIX, f"dataset:{PREFIX}"))
        else value
        for name, value in payload.items()
    }
