"""What a node says of itself: its first message, its versions and the limits that a host should know of."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from erlbridge import __version__
from erlbridge.codec import IMPLEMENTATION
from erlbridge.node.config import NodeConfig
from erlbridge.wire.frames import HEADER_BYTES
from erlbridge.wire.inflation import available
from erlbridge.wire.messages import PROTOCOL, Term, encode, ready
from erlbridge.wire.vocabulary import VERBS, atom, atom_keys


def _dspy_version() -> str | None:
    """The installed DSPy's version, from its metadata directory's name: importing `importlib.metadata` takes 30 ms."""
    for entry in filter(None, sys.path):
        for found in Path(entry).glob("dspy-*.dist-info"):
            return found.name.removeprefix("dspy-").removesuffix(".dist-info")
    return None


@dataclass(frozen=True, slots=True)
class About:
    """The facts of one node, fixed at its start."""

    config: NodeConfig
    started_at: float = field(default_factory=time.monotonic)
    python: str = sys.version.split(maxsplit=1)[0]
    dspy: str | None = field(default_factory=_dspy_version)

    def announce(self, outgoing: int) -> None:
        """Writes `{:ready, …}`, the wire's first frame. The rest of the node loads while the host reads it."""
        frame = self.first_frame()
        try:
            # Some 300 bytes, which an empty pipe takes whole.
            os.write(outgoing, len(frame).to_bytes(HEADER_BYTES) + frame)
        except OSError:
            return  # the host is gone already, which the node sees when it reads

    def first_frame(self) -> bytes:
        """`{:ready, …}`, the same each time."""
        return encode(ready(self._introduction()))

    @property
    def library(self) -> str:
        """The versions that answers come from."""
        return f"erlbridge {__version__}, dspy {self.dspy}"

    def _introduction(self) -> dict[str, Term]:
        return {
            "protocol": PROTOCOL,
            "version": __version__,
            "os_pid": os.getpid(),
            "python": self.python,
            "dspy": self.dspy,
            "codec": atom(IMPLEMENTATION),
            "workers": self.config.workers,
            "verbs": [atom(verb) for verb in VERBS],
            "limits": self.limits(),
        }

    def limits(self) -> dict[Term, Term]:
        """The caps that a host should know of."""
        config = self.config
        return atom_keys(
            {
                "max_frame_bytes": config.max_frame_bytes,
                "max_queue": config.max_queue,
                "credit": config.credit,
                "compressions": [atom(name) for name in available()],
            }
        )

    def versions(self) -> Term:
        """Of the node and of what it runs on."""
        return atom_keys({"node": __version__, "python": self.python, "dspy": self.dspy})
