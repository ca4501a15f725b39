"""What the REPL says about a capture, line by line: `erlbridge repl CAPTURE` with its commands on standard input."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from captured import BEGIN_NS, Capture, a, conversation

from erlbridge.codec import binary_to_term, term_to_binary
from erlbridge.tools.cli import main
from erlbridge.tools.repl.compare import differences
from erlbridge.tools.repl.context import Context
from erlbridge.tools.repl.filters import parse_filter
from erlbridge.tools.repl.layout import laid_out
from erlbridge.tools.repl.live import Live
from erlbridge.tools.repl.looking import clock
from erlbridge.tools.repl.session import COMMANDS, Session
from erlbridge.tools.repl.source import Recording
from erlbridge.tools.repl.tape import Tape

Ask = Callable[..., str]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Asks a REPL on a capture, the conversation when none is given; `code` is the exit code that is expected."""

    def carry_out(*lines: str, capture: Capture | None = None, code: int = 0, arguments: tuple[str, ...] = ()) -> str:
        path = (capture or conversation()).write(tmp_path / "node.ecap")
        monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
        assert main(["repl", str(path), *arguments]) == code, capsys.readouterr()
        return capsys.readouterr().out

    return carry_out


def tape_of(capture: Capture, path: Path) -> Tape:
    tape = Tape()
    recording = Recording(capture.write(path), tape)
    recording.read()
    recording.close()
    return tape


def numbers(table: str) -> list[int]:
    return [int(first) for line in table.splitlines() if (first := (line.split() or [""])[0]).isdecimal()]


def test_every_frame_has_its_line_with_the_verb_and_id_that_it_belongs_to(ask: Ask) -> None:
    lines = ask("frames").splitlines()
    assert lines[0].split() == ["n", "time", "wire", "dir", "size", "says", "id", "about"]
    assert "→    75 B  predict           7" in lines[2]
    assert "worker 1  ←    57 B  progress predict             predicting 1 of ?" in lines[4]
    assert "ok predict        7          after 803.0 ms: %{status: :success" in lines[7]
    assert "{:job, 8}  after 50.0 ms: lm_error: 429 from the endpoint" in lines[9]


@pytest.mark.parametrize(
    ("filter_text", "expected"),
    [
        ("verb=predict kind=request wire=host", [2, 8]),
        ("error", [9, 10, 11]),
        ("error=lm_error", [9]),
        ("id=7", [2, 5, 7]),
        ("id='{:job, 8}'", [8, 9]),
        ("size>80 dir=in", [3, 8]),
        ("size<=0.024kB", [10, 12]),
        ("took>100ms", [6, 7]),
        ("wire=worker head!=predict", [4, 6]),
        ("n>=11", [11, 12]),
        ("429", [9]),
        ("about~nothing", None),
        (f"after={clock(BEGIN_NS + 800_000_000)} before={clock(BEGIN_NS + 813_000_000)}", [6]),
        ("last=2", [11, 12]),
        ("verb=predict last=1", [9]),
        ("kind=broken", [10]),
    ],
)
def test_frames_are_chosen_by_what_is_known_of_them(ask: Ask, filter_text: str, expected: list[int] | None) -> None:
    shown = ask(f"frames {filter_text}", code=0 if expected is not None else 1)
    if expected is None:
        assert "unknown key `about`; known are" in shown
    else:
        assert numbers(shown.rpartition("\n0 of")[0] or shown.rsplit("\n", 2)[0]) == expected


@pytest.mark.parametrize(
    ("filter_text", "problem"),
    [
        ("eror=1", "unknown key `eror` (did you mean `error`?)"),
        ("size>big", "expected a size such as 512, 64kB or 1MB, got `big`"),
        ("size~1", "`size` is a number"),
        ("verb>1", "`verb` is compared by =, != or ~"),
        ("kind=reply", "unknown kind `reply`; known are request"),
        ("after=noon", "expected a time such as 12:03"),
        ("took>1y", "expected a time such as 200ms"),
        ("last=many", "expected a count"),
        ("id='{1", "put a quote around"),
    ],
)
def test_a_filter_that_is_none_says_what_was_expected(ask: Ask, filter_text: str, problem: str) -> None:
    assert problem in ask(f"frames {filter_text}", code=1)


