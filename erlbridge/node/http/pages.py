"""The console's files, as they lie beside this module: a fixed list, each read once.

Nothing in them is made for a request, so a page holds no text of a job; all it shows it gets from the paths under
`/api`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from erlbridge.node.http.messages import HttpRequest, Response

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HERE: Final = Path(__file__).parent / "console"
_NAMES: Final = (
    "charts.js",
    "console.css",
    "console.js",
    "elements.js",
    "icon.svg",
    "jobs.js",
    "live.js",
    "programs.js",
    "records.js",
    "state.js",
    "unfold.js",
    "workers.js",
)

FILES: Final[Mapping[str, str]] = {"/": "index.html", **{f"/console/{name}": name for name in _NAMES}}
"""The file of each path."""


@functools.cache
def _read(name: str) -> bytes:
    return (_HERE / name).read_bytes()


def page(_desk: object, request: HttpRequest) -> Response:
    """A file of the console."""
    name = FILES[request.path]
    return Response(200, _read(name), _TYPES[Path(name).suffix])
