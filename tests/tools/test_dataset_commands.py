"""`erlbridge dataset …` as somebody at a terminal has it: files in, datasets that a node finds, files out."""

from __future__ import annotations

import datetime
import decimal
import gzip
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from node_client import NodeClient
from streams import name_of
from tickets import TICKETS, optimization

from erlbridge.codec import Atom, term_to_binary
from erlbridge.store.dataset_writer import DatasetWriter
from erlbridge.store.store import open_store
from erlbridge.tools.cli import main
from erlbridge.tools.importing.sources import zstd_module

ROWS = [
    {"question": "1 + 1", "answer": 2, "sure": True, "tags": ["sum", "Ümläut"], "more": {"z": 1.5, "a": None}},
    {"question": "2 + 2", "answer": 4, "sure": False, "tags": ["sum"], "more": {"z": -0.25, "a": None}},
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def name(examples: list[dict[str, object]]) -> str:
    """The name that such maps of binaries have when Elixir sends them, its terms written deterministically."""
    terms = [term_to_binary(example, deterministic=True) for example in examples]
    return name_of(b"".join(len(term).to_bytes(4) + term for term in terms))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def dataset(data: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs `erlbridge dataset` with the data directory; gives its exit code and what it printed."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        code = main(["dataset", *map(str, arguments), "--data", str(data)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


Run = Callable[..., tuple[int, str, str]]


def files(data: Path) -> list[str]:
    """Every file and directory of the datasets, without what lies in one that is whole."""
    return sorted(os.listdir(data / "datasets")) if (data / "datasets").exists() else []


@pytest.mark.parametrize("command", [["dataset", "export", name(ROWS), "--output"], ["store", "export"]])
def test_an_export_goes_into_what_is_no_file_and_takes_no_place_of_it(
    dataset: Run, tmp_path: Path, data: Path, command: list[str]
) -> None:
    """As root, an export to /dev/null made a file of it; a link became the file itself."""
    (tmp_path / "a.jsonl").write_bytes(LINES)
    assert dataset("import", tmp_path / "a.jsonl")[0] == 0
    pipe, linked = tmp_path / "pipe", tmp_path / "linked"
    os.mkfifo(pipe)
    linked.symlink_to(tmp_path / "there")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        for target in (pipe, linked, tmp_path / ("n" * 255)):
            assert main([*command, str(target), "--data", str(data)]) == 0
        assert os.read(reader, 2**20) == (tmp_path / "there").read_bytes() == (tmp_path / ("n" * 255)).read_bytes()
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert linked.is_symlink()


def test_an_export_is_utf_8_whatever_the_locale(dataset: Run, tmp_path: Path, data: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES)
    assert dataset("import", tmp_path / "a.jsonl")[0] == 0
    command = [sys.executable, "-m", "erlbridge", "dataset", "export", name(ROWS), "--data", str(data)]
    found = subprocess.run(command, env={**os.environ, "PYTHONIOENCODING": "latin-1"}, capture_output=True, check=True)
    assert "Ümläut" in found.stdout.decode()


def test_the_same_content_has_the_same_name_in_every_format(dataset: Run, tmp_path: Path, data: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES)
    (tmp_path / "a.ndjson.gz").write_bytes(gzip.compress(LINES[:50]) + gzip.compress(LINES[50:]))
    cells = [
        [row["question"], str(row["answer"]), str(row["sure"]), json.dumps(row["tags"]), json.dumps(row["more"])]
        for row in ROWS
    ]
    header = ["q", "answer", "sure", "tags", "more"]
    quoted = ["\t".join('"' + str(cell).replace('"', '""') + '"' for cell in row) for row in [header, *cells]]
    (tmp_path / "a.tsv").write_text("\r\n".join(quoted), encoding="utf-8-sig")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet", row_group_size=1)
    typed = ["--types", "answer=integer,sure=boolean", "--types", "tags=json,more=json", "--name-map", "q=question"]
    expected = name(ROWS)
    for arguments in (
        [tmp_path / "a.jsonl"],
        [tmp_path / "a.ndjson.gz"],
        [tmp_path / "a.tsv", *typed],
        [tmp_path / "a.parquet"],
    ):
        code, printed, told = dataset("import", *arguments)
        assert (code, printed) == (0, f"{expected}\n"), told
        assert told.startswith("2 examples, ")
    assert files(data) == [expected.removeprefix("sha256:")]


def test_several_files_are_one_dataset_in_their_order(dataset: Run, tmp_path: Path) -> None:
    for row, file in zip(ROWS, ("b.jsonl", "a.jsonl"), strict=True):
        (tmp_path / file).write_text(json.dumps(row))
    assert dataset("import", tmp_path / "b.jsonl", tmp_path / "a.jsonl")[:2] == (0, f"{name(ROWS)}\n")


def test_zstd_is_unpacked_where_its_package_is(dataset: Run, tmp_path: Path) -> None:
    zstd = zstd_module()
    (tmp_path / "a.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfd" if zstd is None else zstd.compress(LINES))
    code, printed, told = dataset("import", tmp_path / "a.jsonl.zst")
    if zstd is None:
        assert code == 1
        assert "the extra `zstd`" in told
    else:
        assert (code, printed) == (0, f"{name(ROWS)}\n")


def test_what_parquet_knows_and_json_does_not_becomes_text(dataset: Run, tmp_path: Path) -> None:
    table = pyarrow.table(
        {
            "at": [datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)],
            "on": [datetime.date(2024, 1, 2)],
            "price": [decimal.Decimal("1.50")],
            "raw": [b"bytes"],
            "map": pyarrow.array([[("k", 1), ("a", 2)]], pyarrow.map_(pyarrow.string(), pyarrow.int64())),
            "word": pyarrow.array(["often"]).dictionary_encode(),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    row = {"at": "2024-01-02T03:04:05+00:00", "on": "2024-01-02", "price": "1.50", "raw": "bytes"}
    expected = name([{**row, "map": {"k": 1, "a": 2}, "word": "often"}])
    assert dataset("import", tmp_path / "a.parquet")[:2] == (0, f"{expected}\n")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (("a.jsonl", b'{"a": 1}\n{"a": }\n', []), "a.jsonl:2:7: no JSON: expected value, got '}' (--skip-bad N"),
        (("a.csv", b"a,n\nx,1\ny,two\n", ["--types", "n=integer"]), "a.csv:3: field 'n': expected a whole number, got"),
        (("a.csv", b"a,n\n", []), "a.csv: expected at least one example, got none"),
        (("a.csv", b"a;n\nx;1\n", ["--name-map", "n=number"]), "n: no row has this name"),
        (("a.jsonl", b'{"a": 1}\n', ["--types", "b=integer"]), "b: no row has this name"),
        (("a.jsonl.gz", gzip.compress(LINES)[:-20], []), "a.jsonl.gz: the packed file is damaged or cut off"),
        (("a.jsonl.gz", b"no gzip", []), "a.jsonl.gz: the packed file is damaged or cut off: Not a gzipped file"),
        (("a.parquet", b"PAR1" + bytes(50), []), "a.parquet: as Parquet it cannot be read"),
        (("a.jsonl", "{}".encode("utf-16"), []), "a.jsonl:1: expected UTF-8, got UTF-16"),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_nothing_is_left(
    dataset: Run, tmp_path: Path, data: Path, wrong: tuple[str, bytes, list[str]], told: str
) -> None:
    file, content, arguments = wrong
    (tmp_path / file).write_bytes(content)
    code, printed, said = dataset("import", tmp_path / file, *arguments)
    assert (code, printed) == (1, "")
    assert said.startswith("erlbridge dataset import: ")
    assert told in said
    assert files(data) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["a.jsonl", "--types", "n=int"],
            "--types n: expected one of text, integer, number, boolean, json, got 'int' (did",
        ),
        (["a.jsonl", "--types", "n"], "--types: expected FIELD=TYPE,…, got 'n'"),
        (["a.jsonl", "--name-map", "a=x,b=x"], "--name-map x: two names become it"),
        (["a.jsonl", "--name-map", "a=x", "--types", "a=text"], "it is 'x' by --name-map"),
        (["a.xlsx"], "its name ends in none of .jsonl, .ndjson"),
        (["-", "--format", "parquet"], "Parquet is read from its end"),
        (["a.parquet.gz"], "it must be a file, and not packed"),
    ],
)
def test_arguments_that_cannot_be_meant_exit_with_2(dataset: Run, arguments: list[str], told: str) -> None:
    code, printed, said = dataset("import", *arguments)
    assert (code, printed) == (2, "")
    assert told in said