def test_a_date_is_compared_as_it_stands(tmp_path: Path) -> None:
    frames = tape_of(conversation(), tmp_path / "a").frames
    assert parse_filter("after=2026-01-01 before=2027-01-01T00:00", frames).of(frames) == frames
    assert parse_filter("after=2027-01-01", frames).of(frames) == []


def test_a_term_is_shown_in_four_notations(ask: Ask) -> None:
    assert '{:predict, 7, %{program: "program:12", input: %{question: "1 + 1"}}}' in ask("show 2")
    assert '{predict,7,#{program => <<"program:12">>' in ask("show 2 erlang")
    assert "Atom('predict')" in ask("show 2 python")
    shown = ask("show 2 json")
    assert json.loads(shown.partition("\n")[2])[2]["program"] == "program:12"
    assert "expected elixir, erlang, python, json or all, got `yaml`" in ask("show 2 yaml", code=1)


def test_a_long_term_is_broken_into_lines_and_cut_at_the_limit(ask: Ask) -> None:
    capture = Capture().host((a("predict"), 1, {a("inputs"): [{a("text"): b"x" * 40} for _ in range(500)]}))
    shown = ask("show 1", capture=capture)
    assert '%{text: "' in shown
    assert "more" in shown
    assert len(shown) < 8000
    assert ask("show 1 all", capture=capture).count("text:") == 500
    big = Capture().host((a("predict"), 1 << 4_000_000, b"x"))
    assert len(ask("show 1", "frames", "timeline #1", capture=big)) < 20_000


def test_hostile_terms_are_looked_at_without_harm(ask: Ask) -> None:
    deep: object = None
    for _ in range(9000):
        deep = (deep,)
    capture = Capture()
    for term in (
        deep,
        (a("predict"), deep, {}),
        (a("predict"), 1, deep),
        {a("message_id"): deep},
        [],
        a("x"),
        b"",
        1.5,
    ):
        capture.host(term).node(term).to_worker(1, term).worker(1, term)
    capture.node((a("progress"), 1, {a("stage"): deep})).node((a("error"), 1, deep)).node((a("log"), 1, 2, 3))
    capture.node((a("ok"), 1, 1 << 100_000)).worker(1, (a("run"), a("predict"), {}, deep)).frame("in", b"")
    views = (f"show {number} {how}" for number in (1, 9, 34, 36) for how in ("elixir", "erlang", "python", "json"))
    shown = ask("frames", "stats", *views, "hex 1", "hex -1", "timeline #9", "diff 1 9", capture=capture)
    assert len(shown) < 300_000


def test_what_is_laid_out_is_the_notation_itself_apart_from_its_lines() -> None:
    term = {a("a"): [(a("b"), 1), (a("c"), {b"d": [1.5, None, b"\xff"]})], a("E"): {1: 2}, a("f g"): []}
    for notation in ("elixir", "erlang"):
        one_line = laid_out(term, notation, width=1000)
        for width in (1, 8, 20, 40):
            broken = laid_out(term, notation, width=width)
            assert "".join(broken.split()) == "".join(one_line.split())


def test_broken_bytes_are_shown_with_the_place_and_what_was_expected(ask: Ask) -> None:
    shown = ask("show 10", "hex 10", "decode 83 64 00 02")
    assert "no term: input ends inside a term at offset 5" in shown
    assert "expected a value: a tag, got the end of the input" in shown
    assert "ATOM_EXT" in shown


