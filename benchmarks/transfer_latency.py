"""A transfer of 100 MB of examples into a node: how fast, how much memory, and what other requests notice of it.

    python benchmarks/transfer_latency.py [--write] [MEGABYTES]

The node runs no worker's job meanwhile. Latencies are those of `health_check`, asked again and again while chunks are
on their way, eight at a time; for comparison, the same without a transfer.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import report

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path += [str(TESTS), str(TESTS / "node")]

from node_client import NodeClient  # noqa: E402
from streams import framed, rows  # noqa: E402

from erlbridge.codec import Atom  # noqa: E402
from erlbridge.limits import MAX_CHUNK_BYTES  # noqa: E402

WINDOW = 8


def chunks(plain: list[bytes], compression: str) -> Iterator[dict[Any, Any]]:
    """The payloads of one transfer of this stream."""
    packer = zlib.compressobj(1)
    summed = hashlib.sha256(b"".join(plain))
    whole = b"".join([*map(packer.compress, plain), packer.flush()]) if compression == "zlib" else b"".join(plain)
    count = -(-len(whole) // MAX_CHUNK_BYTES)
    for index in range(count):
        payload = {
            Atom("transfer"): compression.encode(),
            Atom("chunk_index"): index,
            Atom("data"): whole[index * MAX_CHUNK_BYTES : (index + 1) * MAX_CHUNK_BYTES],
            Atom("is_final"): index == count - 1,
            Atom("compression"): Atom(compression),
        }
        yield payload | ({Atom("sha256"): summed.hexdigest().encode()} if index == count - 1 else {})


def status_bytes(pid: int, name: str) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) * 1024


def latencies(node: NodeClient, count: int) -> list[float]:
    found = []
    for _ in range(count):
        begun = time.monotonic()
        node.health()
        found.append(time.monotonic() - begun)
    return found


def shown(spans: list[float]) -> str:
    spans = sorted(spans)
    middle, late = spans[len(spans) // 2], spans[int(len(spans) * 0.99)]
    return f"{report.span(middle)} ({report.span(late)})"


def main() -> None:
    given = report.options(__doc__, full=100, short=20, what="MEGABYTES")
    megabytes, lines = given.rounds, []
    plain = [framed(rows(1000, size=500))] * (megabytes * 10**6 // len(framed(rows(1000, size=500))))
    size = sum(map(len, plain))
    for compression in ("none", "zlib"):
        wanted = list(chunks(plain, compression))
        directory = tempfile.TemporaryDirectory()
        node = NodeClient("--workers", "1", "--spare-workers", "0", data=Path(directory.name))
        node.ready()
        node.wait_until_healthy()
        quiet = latencies(node, 200)
        before = status_bytes(node.node_pid, "VmHWM")
        spans: list[float] = []
        begun = time.monotonic()
        ids = []
        for payload in wanted:
            ids.append(node.request("data_chunk", payload))
            spans += latencies(node, 1)
            if len(ids) >= WINDOW:
                node_answer(node, ids.pop(0))
        last = [node_answer(node, number) for number in ids][-1]
        took = time.monotonic() - begun
        grown = status_bytes(node.node_pid, "VmHWM") - before
        assert last[Atom("dataset")] is not None
        speed = f"{size / took / 1e6:.0f} MB/s"
        lines.append((f"compression `{compression}`", speed, f"{grown / 1e6:.1f} MB", shown(quiet), shown(spans)))
        node.close()
        directory.cleanup()
    heads = (f"{size / 1e6:.0f} MB", "speed", "the node grew by", "a health_check before", "and meanwhile (p99)")
    report.publish("transfer_latency", report.markdown(heads, lines), write=given.write)


def node_answer(node: NodeClient, number: int) -> dict[Any, Any]:
    for event in node.events:
        if str(event[0]) in ("ok", "error") and event[1] == number:
            assert str(event[0]) == "ok", event
            return dict(event[2])
    tag, told = node.answer(number)
    assert tag == "ok", told
    return dict(told)


if __name__ == "__main__":
    main()
