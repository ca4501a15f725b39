"""How what a request costs grows: with requests in flight, with bytes of payload, with things in the store.

    python benchmarks/growth.py [in_flight | payload | store ...]

With `--write` it draws `docs/images/growth-*.svg`, for which it needs the extra `charts`. Costs are processor time of
the node, all its threads, so that they hold on a machine that others use as well. Each point is the least of its
rounds: what disturbs only adds.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from instruments.asking import Asked, pipelined
from instruments.costs import cpu_s
from instruments.plots import Growth, draw, lacking, steepest
from node_client import NodeClient
from report import Aim, gate, markdown, publish, refuse_part, takes_flags
from streams import chunks, framed, name_of
from tickets import KNOWN, OFFLINE, optimization, prediction

from erlbridge.codec import Atom, term_to_binary
from erlbridge.store.store import open_store

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
IN_FLIGHT = (1, 10, 100, 1000)
PAYLOADS = (10**3, 10**4, 10**5, 10**6, 10**7, 10**8)
STORED = (1, 100, 1000, 10_000)
ROUNDS = 2
LEAST_REQUESTS = 200

MICROSECONDS = "µs of the node's processor time"
STEEPEST = 1.15
"""The power of growth that is linear still, with room for what a measurement is worth."""
Points = list[tuple[float, float]]


@contextmanager
def node(*arguments: str, data: Path | None = None) -> Iterator[NodeClient]:
    """A node with two workers that are there, and no limit in the way of what is measured."""
    with tempfile.TemporaryDirectory() as directory:
        settings = ("--workers", "2", "--spare-workers", "0", "--recycle-after-jobs", "0", "--credit", "1000000")
        client = NodeClient(*settings, *arguments, data=data or Path(directory))
        client.ready()
        client.wait_until_healthy()
        yield client
        client.close()


def cost_us(client: NodeClient, work: Callable[[], int]) -> float:
    """Microseconds of the node's processor time for each of the requests that `work` makes; it gives their number."""
    least = float("inf")
    for _ in range(ROUNDS):
        before = cpu_s(client.node_pid)
        count = work()
        least = min(least, (cpu_s(client.node_pid) - before) / count * 1e6)
        client.events.clear()
    return least


# -- requests in flight


