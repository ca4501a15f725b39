"""Confined workers in a real node: they work, the host hears how they are held, and nothing of them stays behind."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from node_client import NodeClient, NodeGone
from tickets import prediction

from erlbridge.codec import Atom
from erlbridge.core.sandbox import PARTS
from erlbridge.worker.sandbox import landlock, seccomp

WITHOUT_LANDLOCK = """
import ctypes, os, struct
from pathlib import Path
# 444 is landlock_create_ruleset, 38 is ENOSYS: what a kernel answers that was built without it.
lines = [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7FFF0000)]
program = b"".join(struct.pack("=HBBI", *line) for line in lines)
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]
prctl = ctypes.CDLL(None).prctl
assert prctl(38, 1, 0, 0, 0) == 0
assert prctl(22, 2, ctypes.byref(Filter(len(lines), program)), 0, 0) == 0
"""
"""What a Python that finds this as `sitecustomize` does first: the kernel has no Landlock for it any more."""

whole = pytest.mark.skipif(
    landlock.version() < landlock.SIGNALS_SINCE or seccomp.why_not() is not None,
    reason="this kernel has not every part",
)


def plain(value: Any) -> Any:
    """A term of health_check as Python reads it best."""
    match value:
        case Atom():
            return str(value)
        case bytes():
            return value.decode()
        case dict():
            return {plain(key): plain(item) for key, item in value.items()}
        case list():
            return [plain(item) for item in value]
        case _:
            return value


@pytest.fixture
def without_landlock(tmp_path: Path) -> str:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "sitecustomize.py").write_text(WITHOUT_LANDLOCK)
    return str(tmp_path / "old")


@pytest.fixture(scope="module")
def one_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NodeClient, int]]:
    """A node whose one worker may connect to one port, where a server that hangs up listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        arguments = ("--workers", "1", "--spare-workers", "0", "--sandbox-ports", str(port))
        cookie = {"RELEASE_COOKIE": "opens-the-beam"}
        node = NodeClient(*arguments, data=tmp_path_factory.mktemp("data"), environment=cookie)
        node.wait_until_healthy()
        yield node, port
        node.close()


@whole
def test_health_check_says_how_workers_are_held(one_port: tuple[NodeClient, int]) -> None:
    sandbox = plain(one_port[0].health())["sandbox"]
    assert sandbox["mode"] == "on"
    assert sandbox["landlock"] == landlock.version()
    assert [part for part in PARTS if not sandbox[part]] == []
    assert sandbox["missing"] == {}


@whole
def test_a_worker_calls_models_at_the_ports_that_are_set_only(one_port: tuple[NodeClient, int]) -> None:
    node, _ = one_port
    with socket.create_server(("127.0.0.1", 0)) as other:
        base = f"http://127.0.0.1:{other.getsockname()[1]}/v1"
        lm = {Atom("model"): b"openai/any", Atom("api_base"): base.encode()}
        number = node.request("predict", prediction({Atom("lm"): lm}), {Atom("deadline_ms"): 2000})
        assert node.answer(number)[0] == "error"
        assert select.select([other], [], [], 0)[0] == []  # nobody ever knocked


def test_the_cookie_of_the_beam_is_no_workers_to_send(one_port: tuple[NodeClient, int]) -> None:
    node, port = one_port
    base = f"http://127.0.0.1:{port}/v1".encode()
    lm = {Atom("model"): b"openai/any", Atom("api_base"): base, Atom("api_key_env"): b"RELEASE_COOKIE"}
    tag, failure = node.ask("predict", prediction({Atom("lm"): lm}))
    assert tag == "error"
    assert b"is not set where the node runs, or is one that workers do not get" in failure[Atom("message")]


def test_workers_directories_go_with_them_whoever_is_killed(
    start_node: Callable[..., NodeClient], tmp_path: Path
) -> None:
    node = start_node("--workers", "1", "--spare-workers", "0")
    node.ready()
    worker = plain(node.wait_until_healthy())["workers"][0]
    (homes,) = (tmp_path / "data" / "tmp").iterdir()
    home = homes / str(worker["worker"])
    (home / "left").write_text("x")
    os.kill(worker["os_pid"], signal.SIGKILL)
    wait_until_gone(home, node)
    node.wait_until_healthy()
    (home,) = (path for path in homes.iterdir() if path.is_dir())
    (home / "left").write_text("x")
    # Killed, the forkserver removes nothing itself; the next one does.
    node.note_tree()
    (forkserver,) = Path(f"/proc/{node.node_pid}/task/{node.node_pid}/children").read_text().split()
    os.kill(int(forkserver), signal.SIGKILL)
    wait_until_gone(homes, node)


def wait_until_gone(path: Path, node: NodeClient) -> None:
    deadline = time.monotonic() + 10
    while path.exists():
        assert time.monotonic() < deadline, f"{path} is still there"
        node.health()


def test_where_the_sandbox_is_required_and_the_kernel_lacks_a_part_no_worker_boots_and_the_host_hears_why(
    start_node: Callable[..., NodeClient], without_landlock: str
) -> None:
    node = start_node("--workers", "1", "--spare-workers", "0", "--sandbox", "required", PYTHONPATH=without_landlock)
    number = node.request("predict", prediction())
    tag, failure = node.answer(number)
    assert (tag, str(failure[Atom("error_type")])) == ("error", "process_crashed")
    assert (
        b"the sandbox is required and cannot be had in full here: files: the kernel has no Landlock"
        in (failure[Atom("message")])
    )
    with pytest.raises(NodeGone) as gone:
        node.until(lambda _term: False)
    assert gone.value.code == 3


def test_where_the_kernel_lacks_a_part_workers_run_without_it_and_the_host_hears_which(
    start_node: Callable[..., NodeClient], without_landlock: str
) -> None:
    node = start_node("--workers", "1", "--spare-workers", "0", PYTHONPATH=without_landlock)
    sandbox = plain(node.wait_until_healthy())["sandbox"]
    assert (sandbox["landlock"], sandbox["files"], sandbox["no_new_privs"]) == (0, False, True)
    assert sandbox["missing"]["files"].startswith("the kernel has no Landlock")
    assert "Linux 6.7" in sandbox["missing"]["tcp"]
    assert node.ask("predict", prediction())[0] == "ok"


def test_doctor_says_what_is_in_force_and_exits_with_0(tmp_path: Path, without_landlock: str) -> None:
    command = [sys.executable, "-m", "erlbridge", "doctor", "--json", "--data", str(tmp_path / "data")]
    environment = {**os.environ, "PYTHONPATH": without_landlock}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    findings = {finding["name"]: finding for finding in json.loads(ran.stdout)}
    assert ran.returncode == 0
    assert {findings[name]["state"] for name in ("python", "dspy", "data", "worker")} == {"ok"}
    assert findings["sandbox.files"]["state"] == "warning"
    assert "the kernel has no Landlock" in findings["sandbox.files"]["found"]
    assert findings["sandbox.directory"]["state"] == "ok"


def test_doctor_exits_with_1_where_a_node_would_not_run(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no directory")
    command = [sys.executable, "-m", "erlbridge", "doctor", "--data", str(tmp_path / "data")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert "failed   data: " in ran.stdout
    assert "set `data` to a directory that the node can write" in ran.stdout


def test_doctor_says_so_where_dspy_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "dspy.py").write_text("raise ImportError('broken')")
    command = [sys.executable, "-m", "erlbridge", "doctor", "--data", str(tmp_path / "data")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert "failed   forkserver: the worker died: the forkserver ended; its last words:" in ran.stdout
