"""A node that captures its own wires, asked for by its settings and by its host."""

from __future__ import annotations

import resource
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from node_client import NodeClient
from tickets import SIGNATURE, prediction

from erlbridge.codec import Atom, binary_to_term
from erlbridge.node.about import About
from erlbridge.node.capture import Capture
from erlbridge.node.config_sources import resolve
from erlbridge.node.tap import Tap
from erlbridge.tools.captures import read_capture
from erlbridge.wire.capture import HOST, Note, Record

KEY = b"sk-given-0123456789"
ENVIRONMENT_KEY = "sk-named-9876543210"


def capture(node: NodeClient, **payload: object) -> dict[str, Any]:
    kind, answer = node.ask("capture", {Atom(name): value for name, value in payload.items()})
    assert kind == "ok", answer
    assert answer.pop(Atom("status")) == Atom("success")
    return {str(name): value for name, value in answer.items()}


def records(path: Path) -> list[Record]:
    return [entry for entry in read_capture(path) if isinstance(entry, Record)]


def heads(path: Path, wire: int | None = HOST) -> list[tuple[str, str]]:
    """Direction and first element of each frame, without samples and lines, which come when they come."""
    found = [(entry.direction, str(binary_to_term(entry.frame)[0])) for entry in records(path) if entry.wire == wire]
    return [head for head in found if head[1] not in ("telemetry", "log", "progress")]


def test_a_node_told_to_captures_every_wire_from_its_first_frame_on(
    start_node: Callable[..., NodeClient], tmp_path: Path
) -> None:
    file = tmp_path / "bridge.ecap"
    node = start_node("--workers", "1", "--spare-workers", "0", "--capture", str(file), OPENAI_API_KEY=ENVIRONMENT_KEY)
    node.ready()
    asked = prediction()
    asked[Atom("signature")] = {**SIGNATURE, Atom("input_fields"): [Atom("subject"), Atom("body"), Atom("password")]}
    asked[Atom("input")][Atom("password")] = KEY
    assert node.ask("predict", asked)[0] == "ok"
    assert node.ask("predict", {Atom("what"): ENVIRONMENT_KEY.encode()})[0] == "error"
    node.close()

    assert heads(file)[0] == ("out", "ready")
    assert heads(file)[-4:] == [("in", "predict"), ("out", "ok"), ("in", "predict"), ("out", "error")]
    assert heads(file, wire=1)[0] == ("in", "booted")
    assert ("out", "run") in heads(file, wire=1)
    content = file.read_bytes()
    assert KEY not in content
    assert ENVIRONMENT_KEY.encode() not in content
    request = next(entry for entry in records(file) if entry.redacted)
    assert (request.wire, request.direction) == (HOST, "in")
    assert binary_to_term(request.frame)[2][Atom("input")][Atom("password")] == b"*" * len(KEY)
    times = [entry.monotonic_ns for entry in records(file)]
    assert times == sorted(times)
    assert [entry.number for entry in records(file)] == list(range(1, len(times) + 1))
    last = list(read_capture(file))[-1]
    assert isinstance(last, Note)
    assert (last.name, dict(last.facts)) == ("closed", {"reason": "the node ended"})


def test_a_host_switches_a_capture_on_and_off(node: NodeClient) -> None:
    if not hasattr(node, "node_pid"):
        node.ready()
    assert capture(node) == {"mode": Atom("off")}
    on = capture(node, mode=Atom("on"), name=b"bridge.ecap")
    file = Path(on["file"].decode())
    assert file.parts[-2:] == ("captures", "bridge.ecap")
    assert (on["mode"], on["lost"]) == (Atom("on"), 0)
    assert capture(node, mode=Atom("on"), name=b"bridge.ecap")["file"] == on["file"]
    node.health()
    off = capture(node, mode=Atom("off"))
    node.health()
    assert off["mode"] == Atom("off")
    assert (off["count"], off["bytes"]) == (len(records(file)), file.stat().st_size - 16)
    assert heads(file) == [
        ("out", "ok"), ("in", "capture"), ("out", "ok"), ("in", "health_check"), ("out", "ok"), ("in", "capture"),
    ]  # fmt: skip
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert capture(node, mode=Atom("off")) == {"mode": Atom("off")}


@pytest.mark.parametrize("name", [b"../x", b"/tmp/x", b"a/b", b".hidden", b"", b"x\0", b"a" * 200, b"x.ecap\n"])
def test_a_host_names_no_file_elsewhere(node: NodeClient, name: bytes) -> None:
    if not hasattr(node, "node_pid"):
        node.ready()
    kind, error = node.ask("capture", {Atom("mode"): Atom("on"), Atom("name"): name})
    assert (kind, error[Atom("error_type")]) == ("error", Atom("validation_error"))
    assert error[Atom("context")][Atom("path")] == b"payload.name"
    assert capture(node) == {"mode": Atom("off")}


def test_a_full_disk_costs_the_capture_and_no_request(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--workers", "1", "--spare-workers", "0", "--audit", "false")
    node.ready()
    file = Path(capture(node, mode=Atom("on"))["file"].decode())
    unlimited = resource.prlimit(node.node_pid, resource.RLIMIT_FSIZE)
    resource.prlimit(node.node_pid, resource.RLIMIT_FSIZE, (16_384, unlimited[1]))
    long = b"x" * 20_000
    for _ in range(200):
        node.send((Atom("health_check"), long, {}))
        if str((term := node.until(lambda term: str(term[0]) == "log" or term[1] == long))[0]) == "log":
            break
    else:
        pytest.fail("nobody has said that the capture has ended")
    assert b"captures/capture.ecap has ended: OSError" in term[2]
    assert capture(node) == {"mode": Atom("off")}
    assert file.stat().st_size <= 16_384
    assert [entry.name for entry in read_capture(file) if isinstance(entry, Note)] == ["opened"]


def test_a_capture_that_has_just_ended_by_itself_begins_anew_when_it_is_asked_for(tmp_path: Path) -> None:
    config = resolve({"data": str(tmp_path / "data"), "capture_bytes": "64KiB"}, {}).config
    tap = Tap()
    ours = Capture(config, About(config), tap)
    on = {Atom("mode"): Atom("on")}
    try:
        ours.errand(on).work()
        writer = next(each for each in threading.enumerate() if each.name == "erlbridge-capture")
        shutil.rmtree(config.data / "captures")
        assert tap.hear is not None
        for _ in range(3):  # the next file finds no directory
            tap.hear(HOST, "in", b"\x83" + bytes(40_000))
        writer.join(10)
        ours.errand(on).work()
        assert (config.data / "captures" / "capture.ecap").exists()
        assert ours.complaints() == (), "who hears of the old one would end the new one"
        assert tap.hear is not None
    finally:
        ours.close()


def test_a_capture_that_cannot_be_written_is_one_line_of_the_log(
    start_node: Callable[..., NodeClient], tmp_path: Path
) -> None:
    taken = tmp_path / "taken.txt"
    taken.write_text("something of somebody's")
    node = start_node("--workers", "1", "--spare-workers", "0", "--capture", str(taken))
    node.ready()
    line = node.until(lambda term: str(term[0]) == "log")[2]
    assert b"it is there and no capture of this version" in line
    assert capture(node) == {"mode": Atom("off")}
    assert taken.read_text() == "something of somebody's"
