"""The pool: what is heard of a worker, in which order."""

from __future__ import annotations

import selectors
import socket
import time
from pathlib import Path

from erlbridge.core.events import Booted, Forked
from erlbridge.node.allotment import worker_settings
from erlbridge.node.config import NodeConfig
from erlbridge.node.pool import Pool, PoolEvent

PATIENCE_S = 60.0


def serve(selector: selectors.BaseSelector, *, forkserver: bool) -> None:
    for key, ready in selector.select(0.1):
        if forkserver or not isinstance(key.fileobj, socket.socket):
            key.data(ready)


def test_a_worker_is_not_ready_before_its_process_is_known(tmp_path: Path) -> None:
    heard: list[PoolEvent] = []
    give_up_at = time.monotonic() + PATIENCE_S
    with selectors.PollSelector() as selector:
        pool = Pool(selector, heard.append, worker_settings(NodeConfig(workers=1, data=tmp_path)))
        pool.fork(1)
        while pool.sandbox is None and time.monotonic() < give_up_at:  # it has booted
            serve(selector, forkserver=False)
        while Booted(1) not in heard and time.monotonic() < give_up_at:
            serve(selector, forkserver=True)
        pool.close()
    assert [type(event) for event in heard if isinstance(event, Forked | Booted)] == [Forked, Booted]
