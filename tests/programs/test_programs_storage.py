"""What workers keep in the data directory: answers and the pace of endpoints. Damage costs an answer, never a job."""

from __future__ import annotations

import hashlib
import pickle
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from erlbridge.codec import term_to_binary
from erlbridge.core.lms import RateLimit
from erlbridge.programs.answers import FILE, Answers
from erlbridge.programs.rates import FILE as RATES_FILE
from erlbridge.programs.rates import Rates, Turn
from erlbridge.store.database import Database

VALUE = {"text": "blue", "parts": [1, 2.5, None, True, (), {"deep": "ü"}]}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_answer_outlives_its_process(tmp_path: Path) -> None:
    first = Answers(tmp_path / "data")
    first.put(b"key", VALUE)
    first.close()
    assert Answers(tmp_path / "data").get(b"key") == VALUE


def test_two_that_share_a_file_see_each_others_answers(tmp_path: Path) -> None:
    one, two = Answers(tmp_path), Answers(tmp_path)
    assert one.get(b"key") is None
    two.put(b"key", VALUE)
    assert one.get(b"key") == VALUE


def test_the_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    (tmp_path / FILE).touch(mode=0o666)
    answers = Answers(tmp_path)
    answers.put(b"key", VALUE)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE, f"{FILE}-shm", f"{FILE}-wal"]


@pytest.mark.parametrize("value", [b"raw", {"a": [b"raw"]}, {1: "a", "b": {1, 2}}, object(), float("nan")])
def test_what_would_not_come_back_as_it_was_is_not_kept(value: object) -> None:
    answers = Answers(None)
    answers.put(b"key", value)
    assert answers.get(b"key") is None


