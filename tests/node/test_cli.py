"""The command line: arguments are checked before the wire is touched, and the wire survives whatever prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from node_client import NodeClient, NodeGone

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.tools.cli import FAMILIES


def erlbridge(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "erlbridge", *arguments]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["serve", "--workers", "0"], "--workers: expected a whole number from 1 to 256, got '0'"),
        (["serve", "--workers", "two"], "got 'two'"),
        (["serve", "--max-frame-bytes", "3"], "expected bytes from 4KiB"),
        (["serve", "--fds", "3"], "expected two descriptors such as 3,4"),
        (["serve", "--fds", "77,78"], "cannot be used"),
        (["serve", "--wrong"], "unrecognized arguments"),
        (["serve", "--worker", "2"], "did you mean `--workers`?"),
        ([], "required: COMMAND"),
        (
            ["audit", "verify", "--jsn"],
            "erlbridge audit verify: unrecognized arguments: --jsn (did you mean `--json`?)",
        ),
    ],
)
def test_wrong_arguments_exit_with_2_and_say_why(arguments: list[str], text: str) -> None:
    ran = erlbridge(*arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert text in ran.stderr


@pytest.mark.parametrize("arguments", [["doctor"], ["config", "show"], ["vocabulary"]])
def test_a_reader_that_has_seen_enough_is_no_fault(arguments: list[str]) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "erlbridge", *arguments]
    ran = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(writes)
    assert (ran.returncode, ran.stderr) == (141, "")


def test_the_vocabulary_is_printed_as_an_elixir_module() -> None:
    ran = erlbridge("vocabulary")
    assert ran.returncode == 0
    assert "defmodule Pipeline.DSPy.Vocabulary do" in ran.stdout


def test_a_node_whose_host_is_gone_from_the_start_exits_with_0(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "erlbridge", "serve", "--data", str(tmp_path)],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0
    assert binary_to_term(ran.stdout[4:])[0] == Atom("ready")


def test_other_descriptors_serve_a_port_that_keeps_standard_io(tmp_path: Path) -> None:
    requests_read, requests_write = os.pipe()
    answers_read, answers_write = os.pipe()
    node = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "erlbridge",
            "serve",
            "--data",
            str(tmp_path),
            "--fds",
            f"{requests_read},{answers_write}",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        pass_fds=[requests_read, answers_write],
    )
    os.close(requests_read)
    os.close(answers_write)
    frame = term_to_binary((Atom("health_check"), 1, {}))
    os.write(requests_write, len(frame).to_bytes(4) + frame)
    os.close(requests_write)
    with os.fdopen(answers_read, "rb") as answers:
        stream = answers.read()
    assert node.wait(60) == 0
    assert node.stdout is not None
    assert node.stdout.read() == b""
    node.stdout.close()
    length = int.from_bytes(stream[:4])
    assert binary_to_term(stream[4 : 4 + length])[0] == Atom("ready")


def test_what_prints_in_the_node_or_in_dspys_import_does_not_reach_the_wire(tmp_path: Path) -> None:
    """A DSPy that prints in every way there is while it loads, and then cannot be loaded."""
    loud = tmp_path / "loud"
    (loud / "dspy").mkdir(parents=True)
    (loud / "dspy" / "__init__.py").write_text(
        "import os, subprocess, sys\n"
        "print('printed')\n"
        "sys.__stdout__.write('to the first stdout\\n')\n"
        "os.write(1, b'written\\n')\n"
        "subprocess.run(['echo', 'from a child'])\n"
        "raise SystemExit('enough')\n"
    )
    client = NodeClient("--workers", "1", "--credit", "1000", data=tmp_path, environment={"PYTHONPATH": str(loud)})
    client.ready()
    with pytest.raises(NodeGone) as gone:
        client.until(lambda _term: False)
    assert gone.value.code == 3
    lines = {event[2] for event in client.events if str(event[0]) == "log"}
    assert {b"printed", b"to the first stdout", b"written", b"from a child", b"enough"} <= lines
    client.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_commands_declares_what_it_takes(family: str) -> None:
    ran = erlbridge(family, "--help")
    assert ran.returncode == 0
    assert ran.stdout.startswith(f"usage: erlbridge {family}")


def test_the_help_of_all_commands_loads_none_of_them() -> None:
    code = (
        "import sys\nfrom erlbridge.tools.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
    )
    code += "print([name for name in sys.modules if name.startswith(('erlbridge.tools.commands.', 'erlbridge.node'))])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
