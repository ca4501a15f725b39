"""The socket that HTTP comes to."""

from __future__ import annotations

import socket
from typing import Final

from erlbridge.core.settings import listening_at

_BACKLOG: Final = 64


def listen(address: str) -> socket.socket:
    """Listens at `host:port`. Raises `OSError`."""
    host, port = listening_at(address)
    family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
        0
    ]
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(place)
        found.listen(_BACKLOG)
        found.setblocking(False)
    except OSError:
        found.close()
        raise
    return found


def name_of(listening: socket.socket) -> str:
    """Where a socket listens, as `host:port`.

    >>> with listen("127.0.0.1:0") as found:
    ...     name_of(found).partition(":")[0]
    '127.0.0.1'
    """
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
