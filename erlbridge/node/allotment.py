"""What a node's configuration says of its workers, as the one value that they are told."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from erlbridge.core.allotment import WorkerSettings
from erlbridge.node.config import NodeConfig

_TRACES: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PORTS: Final = {"http": 80, "https": 443}


def worker_settings(config: NodeConfig) -> WorkerSettings:
    """The settings of every worker of this process's node."""
    return WorkerSettings(
        node_pid=os.getpid(),
        data=str(config.data.absolute()),  # workers work from a directory of their own
        nice=config.nice,
        cpus=config.worker_cpus,
        pin=config.pin_workers,
        threads=config.threads_per_worker,
        memory_bytes=config.worker_hard_bytes,
        sandbox=config.sandbox,
        sandbox_ports=_ports(config),
        otel_endpoint=config.otel_endpoint,
        otel_content=config.otel_content,
    )


def _ports(config: NodeConfig) -> tuple[int, ...]:
    """The ports that workers may connect to: where some are named, those of the collector are among them."""
    if not config.sandbox_ports:
        return ()
    ports = set(config.sandbox_ports)
    for address in (config.otel_endpoint, *(os.environ.get(name, "") for name in _TRACES)):
        parts = urlsplit(address)
        with suppress(ValueError):  # what is no address is for the exporter to tell of
            if port := parts.port or _PORTS.get(parts.scheme):
                ports.add(port)
    return tuple(sorted(ports))
