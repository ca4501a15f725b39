"""`erlbridge store …` beside a running node, and a data directory that an older node has left."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_client import NodeClient
from tickets import optimization

from erlbridge.codec import Atom
from erlbridge.store.dataset_writer import DatasetWriter
from erlbridge.store.store import open_store
from erlbridge.tools.cli import main

ID, PROGRAMS = Atom("program_id"), Atom("programs")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data") / "store"


@pytest.fixture(scope="module")
def node(data: Path) -> Iterator[NodeClient]:
    client = NodeClient("--workers", "1", "--spare-workers", "0", data=data)
    client.ready()
    yield client
    client.close()


@pytest.fixture(scope="module")
def program(node: NodeClient) -> str:
    """A program that the node has stored."""
    tag, result = node.ask("optimize_signature", optimization(4, optimizer=Atom("labeled_few_shot")))
    assert tag == "ok", result
    return str(result[ID].decode())


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    """A command's exit code, and what it printed for programs."""
    code = main(["store", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def listed(node: NodeClient) -> list[str]:
    return [entry[ID].decode() for entry in node.ask("list_programs", {})[1][PROGRAMS]]


def test_what_a_node_has_stored_is_shown_and_verified(
    node: NodeClient, program: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, shown = run(capsys, "show", "--data", str(data))
    assert (code, shown["program"]["count"], shown["dataset"]["count"]) == (0, 1, 0)
    code, (found,) = run(capsys, "show", program, "--data", str(data))
    assert (code, found["name"], found["signature"], found["optimizer"]) == (
        0,
        program,
        "TicketTriage",
        "labeled_few_shot",
    )
    code, verified = run(capsys, "verify", "--data", str(data))
    assert (code, verified["ok"], verified["checked"]["program"], verified["faults"]) == (0, True, 1, [])
    assert listed(node) == [program]


def test_an_export_is_taken_in_elsewhere_and_a_node_there_serves_it(
    node: NodeClient, program: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, other = tmp_path / "all.tar", tmp_path / "other"
    assert run(capsys, "export", str(archive), "--data", str(data))[1]["exported"] == {"program": 1}
    assert main(["store", "import", str(archive), "--data", str(other)]) == 0
    assert capsys.readouterr().out.startswith("imported 1 things")
    second = NodeClient("--workers", "1", "--spare-workers", "0", data=other)
    try:
        second.ready()
        assert listed(second) == [program]
        given = [each.ask("get_program", {ID: program.encode()})[1] for each in (node, second)]
        assert given[0] == given[1]
    finally:
        second.close()


def test_a_node_lists_what_an_older_one_has_left_without_an_index(
    node: NodeClient, program: str, data: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old" / "programs"
    old.mkdir(parents=True)
    file = f"{program.removeprefix('program:')}.etf"
    (old / file).write_bytes((data / "programs" / file).read_bytes())
    second = NodeClient("--workers", "1", "--spare-workers", "0", data=tmp_path / "old")
    try:
        second.ready()
        (entry,) = second.ask("list_programs", {})[1][PROGRAMS]
        assert (entry[ID].decode(), entry[Atom("name")]) == (program, b"TicketTriage")
    finally:
        second.close()


def test_an_archive_goes_through_pipes(program: str, data: Path, tmp_path: Path) -> None:
    erlbridge = [sys.executable, "-m", "erlbridge", "store"]
    sent = subprocess.run([*erlbridge, "export", "-", "--data", str(data)], capture_output=True, check=True)
    assert b"exported 1 things" in sent.stderr
    command = [*erlbridge, "import", "-", "--data", str(tmp_path)]
    taken = subprocess.run(command, input=sent.stdout, capture_output=True, check=True)
    assert b"imported 1 things" in taken.stdout
    cut = subprocess.run(command, input=sent.stdout[:600], capture_output=True, check=False)
    assert cut.returncode == 1
    assert cut.stderr.startswith(b"erlbridge store import: ")
    assert b"cut off" in cut.stderr


def test_damage_is_told_by_the_exit_code_and_an_export_leaves_it_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with DatasetWriter(open_store(tmp_path, str).datasets) as writer:
        writer.add({"question": "why?"})
        name = writer.finish().name
    (stream,) = tmp_path.glob("datasets/*/stream")
    whole = stream.read_bytes()
    stream.write_bytes(whole[:-1] + b"!")
    code, report = run(capsys, "export", str(tmp_path / "all.tar"), "--data", str(tmp_path))
    assert (code, [one["name"] for one in report["left_out"]]) == (1, [name])
    stream.parent.with_suffix(".damaged").rename(stream.parent)
    code, report = run(capsys, "verify", "--data", str(tmp_path))
    assert (code, report["ok"], [one["fault"] for one in report["faults"]]) == (1, False, ["damaged"])
    assert run(capsys, "verify", "--data", str(tmp_path))[0] == 0


def test_what_would_go_is_said_before_it_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(tmp_path, str)
    with DatasetWriter(store.datasets) as writer:
        writer.add({"question": "why?"})
        name = writer.finish().name
    ages = ("--datasets-older-than", "0", "--data", str(tmp_path))
    assert run(capsys, "gc", "--data", str(tmp_path))[1]["removed"] == []
    for last in ("--dry-run", "--dry-run"), ():
        code, report = run(capsys, "gc", *ages, *last)
        assert (code, [one["name"] for one in report["removed"]]) == (0, [name])
    assert run(capsys, "gc", *ages)[1]["removed"] == []


@pytest.mark.parametrize("age", ["30x", "-1d", "", "1e5", "many"])
def test_an_age_that_is_none_is_refused(age: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["store", "gc", f"--programs-older-than={age}"])
    assert ended.value.code == 2
    assert "expected an age such as 36h, 30d or 52w" in capsys.readouterr().err


def test_an_unknown_name_and_a_file_that_is_not_there_are_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command, text in ((["show", "program:ab"], "nothing is stored"), (["import", str(tmp_path / "no")], "No such")):
        assert main(["store", *command, "--data", str(tmp_path)]) == 1
        assert text in capsys.readouterr().err


def test_no_archive_is_written_to_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    assert main(["store", "export", "-", "--data", str(tmp_path)]) == 1
    assert "is a terminal" in capsys.readouterr().err
