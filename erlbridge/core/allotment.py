"""What workers are given and held to: one value, which the node tells the forkserver before its first fork."""

from __future__ import annotations

import signal
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, Final, Self

from erlbridge.wire.messages import Term

STACKS_SIGNAL: Final = signal.SIGUSR2
"""The signal at which a thread of a worker writes its stack, where the worker itself does not answer."""
STACKS_END: Final = b"\0"
"""What a worker that does answer writes behind its stacks: no file, function or thread has it in its name."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The settings of every worker of a node.

    `node_pid` is the process without which no worker shall live; `data` the directory of what lasts. `memory_bytes` is
    the hard limit of a worker's memory, 0 for none. `otel_endpoint` is where traces go, empty where OpenTelemetry's own
    variables say it. With `cpus` empty a worker may use every processor that the node
    may; with `pin` each worker is given one of them.
    """

    node_pid: int
    data: str
    nice: int = 0
    cpus: tuple[int, ...] = ()
    pin: bool = False
    threads: int = 1
    memory_bytes: int = 0
    sandbox: str = "off"
    sandbox_ports: tuple[int, ...] = ()
    otel_endpoint: str = ""
    otel_content: bool = False

    @property
    def shared(self) -> str:
        """The directory of what workers keep for each other, the one part of `data` that they write."""
        return f"{self.data}/workers"

    @property
    def datasets(self) -> str:
        """The directory of the datasets that jobs name, which workers read."""
        return f"{self.data}/datasets"

    def to_term(self) -> Term:
        """As it goes over the control socket: a map of the fields by name."""
        return {field.name.encode(): _written(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_term(cls, term: Term) -> Self:
        """What `to_term` gave, once it has been a term. Node and forkserver are of one version: it is not checked."""
        if not isinstance(term, dict):
            raise TypeError(f"expected a map of settings, got {term!r}")
        return cls(**{name.decode(): _read(value) for name, value in term.items()})


def _written(value: object) -> Term:
    return value.encode(errors="surrogateescape") if isinstance(value, str) else value  # a path may be any bytes


def _read(value: Term) -> Any:
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else value


def cpus_of_next(allowed: Collection[int], pin: bool, taken: Collection[int]) -> frozenset[int]:
    """The processors of the next worker: all that are allowed, or with `pin` the one that fewest workers have.

    Args:
        allowed: The processors that workers may use.
        pin: Whether each worker is given one of its own, as far as there are enough.
        taken: Those of the workers that live, one each.

    >>> cpus_of_next({0, 1}, pin=True, taken=[0])
    frozenset({1})
    """
    if not pin or not allowed:
        return frozenset(allowed)
    taken = list(taken)
    return frozenset({min(sorted(allowed), key=taken.count)})
