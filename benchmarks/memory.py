"""Whether a worker grows: its resident memory over 10,000 predictions against an endpoint on a loopback port.

    python benchmarks/memory.py [predictions]

Every input is another one, so that each is asked of the endpoint and its answer kept; the second half of the figures is
the same inputs again, answered by the cache.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path += [str(TESTS), str(TESTS / "node"), str(TESTS / "programs")]

from node_client import NodeClient  # noqa: E402
from program_jobs import Endpoint, atoms  # noqa: E402
from tickets import SIGNATURE, TICKETS  # noqa: E402

from erlbridge.codec import Atom  # noqa: E402

BATCH = 250


def resident_bytes(node: NodeClient) -> int:
    (worker,) = node.health()[Atom("workers")]
    return int(worker[Atom("rss_bytes")])


def inputs(first: int) -> list[dict[Atom, bytes]]:
    row = TICKETS[0]
    subject, body = row[Atom("subject")], row[Atom("body")]
    return [{Atom("subject"): subject, Atom("body"): b"%s (%d)" % (body, first + n)} for n in range(BATCH)]


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    endpoint = Endpoint()
    data = Path(tempfile.mkdtemp())
    node = NodeClient("--workers", "1", data=data)
    node.ready()
    config = atoms({"lm": endpoint.lm(timeout_ms=60_000)})

    def predict(first: int) -> None:
        tag, result = node.ask(
            "predict", {Atom("signature"): SIGNATURE, Atom("inputs"): inputs(first), Atom("config"): config}
        )
        if tag != "ok":
            raise SystemExit(f"a batch failed: {result}")
        endpoint.requests.clear()
        endpoint.headers.clear()
        node.events.clear()

    for title in ("asked of the endpoint", "answered by the cache"):
        begun = time.monotonic()
        sizes = []
        for first in range(0, count, BATCH):
            predict(first)
            sizes.append(resident_bytes(node))
        warm = sizes[len(sizes) // 10]  # after a tenth: pools, pages and first-time imports are there
        grown = (sizes[-1] - warm) / warm
        shown = " ".join(f"{size / 1e6:.1f}" for size in sizes[:: max(1, len(sizes) // 10)])
        print(f"{count} predictions, {title}: {(time.monotonic() - begun) / count * 1000:.2f} ms each")
        print(f"    resident MB {shown}; {sizes[-1] / 1e6:.1f} at the end, {grown:+.1%} since a tenth of them")
    kept = sum(path.stat().st_size for path in data.rglob("*") if path.is_file())
    print(f"{kept / 1e6:.1f} MB of answers on disk")
    node.close()
    endpoint.close()


if __name__ == "__main__":
    main()