def in_flight() -> Growth:
    quiet = {Atom("progress"): False}
    kinds: Mapping[str, tuple[str, object, Callable[[int], object]]] = {
        "health_check, which the node answers": ("health_check", {}, lambda _: None),
        "predict, all from one source": ("predict", prediction(), lambda _: quiet),
        "predict, from 100 sources in 5 priorities, each with a deadline": (
            "predict",
            prediction(),
            lambda number: {
                **quiet,
                Atom("source"): b"source %d" % (number % 100),
                Atom("priority"): number % 5,
                Atom("deadline_ms"): 600_000 + number,
            },
        ),
    }
    lines: dict[str, Points] = {name: [] for name in kinds}
    with node("--max-queue", "2000") as client:
        for depth in IN_FLIGHT:
            for name, (verb, payload, meta) in kinds.items():
                requests = [(verb, payload, meta(number)) for number in range(max(LEAST_REQUESTS, depth * 3 // 2))]

                def work(requests: list[Asked] = requests, depth: int = depth) -> int:
                    return pipelined(client, requests, depth)

                lines[name].append((depth, cost_us(client, work)))
                say(f"{depth} in flight", name, lines[name][-1][1])
    return Growth("in-flight", "Cost of a request by requests in flight", "in flight", MICROSECONDS, lines)


# -- bytes of payload


def payload() -> Growth:
    """One frame with as much training data, through the node to a worker, and a dataset of as many bytes in chunks."""
    lines: dict[str, Points] = {"training data in the request": [], "the same as a dataset, sent in chunks": []}
    in_frame, in_chunks = lines.values()
    with node("--max-frame-bytes", "200000000", "--worker-soft-bytes", "0", "--worker-hard-bytes", "0") as client:
        for size in PAYLOADS:
            examples = [
                {Atom("subject"): b"%08d" % number, Atom("body"): b"x" * 900, Atom("category"): b"billing"}
                for number in range(max(1, size // 1000))
            ]
            request = optimization(optimizer=Atom("labeled_few_shot"), max_labeled_demos=1, max_demos=1)
            request |= {Atom("training_data"): examples, Atom("validation_data"): examples[:1]}

            def whole(request: Any = request) -> int:
                tag, result = client.ask("optimize_signature", request)
                assert tag == "ok", result
                return 1

            stream = framed(examples)
            transfer = iter(range(1000))

            def in_pieces(stream: bytes = stream, transfer: Iterator[int] = transfer) -> int:
                # Another stream each time: what the store has is not written again.
                plain = framed([{Atom("number"): next(transfer)}]) + stream
                waiting: collections.deque[int] = collections.deque()
                for chunk in chunks(f"{len(stream)} {time.monotonic_ns()}", plain, compression="none"):
                    waiting.append(client.request("data_chunk", chunk))
                    while len(waiting) >= 8:
                        assert client.answer(waiting.popleft())[0] == "ok"
                while waiting:
                    tag, result = client.answer(waiting.popleft())
                    assert tag == "ok", result
                return 1

            in_frame.append((size, cost_us(client, whole) / 1000))
            say(f"{size} bytes", "in the request", in_frame[-1][1], "ms")
            in_chunks.append((size, cost_us(client, in_pieces) / 1000))
            say(f"{size} bytes", "in chunks", in_chunks[-1][1], "ms")
    return Growth("payload", "Cost of a request by its payload", "bytes", "ms of the node", lines)


# -- things in the store


def store() -> Growth:
    lines: dict[str, Points] = {}
    for count in STORED:
        with tempfile.TemporaryDirectory() as directory:
            data = Path(directory)
            for name, cost in in_store(data, fill(data, count)).items():
                lines.setdefault(name, []).append((count, cost))
                say(f"{count} stored", name, cost)
    return Growth(
        "store", "Cost of a request by things in the store", "programs, and as many datasets", MICROSECONDS, lines
    )


def fill(data: Path, count: int) -> tuple[Any, str, str]:
    """Puts so many programs and datasets into a data directory, as a host would have, and notes them; gives one
    program that is not there, and the names of one that is and of a dataset."""
    with node(data=data) as client:
        tag, result = client.ask("optimize_signature", optimization(4, optimizer=Atom("labeled_few_shot")))
        assert tag == "ok", result
    program = result[Atom("program")]
    began = time.time_ns()
    for number in range(count):
        content = term_to_binary(renamed(program, b"program %d" % number), deterministic=True)
        digits = hashlib.sha256(content).hexdigest()
        written(data / "programs" / f"{digits}.etf", content, began + number)
        examples = [{**KNOWN[0], Atom("subject"): b"%d" % number}, *KNOWN[1:3]]
        stream = framed(examples)
        dataset = name_of(stream)
        place = data / "datasets" / dataset.removeprefix("sha256:")
        place.mkdir(parents=True)
        (place / "about").write_bytes(term_to_binary((1, len(examples), len(stream))))
        written(place / "stream", stream, began + number)
    with closing(open_store(data, print)) as found:
        for shelf in found.shelves:
            shelf.register.make_up(shelf.found())
    return renamed(program, b"one more"), f"program:{digits}", dataset


def renamed(program: Mapping[Any, Any], name: bytes) -> Mapping[Any, Any]:
    return {**program, Atom("signature"): {**program[Atom("signature")], Atom("name"): name}}


def written(path: Path, content: bytes, at_ns: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(at_ns, at_ns))


def in_store(data: Path, known: tuple[Any, str, str]) -> dict[str, float]:
    """Microseconds of the node for requests of each kind, and of a command for what it does with each thing."""
    program, program_id, dataset = known
    stored = {Atom("program"): program_id.encode(), Atom("input"): prediction()[Atom("input")], Atom("config"): OFFLINE}
    scored = {
        Atom("program"): program_id.encode(),
        Atom("data"): (Atom("dataset"), dataset.encode()),
        Atom("config"): OFFLINE,
    }

    def again() -> None:
        (made,) = answers(client, "put_program", {Atom("program"): program}, 1)
        answers(client, "delete_program", {Atom("program_id"): made[Atom("program_id")]}, 1)

    def sent(number: int) -> None:
        stream = framed([{Atom("number"): number, Atom("text"): b"x" * 1000}])
        (chunk,) = chunks(f"transfer {number}", stream, compression="none")
        answers(client, "data_chunk", chunk | {Atom("total_bytes"): len(stream)}, 1)
        answers(client, "delete_dataset", {Atom("dataset"): name_of(stream).encode()}, 1)

    found: dict[str, float] = {}
    with node(data=data) as client:
        for name, verb, payload, times in (
            ("list_programs, a page of 20", "list_programs", {Atom("limit"): 20}, 50),
            ("list_datasets, a page of 20", "list_datasets", {Atom("limit"): 20}, 50),
            ("get_program", "get_program", {Atom("program_id"): program_id.encode()}, 200),
            ("predict with a stored program", "predict", stored, 100),
            ("evaluate on a stored dataset", "evaluate_pipeline", scored, 50),
        ):
            found[name] = cost_us(
                client, lambda verb=verb, payload=payload, times=times: len(answers(client, verb, payload, times))
            )
        numbers = iter(range(10_000))
        found["a dataset of 1 KB sent and deleted"] = cost_us(
            client, lambda: [sent(next(numbers)) for _ in range(20)].count(None)
        )
        found["put_program and delete_program"] = cost_us(client, lambda: [again() for _ in range(20)].count(None))
    return found


def answers(client: NodeClient, verb: str, payload: object, times: int) -> list[Any]:
    """What the node says to so many of the same request, one after the other."""
    given = []
    for _ in range(times):
        tag, result = client.ask(verb, payload)
        assert tag == "ok", result
        given.append(result)
    return given


def say(where: str, name: str, cost: float, unit: str = "µs") -> None:
    print(f"    {where:>20}  {name:<60} {cost:12,.1f} {unit}", file=sys.stderr, flush=True)


MEASURES: Mapping[str, Callable[[], Growth]] = {"in_flight": in_flight, "payload": payload, "store": store}


def told(growth: Growth) -> tuple[str, list[Aim]]:
    """The section of one growth: its picture, its table, and the aim of each line."""
    places = sorted({x for points in growth.lines.values() for x, _ in points})
    rows = []
    judged = []
    for name, points in growth.lines.items():
        costs = dict(points)
        steep = steepest(points)
        rows.append(
            (name, *(f"{costs[place]:,.{0 if costs[place] >= 100 else 1}f}" for place in places), f"{steep:.2f}")
        )
        judged.append(Aim(f"{growth.key}: {name}", steep, STEEPEST, margin=2.0))
    picture = f"![{growth.title}](images/growth-{growth.key}.svg)"
    heads = (f"{growth.y}, by {growth.x}", *(f"{place:,.0f}" for place in places), "power")
    return f"{picture}\n\n{markdown(heads, rows)}", judged


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=", ".join(MEASURES))
    takes_flags(parser)
    given = parser.parse_args()
    if unknown := set(given.measures) - set(MEASURES):
        parser.error(f"nothing here is called {', '.join(sorted(unknown))}; there are {', '.join(MEASURES)}")
    refuse_part(parser, given, bool(given.measures) and set(given.measures) < set(MEASURES) and "all measures")
    if given.write and (missing := lacking()):
        parser.error(f"--write draws what was measured, which needs {missing}")
    sections, judged = [], []
    for name in given.measures or (["payload"] if given.short else MEASURES):
        growth = MEASURES[name]()
        if given.write:
            draw(growth, IMAGES)
        section, aims_of_it = told(growth)
        sections.append(section)
        judged += aims_of_it
    behind = [aim.what for aim in judged if not aim.reached]
    verdict = f"Steeper than linear: {'; '.join(behind)}." if behind else "Nothing grows steeper than linear."
    publish("growth", *sections, verdict, write=given.write)
    return gate(judged) if given.gate else 0


if __name__ == "__main__":
    sys.exit(main())
