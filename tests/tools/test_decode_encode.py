"""`erlbridge decode` and `encode`, as somebody with a dump uses them."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.tools.cli import main

FRAMES = [term_to_binary((Atom("ok"), 1, {Atom("a"): b"x"})), term_to_binary([1, 2.5])]


def framed(frames: list[bytes]) -> bytes:
    return b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)


@pytest.mark.parametrize(
    ("form", "lines"),
    [
        ("elixir", ['{:ok, 1, %{a: "x"}}', "[1, 2.5]"]),
        ("erlang", ['{ok,1,#{a => <<"x">>}}', "[1,2.5]"]),
        ("python", ["(Atom('ok'), 1, {Atom('a'): b'x'})", "[1, 2.5]"]),
        ("json", ['["ok",1,{"a":"x"}]', "[1,2.5]"]),
    ],
)
def test_a_file_of_frames_or_terms_is_shown_one_term_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, lines: list[str]
) -> None:
    for data in (framed(FRAMES), b"".join(FRAMES)):
        (tmp_path / "dump").write_bytes(data)
        assert main(["decode", str(tmp_path / "dump"), "--format", form]) == 0
        assert capsys.readouterr().out.splitlines() == lines


def test_hexadecimal_is_taken_with_or_without_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", "--hex", "8368027702", "6f6b 6101"]) == 0
    assert capsys.readouterr().out == "{:ok, 1}\n"
    assert main(["decode", "--hex", "83zz"]) == 1
    assert "`z` is no hexadecimal digit" in capsys.readouterr().err


def test_a_broken_frame_is_told_with_its_offset_and_the_next_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dump").write_bytes(framed([FRAMES[0], FRAMES[1][:-3], FRAMES[1]]))
    assert main(["decode", str(tmp_path / "dump")]) == 1
    told = capsys.readouterr()
    assert told.out.splitlines() == ['{:ok, 1, %{a: "x"}}', "[1, 2.5]"]
    assert "input ends inside a term at offset" in told.err


def test_tags_show_every_byte_and_where_it_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", "--tags", "--hex", "836802770261"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "        0  83                         VERSION_MAGIC version 131",
        "        1  68 02                      SMALL_TUPLE_EXT tuple of 2",
        "!       3  77 02 61                     SMALL_ATOM_UTF8_EXT ends after 3 of 4 bytes",
    ]


def test_a_term_in_either_notation_becomes_bytes(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    for text in ("{:ok, %{a: 1}}", "{ok, #{a => 1}}."):
        assert main(["encode", text]) == 0
        assert binary_to_term(bytes.fromhex(capsysbinary.readouterr().out.decode())) == (Atom("ok"), {Atom("a"): 1})
    assert main(["encode", "--raw", "--frame", "[1, 2.5]"]) == 0
    assert capsysbinary.readouterr().out == framed(FRAMES[1:])
    assert main(["encode", "--notation", "erlang", '"a"', "--json"]) == 0
    assert capsysbinary.readouterr().out == b'{"hex":"836b000161","bytes":5}\n'


def test_a_mistake_is_told_by_the_notation_that_read_more_of_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["encode", "{ok, [1, }"]) == 1
    assert "line 1, column 10: expected a term, got `}`" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"%{a:\n 1")))
    assert main(["encode", "-"]) == 1
    assert "line 2, column 3: expected `,` or `}` behind a value" in capsys.readouterr().err


def test_text_on_standard_input_that_is_no_utf_8_is_told_with_its_place(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'[1, "\xff"]')))
    assert main(["encode", "-"]) == 1
    assert "line 1, column 6" in capsys.readouterr().err
