"""The REPL as somebody at a terminal has it: prompt, history, completion, single keys, editor, colours."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from captured import Capture, a, conversation
from repl_terminal import PROMPT, Terminal

Open = Callable[..., Terminal]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Open]:
    """Opens terminals with a REPL on the conversation; each is closed after the test."""
    opened: list[Terminal] = []

    def start(*arguments: str, **options: str | bool) -> Terminal:
        capture = conversation().write(tmp_path / "node.ecap")
        opened.append(Terminal(tmp_path, *(arguments or (str(capture),)), **options))  # type: ignore[arg-type]
        opened[-1].until(PROMPT)
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def test_a_session_has_a_table_completion_history_and_an_end(terminal: Open, tmp_path: Path) -> None:
    at = terminal()
    table = at.ask("frames", "health_check")
    assert "error predict" in table
    assert "\x1b[" in at.raw.decode()
    at.press("timel\t")
    at.until("ine")
    at.press(" 7\r")
    assert "800.0 ms there" in at.until("there") + at.until(PROMPT)
    at.press("\x1b[A")  # the line before, by the arrow
    at.until("timeline 7")
    at.press("\x03")
    at.until(PROMPT)
    at.enter(" stats secret")  # a blank before it: not kept
    at.until(PROMPT)
    at.press("\x04")
    assert at.end() == 0
    history = tmp_path / "state" / "erlbridge" / "repl_history"
    assert "timeline 7" in history.read_text()
    assert "secret" not in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


def test_frames_are_stepped_through_by_single_keys(terminal: Open) -> None:
    at = terminal()
    at.enter("step verb=predict")
    at.until("1 of 8")
    at.press(" ")
    assert "worker 1: node → worker" in at.until("2 of 8")
    at.press("\x1b[B")
    at.until("3 of 8")
    at.press("h")
    assert "offset" in at.until("3 of 8")
    at.press("t")
    assert "+500.0 ms" in at.until("3 of 8")
    at.press("G")
    at.until("8 of 8")
    at.press("k")
    at.until("7 of 8")
    at.press("q")
    at.until(PROMPT)
    assert "notation elixir" in at.ask("set", "notation")  # and lines are read as before


def test_a_frame_is_edited_in_the_editor_and_again_where_it_was_no_term(terminal: Open, tmp_path: Path) -> None:
    script = tmp_path / "editor"
    script.write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/offered\ncp {tmp_path}/wanted "$1"\n')
    script.chmod(0o755)
    at = terminal(EDITOR=str(script))
    (tmp_path / "wanted").write_text("{:predict, 7,\n  %{input: }}\n")
    assert "line 2" in at.ask("edit 2", "line 2")
    assert (tmp_path / "offered").read_text().startswith("{:predict, 7, %{program:")
    (tmp_path / "wanted").write_text("{:predict, 7, %{}}\n")
    at.ask("edit", "`send` sends them")
    assert "%{input: }" in (tmp_path / "offered").read_text()  # what was typed is not lost
    assert "expected hexadecimal" in at.ask("edit 10", "expected hexadecimal")
    assert (tmp_path / "offered").read_text().startswith("; no term: ")


def test_a_live_file_is_followed_until_ctrl_c(terminal: Open, tmp_path: Path) -> None:
    at = terminal()
    at.enter("follow")
    at.until("following")
    live = tmp_path / "node.ecap"
    more = Capture()
    more.host((a("stats"), 10, {}))
    with live.open("ab") as file:
        file.write(more.data[16:])
    assert "13" in at.until("stats")
    at.press("\x03")
    at.until(PROMPT)
    assert "notation" in at.ask("set", "limit")


def test_colours_fit_a_light_and_a_dark_background(terminal: Open) -> None:
    light, dark = (terminal(light=is_light) for is_light in (True, False))
    for at in (light, dark):
        at.ask("frames", "health_check")
    assert b"\x1b[34m" in light.raw  # blue
    assert b"\x1b[96m" in dark.raw  # bright cyan
    assert b"\x1b[96m" not in light.raw


def test_what_a_frame_holds_gives_the_terminal_no_orders(terminal: Open, tmp_path: Path) -> None:
    hostile = Capture().host((a("predict"), b"\x1b]0;owned\x07", {b"\x1b[2J": "\u202egnp".encode()}))
    at = terminal(str(hostile.write(tmp_path / "hostile.ecap")))
    for line in ("frames", "show 1", "show 1 python", "show 1 json", "timeline #1"):
        at.ask(line, "owned" if line != "frames" else "predict")
    assert b"\x1b]0;owned" not in at.raw
    assert b"\x1b[2J" not in at.raw
    assert "\u202e" not in at.raw.decode(errors="ignore")
