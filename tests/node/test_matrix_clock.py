"""The fault matrix, clock: the wall clock jumps an hour back or forward in the middle of jobs, and nobody waits."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faulty_endpoint import FaultyEndpoint
from measures import record
from node_client import NodeClient
from tickets import optimization, prediction, slow

from erlbridge.codec import Atom

ROW = "clock set back and forward 1 h"
HOUR_S = 3600
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long offset(void) {
    char text[32] = {0};
    int file = open(getenv("CLOCK_OFFSET_FILE"), O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    long got = read(file, text, sizeof text - 1);
    close(file);
    return got > 0 ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += offset();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (into) *into = found.tv_sec;
    return found.tv_sec;
}
"""


@pytest.fixture(scope="module")
def set_clock(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], None]:
    """Moves the wall clock of the module's node, and of it alone, by so many seconds."""
    offset = tmp_path_factory.getbasetemp() / "offset"
    offset.write_text("0")

    def move(seconds: int) -> None:
        offset.with_suffix(".new").write_text(str(seconds))
        offset.with_suffix(".new").rename(offset)

    return move


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, set_clock: Callable[[int], None]) -> Iterator[NodeClient]:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler is here to build the clock that can be set")
    made = tmp_path_factory.mktemp("shim")
    (made / "shim.c").write_text(SHIM)
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", made / "shim.so", made / "shim.c", "-ldl"], check=True)
    environment = {
        "LD_PRELOAD": str(made / "shim.so"),
        "CLOCK_OFFSET_FILE": str(tmp_path_factory.getbasetemp() / "offset"),
    }
    client = NodeClient("--workers", "2", "--spare-workers", "0", data=made / "data", environment=environment)
    try:
        client.ready()
        client.wait_until_healthy()
        client.send((Atom("credit"), 10_000))
        for _ in [client.request("predict", prediction(slow(300))) for _ in range(2)]:
            client.until(lambda term: str(term[0]) == "ok")  # each worker's first job loads what is loaded at need
        yield client
    finally:
        client.close()


@pytest.fixture(params=[-HOUR_S, HOUR_S], ids=["back", "forward"])
def jump(request: pytest.FixtureRequest, set_clock: Callable[[int], None]) -> Iterator[Callable[[], None]]:
    set_clock(0)
    yield lambda: set_clock(request.param)
    set_clock(0)


def test_a_deadline_is_kept_when_the_clock_jumps(node: NodeClient, jump: Callable[[], None]) -> None:
    begun = time.monotonic()
    number = node.request(
        "optimize_signature",
        optimization(num_threads=1, **{str(k): v for k, v in slow(50).items()}),
        {Atom("deadline_ms"): 900},
    )
    node.until(lambda term: str(term[0]) == "progress" and term[1] == number)
    jump()
    tag, error = node.answer(number)
    assert (tag, error[Atom("error_type")]) == ("error", Atom("timeout_error"))
    record(ROW, "in a job", "answered beside the deadline", abs(time.monotonic() - begun - 0.9), 0.25)


def test_a_job_and_its_figures_are_the_same_when_the_clock_jumps(node: NodeClient, jump: Callable[[], None]) -> None:
    begun = time.monotonic()
    number = node.request("optimize_signature", optimization(**{str(k): v for k, v in slow(5).items()}))
    node.until(lambda term: str(term[0]) == "progress" and term[1] == number)
    jump()
    other = node.ask("predict", prediction())
    assert other[0] == "ok"
    tag, result = node.answer(number)
    took_ms = (time.monotonic() - begun) * 1000
    assert tag == "ok", result
    assert 0 < result[Atom("optimization_metrics")][Atom("duration_ms")] <= took_ms
    health = node.health()
    assert 0 < health[Atom("uptime_ms")] < 120_000
    assert health[Atom("restarts")] == 0


def test_the_pace_of_an_endpoint_is_kept_when_the_clock_jumps(node: NodeClient, jump: Callable[[], None]) -> None:
    with FaultyEndpoint() as endpoint:
        pace = {Atom("requests_per_minute"): 600, Atom("tokens_per_minute"): 60_000}
        config = {Atom("lm"): endpoint.lm(rate_limit=pace), Atom("cache"): False}
        assert node.ask("predict", prediction(config))[0] == "ok"
        jump()
        begun = time.monotonic()
        for _ in range(5):
            assert node.ask("predict", prediction(config))[0] == "ok"
        took_s = time.monotonic() - begun
    assert took_s >= 0.4, "five calls at ten a second"
    record(ROW, "rate limit", "five calls at ten a second take", took_s, 1.5)


def test_answers_and_retries_do_not_mind_when_the_clock_jumps(node: NodeClient, jump: Callable[[], None]) -> None:
    with FaultyEndpoint(lambda number: "429" if number == 1 else "well") as endpoint:
        config = {Atom("lm"): endpoint.lm()}
        number = node.request("predict", prediction(config))
        while not endpoint.requests:
            time.sleep(0.005)
        jump()
        begun = time.monotonic()
        assert node.answer(number)[0] == "ok"
        record(ROW, "Retry-After", "waited 0.3 s in", time.monotonic() - begun, 1.0)
        tag, again = node.ask("predict", prediction(config))
        assert (tag, again[Atom("metrics")][Atom("cached_calls")]) == ("ok", 1)
        assert endpoint.requests == ["429", "well"]


def test_every_process_of_the_node_has_the_clock_that_can_be_set(
    node: NodeClient, set_clock: Callable[[int], None]
) -> None:
    """Without it the module would prove nothing."""
    workers = [worker[Atom("os_pid")] for worker in node.health()[Atom("workers")]]
    for pid in (node.process.pid, node.node_pid, *workers):
        assert "shim.so" in Path(f"/proc/{pid}/maps").read_text()
    environment = dict(
        variable.split("=", 1)
        for variable in Path(f"/proc/{node.process.pid}/environ").read_text().split("\0")
        if "=" in variable
    )
    set_clock(-HOUR_S)
    command = [sys.executable, "-c", "import time; print(time.time())"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    set_clock(0)
    assert abs(float(said) - (time.time() - HOUR_S)) < 60