def test_so_many_bad_rows_are_passed_over_as_somebody_allows(dataset: Run, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"n": 1}\n' + b"[]\n" * 30 + b'{"n": "\\ud800"}\n{"n": 2}\n')
    code, printed, said = dataset("import", file, "--skip-bad", "31", "--json")
    assert code == 0
    told = json.loads(printed)
    assert (told["dataset"], told["examples"], told["skipped"]) == (name([{"n": 1}, {"n": 2}]), 2, 31)
    assert len(said.splitlines()) == 21
    assert f"{file}:2: expected a JSON object, got an array" in said
    code, _, said = dataset("import", file, "--skip-bad", "30")
    assert code == 1
    assert said.splitlines()[-1].endswith("this is bad row 31, and --skip-bad allows 30")


def test_a_file_that_unpacks_to_more_than_may_be_kept_leaves_nothing(dataset: Run, tmp_path: Path, data: Path) -> None:
    line = b'{"a": "' + b"x" * 10_000 + b'"}\n'
    (tmp_path / "bomb.jsonl.gz").write_bytes(gzip.compress(line * 1000))
    (tmp_path / "node.toml").write_text('dataset_quota_bytes = "1MiB"\n')
    code, _, said = dataset("import", tmp_path / "bomb.jsonl.gz", "--config", tmp_path / "node.toml")
    assert code == 1
    assert "transfers and datasets may take 1048576 bytes together" in said
    assert files(data) == []


