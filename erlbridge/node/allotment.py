"""What a node's configuration says of its workers, as the one value that they are told."""

from __future__ import annotations

import os

from erlbridge.core.allotment import WorkerSettings
from erlbridge.node.config import NodeConfig


def worker_settings(config: NodeConfig) -> WorkerSettings:
    """The settings of every worker of this process's node."""
    return WorkerSettings(
        node_pid=os.getpid(),
        data=str(config.data),
        nice=config.nice,
        cpus=config.worker_cpus,
        pin=config.pin_workers,
        threads=config.threads_per_worker,
        memory_bytes=config.worker_hard_bytes,
        sandbox=config.sandbox,
        sandbox_ports=config.sandbox_ports,
    )
