"""Reports by way of the wire: in a result, given again, gone with their program; and from the shell beside the node."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_client import NodeClient
from report_records import hostile, record
from tickets import optimization

from erlbridge.codec import Atom, term_to_binary
from erlbridge.reports.page import page
from erlbridge.tools.cli import main

REPORT, HTML, CHARTS, ID = Atom("report"), Atom("html"), Atom("charts"), Atom("program_id")


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
def result(node: NodeClient) -> dict[Any, Any]:
    """An optimization that was asked for a report."""
    tag, found = node.ask("optimize_signature", optimization(6, optimizer=Atom("labeled_few_shot"), report=True))
    assert tag == "ok", found
    return found


def test_a_result_has_the_report_that_was_asked_for_and_the_node_gives_it_again(
    node: NodeClient, result: dict[Any, Any]
) -> None:
    assert result[REPORT][HTML].startswith(b"<!doctype html>")
    assert {str(name) for name in result[REPORT][CHARTS]} == {"score", "examples", "calls", "tokens"}
    tag, again = node.ask("get_report", {ID: result[ID]})
    assert (tag, again[REPORT]) == ("ok", result[REPORT])


def test_a_program_without_a_report_has_none_to_give(node: NodeClient) -> None:
    tag, plain = node.ask("optimize_signature", optimization(5, optimizer=Atom("labeled_few_shot")))
    assert tag == "ok"
    assert REPORT not in plain
    tag, error = node.ask("get_report", {ID: plain[ID]})
    assert (tag, error[Atom("error_type")]) == ("error", Atom("not_found"))
    assert b"report: true" in error[Atom("message")]


def test_what_is_no_truth_value_is_refused_before_a_worker_has_it(node: NodeClient) -> None:
    tag, error = node.ask("optimize_signature", optimization(5, report=b"yes"))
    assert tag == "error"
    assert error[Atom("context")][Atom("path")] == b"payload.config.report"


def test_a_report_is_deleted_with_its_program(node: NodeClient, data: Path) -> None:
    tag, found = node.ask("optimize_signature", optimization(4, optimizer=Atom("labeled_few_shot"), report=True))
    assert tag == "ok"
    kept = data / "reports" / f"{found[ID].decode().removeprefix('program:')}.etf"
    assert kept.is_file()
    assert node.ask("delete_program", {ID: found[ID]})[0] == "ok"
    assert not kept.exists()


# -- from the shell


def test_the_shell_writes_the_page_the_charts_and_pictures_of_a_stored_program(
    result: dict[Any, Any], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["report", result[ID].decode(), "--data", str(data)]
    assert main([*asked, "-o", str(tmp_path / "r.html")]) == 0
    assert (tmp_path / "r.html").read_bytes() == result[REPORT][HTML]
    assert main([*asked, "--format", "json", "--chart", "score", "-o", str(tmp_path / "s")]) == 0
    assert json.loads((tmp_path / "s").read_text())["title"]["text"] == "Score by trial"
    assert main([*asked, "-o", str(tmp_path / "score.svg")]) == 0
    assert (tmp_path / "score.svg").read_text().startswith("<svg")
    assert main([*asked, "--chart", "calls", "-o", str(tmp_path / "calls.png")]) == 0
    assert (tmp_path / "calls.png").read_bytes().startswith(b"\x89PNG")
    assert main([*asked, "--format", "json", "--chart", "call"]) == 1
    assert "did you mean `calls`?" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_the_shell_reads_a_result_that_elixir_or_json_has_written(
    result: dict[Any, Any], tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    (tmp_path / "result.etf").write_bytes(term_to_binary(result))
    assert main(["report", str(tmp_path / "result.etf")]) == 0
    assert capsysbinary.readouterr().out == result[REPORT][HTML]
    (tmp_path / "result.json").write_text(json.dumps({"report": {"html": "<p>", "charts": {"score": {"a": [1]}}}}))
    assert main(["report", str(tmp_path / "result.json"), "--format", "json"]) == 0
    assert json.loads(capsysbinary.readouterr().out) == {"score": {"a": [1]}}


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        (b"{", (), "neither"),
        (b"[" * 100_000, (), "neither"),
        (b"\x83", (), "offset 1"),
        (b"{}", (), "report: true"),
        (b'{"html": 1, "charts": {}}', (), ".html"),
        (b'{"html": "", "charts": {"score": {"data": {"url": "x"}}}}', ("--format", "svg"), "not a `url`"),
        (b'{"html": "", "charts": {"score": {"mark": 7}}}', ("--format", "svg"), "does not draw"),
    ],
)
def test_a_file_without_a_report_is_refused_in_one_line(
    content: bytes, arguments: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(content)
    assert main(["report", str(tmp_path / "file"), *arguments]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_paper_has_what_a_screen_shows_when_it_is_unfolded(tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    assert browser, "no Chromium is installed: on Debian, apt-get install chromium"
    sizes = []
    for name, opened in (("closed", ""), ("open", " open")):
        (tmp_path / f"{name}.html").write_text(page(record()).replace("<details>", f"<details{opened}>"))
        options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
        where = (f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={tmp_path / name}.pdf")
        subprocess.run(
            [browser, *options, *where, f"file://{tmp_path / name}.html"], capture_output=True, timeout=60, check=True
        )
        sizes.append((tmp_path / f"{name}.pdf").stat().st_size)
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)


def test_a_browser_shows_a_page_of_hostile_texts_and_runs_none_of_them(tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    assert browser, "no Chromium is installed: on Debian, apt-get install chromium"
    (tmp_path / "page.html").write_text(page(hostile()))
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr")
    where = (f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"file://{tmp_path / 'page.html'}")
    ran = subprocess.run([browser, *options, *where], capture_output=True, text=True, timeout=60, check=True)
    assert "CONSOLE" not in ran.stderr
    assert ran.stdout.count("<script") == ran.stdout.count('<script type="application/json"') == 5
    assert "<img" not in ran.stdout
    assert "<h1" in ran.stdout