def poison(directory: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(directory / FILE) as connection:
        connection.execute(statement, values)
    connection.close()


def test_an_answer_that_was_changed_cut_or_swapped_is_dropped(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    for key in (b"changed", b"cut", b"one", b"two"):
        answers.put(key, {"for": key.decode()})
    answers.close()
    poison(tmp_path, "UPDATE answers SET answer = ? WHERE key = ?", term_to_binary({"text": "evil"}), b"changed")
    poison(tmp_path, "UPDATE answers SET answer = substr(answer, 1, 5) WHERE key = ?", b"cut")
    poison(tmp_path, "UPDATE answers SET key = 'x' WHERE key = ?", b"one")
    poison(tmp_path, "UPDATE answers SET key = ? WHERE key = ?", b"one", b"two")
    for key in (b"changed", b"cut", b"one", b"two"):
        assert answers.get(key) is None
    answers.put(b"changed", VALUE)
    assert answers.get(b"changed") == VALUE


def test_a_pickle_under_a_right_checksum_is_bytes_and_nothing_more(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    answers.put(b"other", VALUE)
    payload = pickle.dumps(VALUE)
    checksum = hashlib.sha256(b"key" + payload).digest()
    poison(tmp_path, "INSERT INTO answers (key, answer, checksum) VALUES (?, ?, ?)", b"key", payload, checksum)
    assert answers.get(b"key") is None
    assert answers.get(b"other") == VALUE


@pytest.mark.parametrize("content", [b"no database", b"", b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_file_that_is_no_database_is_set_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    answers = Answers(tmp_path)
    assert answers.get(b"key") is None
    answers.put(b"key", VALUE)
    answers.close()
    assert Answers(tmp_path).get(b"key") == VALUE
    assert (tmp_path / "answers-1.damaged").exists() == bool(content)


def test_a_file_that_was_cut_serves_nothing_false_and_is_replaced(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    for number in range(200):
        answers.put(b"%d" % number, {"number": number, "text": "x" * 500})
    answers.close()
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    again = Answers(tmp_path)
    for number in range(200):
        assert again.get(b"%d" % number) in (None, {"number": number, "text": "x" * 500})
        again.put(b"%d" % number, {"number": number})
    again.close()
    assert Answers(tmp_path).get(b"199") is not None


@pytest.mark.parametrize("totals", [(10**12, 10**12), (-5, -5), ("many", None)])
def test_totals_that_somebody_else_wrote_are_counted_anew(tmp_path: Path, totals: tuple[object, object]) -> None:
    answers = Answers(tmp_path, max_answers=100)
    for number in range(5):
        answers.put(b"%d" % number, number)
    answers.close()
    poison(tmp_path, "UPDATE totals SET answers = ?, bytes = ?", *totals)
    for number in range(10, 150):
        answers.put(b"%d" % number, number)
    answers.close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        (count,) = connection.execute("SELECT count(*) FROM answers").fetchone()
        assert connection.execute("SELECT answers FROM totals").fetchone() == (count,)
    connection.close()
    assert 60 < count <= 100


def test_a_disk_that_refuses_leaves_the_process_its_memory(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").write_text("a file where the directory should be")
    answers = Answers(tmp_path / "data")
    answers.put(b"key", VALUE)
    assert answers.get(b"key") == VALUE
    assert capfd.readouterr().err.count("keeps its own in memory") == 1


def test_a_file_that_refused_is_asked_again_and_what_came_meanwhile_is_found(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    database = Database(tmp_path / "d.sqlite3", "CREATE TABLE IF NOT EXISTS t (v)", clock)
    put, find = "INSERT INTO t VALUES (?)", "SELECT count(*) FROM t"

    def write(value: int) -> None:
        database.write(lambda connection: connection.execute(put, (value,)), None)

    def count() -> int:
        return int(database.read(lambda connection: connection.execute(find).fetchone(), (0,))[0])

    write(1)
    with closing(sqlite3.connect(tmp_path / "d.sqlite3")) as other:
        other.execute("BEGIN EXCLUSIVE")
        write(2)
        write(3)
        assert count() == 2, "what came meanwhile is in memory"
        other.execute("ROLLBACK")
    write(4)
    assert "is used again" not in capfd.readouterr().err
    clock.now += 20.0
    write(5)
    assert count() == 2, "in the file: the first and the last"
    assert capfd.readouterr().err.count("is used again") == 1


def test_a_new_file_that_several_make_at_once_is_refused_to_none(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """SQLite refuses one of two that turn a new file to WAL at once, without waiting: workers that asked an endpoint
    for the first time at once kept a pace for each. Without a second try one round of ten fails."""
    workers, rounds = 3, 100

    def write(path: Path, together: threading.Barrier) -> None:
        database = Database(path, "CREATE TABLE IF NOT EXISTS t (v)")
        together.wait(10)
        database.write(lambda connection: connection.execute("INSERT INTO t VALUES (1)"), None)
        database.close()

    with ThreadPoolExecutor(workers) as pool:
        for number in range(rounds):
            path, together = tmp_path / f"{number}.sqlite3", threading.Barrier(workers)
            for done in [pool.submit(write, path, together) for _ in range(workers)]:
                done.result(30)
            with closing(sqlite3.connect(path)) as connection:
                assert connection.execute("SELECT count(*) FROM t").fetchone() == (workers,)
    assert capfd.readouterr().err == ""


def test_a_new_file_is_waited_for_as_long_as_its_making_takes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    database = Database(tmp_path / "d.sqlite3", "CREATE TABLE IF NOT EXISTS t (v)")
    with closing(sqlite3.connect(tmp_path / "d.sqlite3", check_same_thread=False)) as maker:
        maker.execute("BEGIN EXCLUSIVE")
        made = threading.Timer(1.0, maker.rollback)  # longer than another's transaction is waited for
        made.start()
        database.write(lambda connection: connection.execute("INSERT INTO t VALUES (1)"), None)
        made.join()
    assert capfd.readouterr().err == ""
    database.close()


@pytest.mark.parametrize("name", [FILE, f"{FILE}-wal"])
def test_what_stands_in_a_files_place_is_set_aside(tmp_path: Path, name: str) -> None:
    (tmp_path / name / "something in it").mkdir(parents=True)
    answers = Answers(tmp_path)
    answers.put(b"key", VALUE)
    answers.close()
    assert Answers(tmp_path).get(b"key") == VALUE
    assert (tmp_path / name.replace("sqlite3", "damaged") / "something in it").is_dir()


def test_a_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"precious")
    (tmp_path / FILE).symlink_to(tmp_path / "elsewhere")
    answers = Answers(tmp_path)
    answers.put(b"key", VALUE)
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"


def test_the_oldest_answers_go_first() -> None:
    answers = Answers(None, max_answers=100)
    for number in range(150):
        answers.put(b"%d" % number, number)
    kept = [number for number in range(150) if answers.get(b"%d" % number) is not None]
    assert 60 < len(kept) <= 100
    assert kept == list(range(150 - len(kept), 150))


def test_the_bytes_of_answers_are_bounded(tmp_path: Path) -> None:
    answers = Answers(tmp_path, max_bytes=200_000)
    for number in range(100):
        answers.put(b"%d" % number, f"{number}" * 5000)
    answers.put(b"too large", "x" * 200_001)
    answers.close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        (size,) = connection.execute("SELECT sum(length(answer)) FROM answers").fetchone()
        assert connection.execute("SELECT bytes FROM totals").fetchone() == (size,)
    connection.close()
    assert 0 < size <= 200_000
    assert answers.get(b"99") == "99" * 5000
    assert answers.get(b"too large") is None


# -- pace ------------------------------------------------------------------------------------------------------------


def test_calls_of_two_processes_are_paced_together(tmp_path: Path) -> None:
    clock = Clock()
    one, two = Rates(tmp_path, clock=clock), Rates(tmp_path, clock=clock)
    limit = RateLimit(requests_per_minute=60)
    assert one.turn("e", limit, 0).wait_s == 0.0
    assert two.turn("e", limit, 0).wait_s == 1.0
    assert two.turn("other", limit, 0).wait_s == 0.0
    clock.now += 1.0
    assert two.turn("e", limit, 0).wait_s == 0.0
    assert one.turn("e", limit, 0).wait_s == 1.0


def test_tokens_are_charged_ahead_and_settled_by_what_was_used() -> None:
    clock = Clock()
    rates, limit = Rates(None, clock=clock), RateLimit(tokens_per_minute=6000)
    first = rates.turn("e", limit, 500)
    assert first == Turn(0.0, 500.0)
    assert rates.turn("e", limit, 500).wait_s == pytest.approx(5.0)
    rates.settle("e", limit, first, 200)
    assert rates.turn("e", limit, 500).wait_s == pytest.approx(2.0)
    clock.now += 2.0
    assert rates.turn("e", limit, 500) == Turn(0.0, 200.0)  # the endpoint's own mean tells better than a guess


def test_a_machine_that_was_started_anew_stops_no_job(tmp_path: Path) -> None:
    clock = Clock()
    rates, limit = Rates(tmp_path, clock=clock), RateLimit(requests_per_minute=60, tokens_per_minute=60)
    rates.turn("e", limit, 500)
    clock.now -= 900.0
    assert rates.turn("e", limit, 500).wait_s == 0.0


def test_a_debt_of_tokens_is_waited_off_for_ten_minutes_at_most() -> None:
    clock = Clock()
    rates, limit = Rates(None, clock=clock), RateLimit(tokens_per_minute=60)
    rates.settle("e", limit, rates.turn("e", limit, 10), 100_000)
    assert rates.turn("e", limit, 10).wait_s == 600.0


def test_a_poisoned_pace_stops_no_job(tmp_path: Path) -> None:
    rates, limit = Rates(tmp_path), RateLimit(requests_per_minute=60)
    rates.turn("e", limit, 0)
    with sqlite3.connect(tmp_path / RATES_FILE) as connection:
        connection.execute("UPDATE rates SET request_at = 9e999, token_at = 'never', tokens = -9e999")
    connection.close()
    assert rates.turn("e", limit, 0).wait_s == 0.0


def test_an_address_is_not_written_down(tmp_path: Path) -> None:
    rates = Rates(tmp_path)
    rates.turn("https://host/v1?key=hush-hush-1234", RateLimit(requests_per_minute=60), 0)
    rates.close()
    assert all(b"hush" not in path.read_bytes() for path in tmp_path.iterdir())
