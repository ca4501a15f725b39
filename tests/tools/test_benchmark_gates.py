"""What benchmarks make of figures, and the relay that one of them measures, without measuring anything."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import codec
import round_trip

RELAY = round_trip.PEERS / "relay.py"
USUAL = {
    ("decode", "a rpc"): {"ours": 0.8, "floor": 0.96, "erlang_py": 62.0},
    ("encode", "a rpc"): {"ours": 0.2, "erlang_py": 108.0},
    ("decode", "b examples"): {"ours": 130.0, "floor": 1.8, "erlang_py": 145.0},
    ("encode", "b examples"): {"ours": 58.0, "erlang_py": 175.0},
}
"""What short runs give on a machine at rest."""


def slowed(by: float) -> codec.Ratios:
    return {where: {peer: ratio / by for peer, ratio in ratios.items()} for where, ratios in USUAL.items()}


@pytest.mark.parametrize(("by", "falls"), [(0.5, False), (1.5, False), (2.0, False), (5.5, True), (20.0, True)])
def test_the_gate_of_the_codec_falls_where_any_way_takes_five_times_as_long(
    by: float, falls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not where a busy machine halves a ratio."""
    monkeypatch.setattr(codec, "IMPLEMENTATION", "compiled")
    judged = codec.aims(slowed(by))
    assert len(judged) == 6
    assert {aim.what: aim.fails_the_gate for aim in judged} == {aim.what: falls for aim in judged}


def test_a_peer_that_is_not_there_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "IMPLEMENTATION", "compiled")
    assert [aim.what for aim in codec.aims({("decode", "a rpc"): {"ours": 0.8, "floor": 1.0}})] == [
        "decode (a): floor's time by ours"
    ]


def test_a_request_through_a_worker_is_judged_beside_the_relay_and_the_echo() -> None:
    spans = {round_trip.ECHO: 100e-6, round_trip.RELAY: 200e-6, round_trip.WORKER: 1600e-6}
    ends = (round_trip.C, round_trip.JSON, round_trip.NODE, round_trip.BRIDGE, round_trip.PREDICT)
    found = {
        end: {"single": [[span]], "paced": [[span]], "rate": [1.0], "work": [span], "large": [1.0]}
        for end, span in [*spans.items(), *((end, 150e-6) for end in ends)]
    }
    judged = {aim.what: aim for aim in round_trip.aims(found)}
    to_echo = judged["through a worker: the echo's p50, one every 3 ms"]
    to_relay = judged["through a worker: the relay's p50, one every 3 ms"]
    assert (to_echo.figure, to_relay.figure) == pytest.approx((16.0, 8.0))
    assert to_echo.limit.endswith("as of the relay, take 2.0 \N{MULTIPLICATION SIGN}")
    assert not to_relay.reached
    assert not to_relay.fails_the_gate
    row = next(line for line in round_trip.table(found).splitlines() if line.startswith(f"| {round_trip.RELAY} |"))
    assert "200 µs (200 µs), 2.0 \N{MULTIPLICATION SIGN}" in row


def test_a_relay_gives_frames_back_and_ends_with_its_second_process() -> None:
    frames = [(n).to_bytes(4) + b"x" * n for n in (0, 300, 1_000_000)]
    with relay() as port:
        assert port.stdin
        assert port.stdout
        for frame in frames:
            port.stdin.write(frame)
            port.stdin.flush()
            assert port.stdout.read(len(frame)) == frame
        second = second_of(port)
        port.stdin.close()
        assert port.wait(10) == 0
    assert not Path("/proc", second).exists()


def test_a_sink_behind_a_relay_answers_in_a_word() -> None:
    with relay("sink") as port:
        assert port.communicate((70_000).to_bytes(4) + bytes(70_000), 10)[0] == b"\0\0\0\4done"
    assert port.returncode == 0


def test_with_a_relay_that_is_killed_its_second_process_ends() -> None:
    with relay() as port:
        assert port.stdin
        assert port.stdout
        port.stdin.write(b"\0\0\0\1x")
        port.stdin.flush()
        assert port.stdout.read(5) == b"\0\0\0\1x"
        second = second_of(port)
        port.kill()
    with contextlib.suppress(FileNotFoundError):  # gone altogether, or waiting for whoever takes note of it
        while Path("/proc", second, "stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
            time.sleep(0.01)


def relay(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, RELAY, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def second_of(port: subprocess.Popen[bytes]) -> str:
    (second,) = Path(f"/proc/{port.pid}/task/{port.pid}/children").read_text().split()
    return second