def test_a_parquet_file_of_two_kilobytes_that_claims_gigabytes_is_refused(tmp_path: Path, data: Path) -> None:
    """One value, named by many rows. In a process of its own, whose memory is then known."""
    value = pyarrow.array(["x" * (4 << 20)])
    rows = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 2000, pyarrow.int32()), value)
    pyarrow.parquet.write_table(
        pyarrow.table({"a": rows}), tmp_path / "bomb.parquet", compression="zstd", store_schema=False
    )
    assert (tmp_path / "bomb.parquet").stat().st_size < 10_000
    command = [sys.executable, "-m", "erlbridge", "dataset", "import", "bomb.parquet", "--data", str(data)]
    ran = subprocess.run(
        ["prlimit", f"--data={400 << 20}", *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert ran.returncode == 1
    assert "bomb.parquet: reading it takes more than 400 MiB of memory" in ran.stderr
    assert files(data) == []


def test_datasets_are_listed_shown_written_and_deleted(dataset: Run, tmp_path: Path, data: Path) -> None:
    assert dataset("list") == (0, "", "")
    assert not data.exists()
    (tmp_path / "a.jsonl").write_bytes(LINES)
    dataset("import", tmp_path / "a.jsonl")
    digits = name(ROWS).removeprefix("sha256:")
    code, printed, _ = dataset("list", "--json")
    (listed,) = map(json.loads, printed.splitlines())
    assert (listed["dataset"], listed["examples"]) == (name(ROWS), 2)
    assert abs(listed["stored_at"] - time.time()) < 60
    assert re.match(rf"{name(ROWS)} +2 examples +\d+ B  stored \d", dataset("list")[1])
    code, printed, _ = dataset("show", digits[:6], "-n", "1", "--json")
    assert (code, json.loads(printed)["first"]) == (0, ROWS[:1])
    assert '"question": "1 + 1"' in dataset("show", digits[:6])[1]
    code, printed, _ = dataset("export", digits[:4])
    assert [json.loads(line) for line in printed.splitlines()] == ROWS
    assert dataset("export", name(ROWS), "--output", tmp_path / "b.jsonl")[:2] == (0, "")
    assert dataset("import", tmp_path / "b.jsonl")[:2] == (0, f"{name(ROWS)}\n")
    assert dataset("delete", digits, "0000")[0] == 1
    assert dataset("delete", digits)[:2] == (0, f"deleted {name(ROWS)}, 2 examples, {listed['bytes']} B\n")
    code, _, said = dataset("show", digits)
    assert code == 1
    assert "no dataset" in said
    assert files(data) == []


@pytest.mark.parametrize("wrong", ["sha256:", "abc", "../../etc/passwd", "sha256:xyzw1234"])
def test_a_name_is_digits_and_no_path(dataset: Run, wrong: str) -> None:
    code, _, said = dataset("delete", wrong)
    assert code == 1
    assert "expected a dataset's name" in said


def test_a_dataset_that_is_damaged_on_disk_is_named_and_set_aside_and_no_file_is_written(
    dataset: Run, tmp_path: Path, data: Path
) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES)
    dataset("import", tmp_path / "a.jsonl")
    digits = name(ROWS).removeprefix("sha256:")
    stream = data / "datasets" / digits / "stream"
    stream.write_bytes(stream.read_bytes().replace(b"1 + 1", b"1 + 2"))
    code, _, said = dataset("export", digits, "--output", tmp_path / "b.jsonl")
    assert code == 1
    assert f"{name(ROWS)} is damaged" in said
    assert files(data) == [f"{digits}.damaged"]
    assert not (tmp_path / "b.jsonl").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "data"]