def test_every_byte_of_a_frame_is_annotated(ask: Ask) -> None:
    shown = ask("hex 2")
    assert "VERSION_MAGIC" in shown
    assert "key: :program" in shown
    rows = [line.split("  ")[1] for line in shown.splitlines()[2:]]
    assert sum(len(bytes.fromhex(row)) for row in rows) == 75


def test_a_timeline_has_the_worker_and_the_gaps(ask: Ask) -> None:
    shown = ask("timeline 7")
    assert "answered after 803.0 ms: 2.0 ms until worker 1 had it, 800.0 ms there, 1.0 ms from there" in shown
    assert "+502.0 ms  500.0 ms" in shown
    assert "not answered in this capture" in ask("timeline #12")
    assert "no request has the id nothing" in ask("timeline nothing", code=1)
    assert "frame 1 belongs to no request" in ask("timeline #1", code=1)


@pytest.mark.parametrize("later_ms", [-1e9, -9e12])
def test_a_timeline_is_drawn_of_a_clock_that_goes_back(ask: Ask, later_ms: float) -> None:
    capture = Capture().host((a("ping"), 1, {})).later(later_ms).node((a("ok"), 1, {}))
    assert "●" in ask("timeline #1", capture=capture)


def test_an_editor_that_would_wait_for_keys_in_a_pipe_is_not_started(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.delenv("EDITOR", raising=False)
    assert "an editor needs a terminal" in ask("edit 1", capture=Capture().host((a("ping"), 1, {})), code=1)


def test_what_an_editor_leaves_that_is_no_text_is_told(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUAL", r"""sh -c 'printf "\377" > "$0"'""")
    assert "no UTF-8" in ask("edit 1", capture=Capture().host((a("ping"), 1, {})), code=1)


def test_many_events_are_one_line_of_a_timeline(ask: Ask) -> None:
    capture = Capture().host((a("predict"), 1, {}))
    for done in range(50):
        capture.later(10).node((a("progress"), 1, {a("stage"): a("predicting"), a("done"): done, a("total"): 50}))
    shown = ask("timeline 1", capture=capture.node((a("ok"), 1, {})))
    assert "#2-51" in shown
    assert "progress predict x50" in shown


def test_two_frames_differ_by_path_or_as_text(ask: Ask) -> None:
    shown = ask("diff 7 9")
    assert ["[2].answer", '"2"', "(not", "there)"] in [line.split() for line in shown.splitlines()]
    assert "-{:predict, 7," in ask("diff 2 8 text")
    assert ask("diff 2 2").strip() == "the same"
    assert differences({a("x"): 1}, {a("x"): 1.0})[0].path == "x"
    assert [each.path for each in differences({a("x"): 1}, {b"x": 1})] == ["x", '"x"']
    deep: object = 1
    for _ in range(3000):
        deep = [deep]
    assert len(differences([deep], [[deep]])) == 1


def test_stats_count_answers_errors_and_times(ask: Ask) -> None:
    shown = ask("stats")
    assert "12 frames, 715 B, 1.9 s" in shown
    (line,) = [line for line in shown.splitlines() if line.startswith("host     predict ")]
    assert line.split()[2:5] == ["1", "1", "0"]
    assert "lm_error x1" in line


def test_a_term_that_is_typed_is_encoded_at_once_in_either_notation(ask: Ask) -> None:
    for typed in ("{:ok, %{a: 1}}", "{ok, #{a => 1}}.", "encode {:ok, %{a: 1}}"):
        shown = ask(typed).splitlines()
        assert shown[:2] == ["{:ok, %{a: 1}}", "{ok,#{a => 1}}"]
        assert binary_to_term(bytes.fromhex(shown[2].split()[0])) == (a("ok"), {a("a"): 1})
    wrong = ask("encode {:ok, [}", code=1).splitlines()
    assert "column 8: expected a term" in wrong[0]
    assert wrong[2].index("^") == wrong[1].index("}")


def test_what_is_no_command_is_told_with_the_nearest_one(ask: Ask) -> None:
    assert "fraems: unknown (did you mean `frames`?)" in ask("fraems", code=1)
    assert "no frame 99; there are 12" in ask("show 99", code=1)
    assert "single keys need a terminal" in ask("step", code=1)
    assert "single keys" not in ask("# a comment", "", "quit", "step")


def test_for_programs_every_row_is_a_line_of_json(ask: Ask) -> None:
    rows = [json.loads(line) for line in ask("frames error", arguments=("--json",)).splitlines()]
    assert [row["n"] for row in rows[:-1]] == ["9", "10", "11"]
    assert rows[0]["says"] == "error predict"


def test_a_capture_cut_at_any_byte_opens_with_the_frames_before_it(tmp_path: Path) -> None:
    whole = conversation()
    path = tmp_path / "cut"
    for length in range(16, len(whole.data), 41):
        path.write_bytes(whole.data[:length])
        tape = Tape()
        recording = Recording(path, tape)
        recording.read()
        count = len(tape.frames)
        path.write_bytes(whole.data)  # the rest comes: nothing is lost or seen twice
        recording.read()
        recording.close()
        assert count <= len(tape.frames) == whole.count


def test_damage_and_loss_are_told_where_they_are(ask: Ask) -> None:
    capture = conversation().lost(4).host((a("stats"), 10, {}))
    capture.data[200] ^= 0xFF
    shown = ask("frames", "stats", capture=capture)
    assert "-- 4 frames, 40 bytes, were lost" in shown
    assert "are damaged" in shown


def test_a_capture_that_is_rotated_is_read_and_followed_as_one(tmp_path: Path) -> None:
    def part(number: int) -> Capture:
        return Capture().host((a("stats"), number, {}))

    part(1).write(tmp_path / "node.0000001.ecap")
    tape = Tape()
    recording = Recording(part(2).write(tmp_path / "node.ecap"), tape)
    recording.read()
    for number in (3, 4):
        (tmp_path / "node.ecap").rename(tmp_path / f"node.{number - 1:07}.ecap")
        part(number).write(tmp_path / "node.ecap")
    recording.read()
    recording.close()
    assert [frame.said.id for frame in tape.frames] == ["1", "2", "3", "4"]


def test_a_dump_of_frames_opens_without_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = [term_to_binary(term) for term in ((a("health_check"), 1, {}), (a("ok"), 1, {}))]
    (tmp_path / "dump").write_bytes(b"".join(len(frame).to_bytes(4) + frame for frame in frames))
    assert main(["repl", str(tmp_path / "dump"), "-c", "frames"]) == 0
    assert "ok health_check" in capsys.readouterr().out


def test_what_is_no_capture_is_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("hello, this is no capture at all")
    assert main(["repl", str(tmp_path / "text"), "-c", "frames"]) == 1
    assert main(["repl", str(tmp_path), "-c", "frames"]) == 1
    assert main(["repl", str(tmp_path / "nothing"), "-c", "frames"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3


def test_words_are_completed_by_what_the_capture_holds(tmp_path: Path) -> None:
    tape = tape_of(conversation(), tmp_path / "a")
    session = Session(Context(tape, Live(tape), hands=None))  # type: ignore[arg-type]
    assert session.completions("ti") == ["timeline"]
    assert session.completions("frames ver") == ["verb="]
    assert session.completions("frames verb=p") == ["verb=predict"]
    assert "7" in session.completions("timeline ")
    assert session.completions("show 2 er") == ["erlang"]
    assert session.completions("help st") == ["stats", "step"]
    assert session.completions("{:ok, ") == []


def test_every_command_is_explained(ask: Ask) -> None:
    shown = ask("help", *(f"help {name}" for name in COMMANDS), "help filters")
    for name, command in COMMANDS.items():
        assert command.usage.startswith(name)
        assert shown.count(command.usage) == 2
