"""Jobs as somebody at a shell has them: files in, a program's name out, and exit codes that scripts go by."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from node_client import await_gone, descendants

from erlbridge.codec import Atom, binary_to_term
from erlbridge.tools.cli import main
from erlbridge.tools.client import Client, Listener

SHIPPED = Path(__file__).resolve().parents[2] / "erlbridge" / "data" / "support_tickets.tsv"
TICKETS = SHIPPED.read_text().splitlines()
SIGNATURE = {
    "instructions": "Route the ticket.",
    "input_fields": ["subject", "body"],
    "output_fields": [{"name": "category", "enum": ["account", "billing", "shipping", "technical"]}],
}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A directory with a signature and some tickets."""
    (tmp_path / "triage.json").write_text(json.dumps(SIGNATURE))
    (tmp_path / "tickets.tsv").write_text("\n".join(TICKETS[:31]) + "\n")
    return tmp_path


@pytest.fixture(scope="module")
def lent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Client]]:
    """One node for all commands of the module that run in this process, and its data directory. That each starts its
    own is seen where they run in processes of theirs."""
    data = tmp_path_factory.mktemp("data")
    with Client.start("--data", str(data), "--workers", "1", "--spare-workers", "0") as client:
        yield data, client


@pytest.fixture
def run(
    desk: Path, lent: tuple[Path, Client], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Runs a command on the node of the module; gives its exit code and what it printed."""
    data, client = lent

    def start(*_: str, on_event: Listener) -> contextlib.nullcontext[Client]:
        client.on_event = on_event
        return contextlib.nullcontext(client)

    monkeypatch.setattr(Client, "start", start)
    monkeypatch.chdir(desk)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--data", str(data)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


OPTIMIZE = ["optimize", "--signature", "triage.json", "--train", "tickets.tsv", "--lm", "offline"]


def test_a_program_goes_from_examples_to_answers_and_through_files(run: Run, desk: Path) -> None:
    code, out, err = run(*OPTIMIZE, "--holdout", "0.3", "--optimizer", "labeled_few_shot", "-o", "triage.etf")
    assert code == 0
    program_id = out.removesuffix("\n")
    assert "score 0." in err
    assert " before, " in err

    code, out, _ = run("programs", "list", "--json")
    entry = json.loads(out.splitlines()[0])
    assert (code, entry["program_id"], entry["optimizer"]) == (0, program_id, "labeled_few_shot")

    code, out, _ = run("programs", "show", program_id[8:14])
    assert (code, out.splitlines()[0]) == (0, program_id)
    assert "Route the ticket." in out

    assert run("programs", "get", program_id, "-o", "copy.json")[0] == 0
    assert json.loads((desk / "copy.json").read_text())["optimizer"] == "labeled_few_shot"
    assert binary_to_term((desk / "triage.etf").read_bytes())[Atom("optimizer")] == b"labeled_few_shot"

    assert run("programs", "delete", program_id[:20])[:2] == (0, f"deleted {program_id}\n")
    code, _, err = run("programs", "get", program_id)
    assert (code, "programs list" in err) == (1, True)
    assert run("programs", "put", "triage.etf")[:2] == (0, program_id + "\n")

    code, out, _ = run(
        "evaluate", "--program", program_id, "--examples", "tickets.tsv", "--lm", "offline", "-o", "rows.jsonl"
    )
    assert code == 0
    assert out.startswith(("score 0.", "score 1."))
    assert len((desk / "rows.jsonl").read_text().splitlines()) == 30

    asks = ["predict", "--program", "copy.json", "--lm", "offline"]
    code, out, _ = run(*asks, "--input", "subject=Refund", "--input", 'body:="Charged twice"', "--json")
    assert json.loads(out)["prediction"]["category"] in SIGNATURE["output_fields"][0]["enum"]  # type: ignore[index]
    code, out, _ = run(*asks, "--inputs", "tickets.tsv")
    assert (code, len(out.splitlines())) == (0, 30)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (OPTIMIZE[:-2], "--lm: expected a model"),
        ([*OPTIMIZE, "--node", "wrokers=2"], "did you mean `workers`?"),
        ([*OPTIMIZE, "--set", "option.num_trials=3"], "unknown key `option`"),
        ([*OPTIMIZE, "--set", "seed"], "expected KEY=VALUE"),
        ([*OPTIMIZE, "-o", "program.txt"], ".etf or .json"),
        ([*OPTIMIZE, "-o", "nowhere/program.etf"], "no such directory"),
        ([*OPTIMIZE[:3], "--train", "nowhere.csv", "--lm", "offline"], "No such file"),
        (["predict", "--program", "mine.txt", "--input", "a=b", "--lm", "offline"], "expected the id of a stored"),
        (["predict", "--signature", "a -> b", "--input", "a", "--lm", "offline"], "NAME:=JSON"),
        (["run", "triage.json", "--check"], "steps"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(run: Run, arguments: list[str], text: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert text in err


def test_a_text_is_printed_as_it_is_streamed_and_only_once(run: Run) -> None:
    asked = [
        "predict",
        "--signature",
        "text -> summary, short: boolean",
        "--input",
        "text=It rains.",
        "--lm",
        "offline",
    ]
    code, whole, _ = run(*asked)
    assert code == 0
    code, streamed, _ = run(*asked, "--stream", "--set", "cache=false")
    assert (code, streamed) == (0, whole)
    assert [line.partition(":")[0] for line in whole.splitlines()] == ["summary", "short"]


def test_what_a_program_holds_does_nothing_to_a_terminal(run: Run, desk: Path) -> None:
    hostile = "Clear\x1b[2J\x9b1m it\u202e."
    (desk / "hostile.json").write_text(json.dumps(SIGNATURE | {"instructions": hostile}))
    code, out, _ = run("optimize", "--signature", "hostile.json", *OPTIMIZE[3:], "--optimizer", "labeled_few_shot")
    assert code == 0
    code, out, _ = run("programs", "show", out.strip())
    assert "Clear\\x1b[2J\\x9b1m it\\u202e." in out
    assert set(out) & set("\x1b\x9b\u202e") == set()


def test_whatever_the_wire_knows_can_be_asked(run: Run, desk: Path) -> None:
    job = {"signature": SIGNATURE, "config": {"lm": "offline"}}
    (desk / "job.json").write_text(json.dumps(job))
    code, out, _ = run("ask", "predict", "--payload", "job.json", "--entry", 'input:={"subject": "a", "body": "b"}')
    assert (code, list(json.loads(out)["prediction"])) == (0, ["category"])
    code, out, _ = run("ask", "train_model", "--payload", "job.json", "--entry", f"training_data=sha256:{64 * '0'}")
    assert (code, json.loads(out)["error"]["error_type"]) == (1, "not_found")
    code, out, _ = run("ask", "fly")
    assert (code, json.loads(out)["error"]["error_type"]) == (2, "unknown_verb")


def test_errors_are_json_where_that_is_asked_for(run: Run) -> None:
    code, out, err = run("predict", "--signature", "a -> b", "--input", "c=1", "--lm", "offline", "--json")
    assert (code, err) == (2, "")
    assert json.loads(out)["error"]["error_type"] == "validation_error"


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "--signature", "a -> b", "--examples", "nowhere.csv", "--lm", "offline"],
        ["predict", "--signature", "a -> b", "--input", "a=@nowhere.txt", "--lm", "offline"],
        ["predict", "--program", "noise.etf", "--input", "a=b", "--lm", "offline"],
        ["predict", "--signature", "a -> b", "--input", "a=b", "--lm", "offline", "--node", "workers=many"],
        ["programs", "list", "--config", "nowhere.toml"],
        ["store", "show", "--config", "nowhere.toml"],
        ["programs", "put", "nowhere.etf"],
        ["programs", "put", "noise.etf"],
    ],
)
def test_files_and_settings_that_cannot_be_used_are_errors_of_json_too(
    run: Run, desk: Path, arguments: list[str]
) -> None:
    (desk / "noise.etf").write_bytes(b"\x83\xff\x00")
    code, out, err = run(*arguments, "--json")
    assert (code, err) == (2, "")
    error = json.loads(out)["error"]
    assert error["error_type"] == "validation_error"
    assert any(name in error["message"] for name in ("nowhere", "noise.etf", "--workers"))


def test_answers_to_rows_go_to_their_file_with_json_too(run: Run, desk: Path) -> None:
    asks = ["predict", "--signature", "triage.json", "--lm", "offline", "--json", "-o", "answers.jsonl"]
    code, out, _ = run(*asks, "--inputs", "tickets.tsv")
    assert (code, json.loads(out)["status"]) == (0, "success")
    assert len((desk / "answers.jsonl").read_text().splitlines()) == 30
    assert run(*asks, "--input", "subject=a", "--input", "body=b")[0] == 2


def test_any_text_is_printed_where_standard_output_is_ascii(desk: Path) -> None:
    (desk / "\u5bbd\U0001f600.json").write_text("{")
    command = [sys.executable, "-m", "erlbridge", "programs", "put", "\u5bbd\U0001f600.json", "--json"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "ERLBRIDGE_DATA": str(desk / "data")}
    ran = subprocess.run(command, capture_output=True, timeout=60, check=False, env=environment, cwd=desk)
    assert (ran.returncode, ran.stderr) == (2, b"")
    assert json.loads(ran.stdout.decode("ascii"))["error"]["context"]["path"] == "\u5bbd\U0001f600.json"


def test_a_disk_that_is_full_is_said_in_one_line(desk: Path) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "erlbridge", "encode", "{:ok, 1}"]
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (ran.returncode, len(ran.stderr.splitlines())) == (1, 1)


@pytest.mark.parametrize("closed", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_fault(desk: Path, closed: str) -> None:
    command = f"'{sys.executable}' -m erlbridge programs list --data '{desk}/data' {closed}; echo $? >'{desk}/code'"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert ((desk / "code").read_text(), ran.stdout, ran.stderr) == ("0\n", "", "")


def test_ctrl_c_while_a_command_is_loaded_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("erlbridge.tools.cli.import_module", interrupted)
    assert main(["demo"]) == 130


def test_a_budget_that_is_spent_leaves_the_best_program(run: Run) -> None:
    code, out, _ = run(*OPTIMIZE, "--optimizer", "random_search", "--set", "budget.max_lm_calls=100", "--json")
    found = json.loads(out)
    assert (code, found["status"]) == (3, "budget_exceeded")
    assert run("programs", "show", found["program_id"])[0] == 0


def test_a_workflow_is_checked_and_run_and_reads_no_file_outside_of_its_directory(run: Run, desk: Path) -> None:
    step = "    - {name: sort, type: claude, dspy_signature: 'subject, body -> category', prompt: [%s]}\n"
    text = "workflow:\n  name: triage\n  steps:\n" + step
    (desk / "flow.yaml").write_text(text % "{type: static, content: Sort it}")
    inputs = ["--input", "subject=a", "--input", "body=b", "--lm", "offline"]
    code, out, _ = run("run", "flow.yaml", *inputs)
    assert (code, list(json.loads(out))) == (0, ["sort"])
    (desk / "flow.yaml").write_text(text % "{type: file, path: ../../../../etc/passwd}")
    code, out, err = run("run", "flow.yaml", *inputs)
    assert (code, out) == (2, "")
    assert "outside of the workflow's own directory" in err


def started(desk: Path, *arguments: str, stderr: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "erlbridge", *OPTIMIZE, "--data", str(desk / "data"), *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, cwd=desk, bufsize=0, env=environment)


def until(descriptor: int, wanted: bytes) -> bytes:
    """What a terminal shows, until that is in it."""
    shown, ends = b"", time.monotonic() + 60
    while wanted not in shown:
        assert time.monotonic() < ends, shown
        if select.select([descriptor], [], [], 1)[0]:
            shown += os.read(descriptor, 4096)
    return shown


def test_a_terminal_shows_the_best_score_and_ctrl_c_keeps_it(desk: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    # Calls that are slow enough for somebody to see the search, which has a score by then.
    slow = ["--set", "lm.latency_ms=40", "--optimizer", "random_search", "--set", "num_threads=8"]
    process = started(desk, *slow, stderr=theirs)
    os.close(theirs)
    shown = until(ours, b"best 0.")
    assert b"searching" in shown or b"bootstrapping" in shown
    process.send_signal(signal.SIGINT)
    until(ours, b"the best program until then is stored")
    assert process.wait(60) == 130
    assert process.stdout is not None
    assert process.stdout.read().startswith(b"program:")
    process.stdout.close()
    os.close(ours)


def test_ctrl_c_twice_leaves_at_once_and_nothing_is_left_behind(desk: Path) -> None:
    reads, writes = os.pipe()
    process = started(desk, "--set", "lm.latency_ms=60000", "-v", stderr=writes)
    os.close(writes)
    until(reads, b"stage: baseline")
    tree = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    until(reads, b"cancelling")
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    await_gone(tree)
    assert process.stdout is not None
    assert process.stdout.read() == b""
    process.stdout.close()
    os.close(reads)


def test_ctrl_c_twice_leaves_at_once_when_the_node_is_stopped_too(desk: Path) -> None:
    reads, writes = os.pipe()
    process = started(desk, "--set", "lm.latency_ms=60000", "-v", stderr=writes)
    os.close(writes)
    until(reads, b"stage: baseline")
    tree = descendants(process.pid)
    guardian = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
    for descendant in tree - {guardian}:  # which goes on, as it does where a debugger holds the node
        os.kill(descendant, signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    until(reads, b"cancelling")
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 130
    await_gone(tree)
    assert process.stdout is not None
    process.stdout.close()
    os.close(reads)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_request_that_no_node_reads_is_left_by_a_signal(number: int, code: int) -> None:
    program = """
import os
from erlbridge.codec import term_to_binary, Atom
from erlbridge.tools.client import Client
from erlbridge.tools.importing.run import ended_by_signals
from erlbridge.tools.jobs.running import Session
from erlbridge.tools.jobs.watching import Watching
incoming, said = os.pipe()
unread, outgoing = os.pipe()
ready = term_to_binary((Atom("ready"), {}))
os.write(said, len(ready).to_bytes(4) + ready)
session = Session(Client(incoming, outgoing), Watching(verbose=False))
print("sending", flush=True)
with ended_by_signals():
    try:
        session.ask("predict", {"input": bytes(1 << 20)})
    except KeyboardInterrupt:
        raise SystemExit(130)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"sending\n"
        time.sleep(0.2)  # whether it is sending by then or about to, it ends
        process.send_signal(number)
        try:
            assert process.wait(5) == code
        finally:
            process.kill()


def test_sigterm_between_two_requests_leaves_no_directory_behind(tmp_path: Path) -> None:
    program = """
import os, signal
from erlbridge.tools.cli import main
from erlbridge.tools.jobs import demo
def ended(*_):
    os.kill(os.getpid(), signal.SIGTERM)
demo._tickets = ended
main(["demo"])
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", program], timeout=60, check=False, env=environment)
    assert ran.returncode == 143
    assert list(tmp_path.iterdir()) == []


def test_the_demo_raises_the_score(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "erlbridge", "demo", "labeled_few_shot", "--json"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=environment)
    assert (ran.returncode, ran.stderr) == (0, "")
    (row,) = json.loads(ran.stdout)
    assert row["score_after"] > row["score_before"]
    assert list(tmp_path.iterdir()) == []