def test_what_json_has_no_form_for_is_shown_and_not_exported(dataset: Run, data: Path) -> None:
    with DatasetWriter(open_store(data, print).datasets) as writer:
        writer.add({Atom("a"): b"\xff", b"b": (Atom("x"), 1)})
        found = writer.finish().name
    code, printed, _ = dataset("show", found, "--json")
    assert (code, json.loads(printed)["first"]) == (0, [{"a": "\\xff", "b": ["x", 1]}])
    code, printed, said = dataset("export", found)
    assert (code, printed) == (1, "")
    assert f"{found}[0].a: expected a text, got a binary that is no UTF-8" in said


def test_a_node_that_runs_learns_from_what_is_imported_beside_it(
    dataset: Run, tmp_path: Path, start_node: Callable[..., NodeClient]
) -> None:
    node = start_node()
    node.ready()
    node.send((Atom("credit"), 1_000_000))
    rows = [{str(key): value.decode() for key, value in ticket.items()} for ticket in TICKETS[:24]]
    (tmp_path / "tickets.csv").write_text(
        "\n".join(",".join(f'"{cell}"' for cell in cells) for cells in [list(rows[0]), *(row.values() for row in rows)])
    )
    code, printed, _ = dataset("import", tmp_path / "tickets.csv")
    assert code == 0
    inline = optimization(24, optimizer=Atom("labeled_few_shot"), seed=1)
    _, expected = node.ask("optimize_signature", inline)
    tag, found = node.ask(
        "optimize_signature", {**inline, Atom("training_data"): (Atom("dataset"), printed.strip().encode())}
    )
    assert tag == "ok", found
    assert found[Atom("program")][Atom("state")] == expected[Atom("program")][Atom("state")]


# -- a process of its own


@pytest.fixture
def importing(data: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts imports of their standard input; each is ended after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(stderr: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "erlbridge", "dataset", "import", "-", "--data", str(data)]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TQDM_")}
        started.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=environment)
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_standard_input_is_json_lines(importing: Callable[..., subprocess.Popen[bytes]]) -> None:
    printed, _ = importing().communicate(LINES, timeout=60)
    assert printed.decode() == f"{name(ROWS)}\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_import_that_is_interrupted_leaves_nothing(
    importing: Callable[..., subprocess.Popen[bytes]], data: Path, number: int, code: int
) -> None:
    process = importing()
    assert process.stdin is not None
    process.stdin.write(LINES * 5000)  # more than any buffer on the way: some of it has been read
    process.stdin.flush()
    assert any(file.startswith(".new-") for file in files(data))
    process.send_signal(number)
    assert process.wait(60) == code
    assert files(data) == []


def test_a_terminal_shows_how_far_an_import_is(importing: Callable[..., subprocess.Popen[bytes]]) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    process = importing(theirs)
    os.close(theirs)
    assert process.stdin is not None
    shown = b""
    ends = time.monotonic() + 30
    while b"examples" not in shown and time.monotonic() < ends:
        process.stdin.write(LINES * 1000)
        process.stdin.flush()
        if select.select([ours], [], [], 0.02)[0]:
            shown += os.read(ours, 4096)
    process.kill()
    os.close(ours)
    assert re.search(rb"standard input: [\d.]+[kM]?B? \[\d\d:\d\d, [\d.]+[kM]B/s, \d+ examples\]", shown), shown
