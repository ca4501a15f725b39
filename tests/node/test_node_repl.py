"""The REPL speaks with real nodes: what is typed is sent, and a captured conversation is had again and compared."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from node_client import NodeClient
from tickets import SIGNATURE, optimization, prediction

from erlbridge.codec import Atom, term_to_binary
from erlbridge.tools.cli import main
from erlbridge.tools.repl.said import decoded
from erlbridge.tools.repl.source import Recording
from erlbridge.tools.repl.tape import Tape
from erlbridge.wire.capture import FILE_HEADER, Note, Record, encoded

Repl = Callable[..., tuple[int, str]]


@pytest.fixture
def repl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Repl:
    """Carries lines out; gives the exit code and what was printed."""

    def carry_out(*lines: str, arguments: tuple[str, ...] = ()) -> tuple[int, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
        code = main(["repl", "--node", "--workers 1", *arguments])
        return code, capsys.readouterr().out

    return carry_out


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was said on all wires of a node: a program made and used, an Elixir function called, refusals."""
    directory = tmp_path_factory.mktemp("captured")
    path = directory / "node.ecap"
    node = NodeClient("--workers", "1", "--capture", str(path), data=directory / "data")
    node.ready()
    node.send((Atom("credit"), 100_000))
    tag, made = node.ask("optimize_signature", optimization(12, optimizer=Atom("labeled_few_shot"), seed=1))
    assert tag == "ok"
    stored = {key: value for key, value in prediction().items() if key != Atom("signature")}
    assert node.ask("predict", {**stored, Atom("program"): made[Atom("program_id")]})[0] == "ok"
    called = node.request("predict", prediction({Atom("lm"): (Atom("call"), Atom("my_model"))}))
    call = node.until(lambda term: str(term[0]) == "call")
    node.send((Atom("result"), call[1], (Atom("ok"), b"[[ ## category ## ]]\nbilling\n\n[[ ## completed ## ]]")))
    assert node.answer(called)[0] == "ok"
    assert node.ask("predict", {Atom("signature"): SIGNATURE})[0] == "error"
    node.send_frame(b"\x83h\x02a\x01")
    node.answer(None)
    assert node.ask("health_check", {})[0] == "ok"
    node.ask("shutdown", {Atom("mode"): Atom("now")})
    node.close()
    return path


def test_a_captured_conversation_is_answered_the_same_by_a_fresh_node(capture: Path, repl: Repl) -> None:
    code, shown = repl("timeline 1", "replay", arguments=(str(capture),))
    assert code == 0, shown
    assert "6 requests sent again, 6 answered the same" in shown
    assert "shutdown was left out: it would end the node" in shown
    assert "until worker" in shown  # the job was found on a worker's wire, which names no id
    assert "not compared: " in shown


def test_an_answer_that_was_another_is_named_with_the_place(capture: Path, repl: Repl, tmp_path: Path) -> None:
    tape = Tape()
    recording = Recording(capture, tape)
    recording.read()
    recording.close()
    changed = bytearray(FILE_HEADER)
    changed += encoded(Note(1, "opened", {}, 0, 0))
    wanted = [frame for frame in tape.frames if frame.wire == "host" and frame.verb in ("predict", "broken")][-4:]
    for frame in wanted:
        term = decoded(frame.data) if frame.said.head == "error" and frame.verb == "predict" else None
        if isinstance(term, tuple):
            failure = {**term[2], Atom("message"): b"once it was said otherwise"}
            data = term_to_binary((*term[:2], failure))
        else:
            data = frame.data
        direction = "in" if frame.inward else "out"
        changed += encoded(Record(frame.number, 0, direction, frame.monotonic_ns, frame.wall_ns, len(data), data))
    path = tmp_path / "changed.ecap"
    path.write_bytes(changed)
    code, shown = repl("replay", arguments=(str(path),))
    assert code == 1
    assert "differs: in 1 place" in shown
    assert "once it was said otherwise" in shown
    assert "2 requests sent again, 1 answered the same, 1 not" in shown


def test_what_is_typed_is_sent_to_a_node_and_its_answer_shown(repl: Repl) -> None:
    code, shown = repl(
        "send {:health_check, :mine, %{}}",
        "{:no_such_verb, 2, %{}}",
        "send",
        "send hex:83680261",
        'send {health_check, <<"erlang">>, #{}}.',
        "node",
        "frames wire=repl kind=answer",
        "timeline :mine",
        "node stop",
    )
    assert code == 0, shown
    assert "{:ok, :mine, %{" in "".join(shown.split()).replace("{:ok,:mine,%{", "{:ok, :mine, %{")
    assert "unknown_verb" in shown
    assert "serialization_error" in shown
    assert "a fresh data directory" in shown
    assert "the node exited with 0" in shown


def test_settings_that_no_node_takes_are_told(repl: Repl) -> None:
    code, shown = repl("node start --workers many", "send {:health_check, 1, %{}}", "node start --workers 1")
    assert code == 1
    assert "the node ended with exit code 2: wrong settings" in shown
