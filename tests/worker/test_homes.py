"""Workers' temporary directories: made, removed, swept when nobody is left to remove them, and never anybody else's."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from erlbridge.worker.sandbox.homes import PREFIX, Homes


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's place for temporary files, for this test."""
    place = tmp_path / "system"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def in_process(code: str, data: Path) -> str:
    """Runs code with `homes` in a process of its own, which ends without a clean-up. Gives what it prints."""
    begin = "import os, sys, time\nfrom pathlib import Path\nfrom erlbridge.worker.sandbox.homes import Homes\n"
    command = [
        sys.executable,
        "-c",
        f"{begin}homes = Homes(Path(sys.argv[1]))\n{code}\nsys.stdout.flush()\nos._exit(0)",
        str(data),
    ]
    environment = {
        **os.environ,
        "TMPDIR": str(data.parent / "system"),
    }  # what others left in the machine's is not counted
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)
    return ran.stdout.strip()


def wait_until_gone(path: Path) -> None:
    deadline = time.monotonic() + 10
    while path.exists():
        assert time.monotonic() < deadline, f"{path} is still there"
        os.sched_yield()


def test_a_home_is_its_workers_alone_and_goes_with_it(tmp_path: Path, elsewhere: Path) -> None:
    said = in_process(
        "home = homes.make(1)\nprint(oct(home.stat().st_mode & 0o777), home.parent.parent.name, end=' ')\n"
        "homes.remove(1)\nprint(home.exists(), home.parent.exists(), end=' ')\n"
        "homes.close()\nprint(home.parent.exists())",
        tmp_path / "data",
    )
    assert said == "0o700 tmp False True False"


def test_a_full_home_is_emptied_by_another_process(tmp_path: Path, elsewhere: Path) -> None:
    said = in_process(
        "home = homes.make(1)\n(home / 'a').mkdir()\n(home / 'a' / 'b').write_text('x')\nhomes.remove(1)\n"
        "print(len(homes.cleaners()), end=' ')\nhomes.close()\nprint(home.exists())",
        tmp_path / "data",
    )
    assert said == "1 False"


def test_what_a_killed_forkserver_left_is_removed_by_the_next_one(tmp_path: Path, elsewhere: Path) -> None:
    left = Path(in_process("home = homes.make(1)\n(home / 'left').write_text('x')\nprint(home)", tmp_path / "data"))
    assert (left / "left").exists()
    homes = Homes(tmp_path / "data")
    wait_until_gone(left.parent)
    homes.close()


def test_directories_that_were_never_a_forkservers_stay(tmp_path: Path, elsewhere: Path) -> None:
    """A data directory may well lie in the system's place for temporary files."""
    kept = [elsewhere / "erlbridge-data", elsewhere / f"{PREFIX}notes"]
    for directory in kept:
        directory.mkdir()
        (directory / "precious").write_text("x")
    homes = Homes(tmp_path / "data")
    assert len(homes.cleaners()) == 0
    homes.close()
    assert [list(directory.iterdir()) for directory in kept] == [[directory / "precious"] for directory in kept]


def test_what_a_living_forkserver_has_stays(tmp_path: Path, elsewhere: Path) -> None:
    homes = Homes(tmp_path / "data")
    home = homes.make(7)
    assert home is not None
    assert in_process("print(len(homes.cleaners()))", tmp_path / "data") == "0"
    assert home.is_dir()
    homes.close()


def test_a_worker_that_still_lives_does_not_keep_the_lock(tmp_path: Path, elsewhere: Path) -> None:
    code = (
        "home = homes.make(1)\nif os.fork() == 0:\n    homes.leave()\n    os.close(1)\n    os.close(2)\n"
        "    time.sleep(0.5)\n    os._exit(0)\nprint(home)"
    )
    left = Path(in_process(code, tmp_path / "data"))
    Homes(tmp_path / "data").close()
    wait_until_gone(left.parent)


@pytest.mark.parametrize("refusal", ["a file", "no directory"])
def test_a_data_directory_that_refuses_is_replaced_by_the_systems_place(
    tmp_path: Path, elsewhere: Path, refusal: str
) -> None:
    data = tmp_path / "data"
    if refusal == "a file":
        data.write_text("in the way")
    else:
        data.mkdir()
        (data / "tmp").write_text("in the way")
    homes = Homes(data)
    home = homes.make(1)
    assert home is not None
    assert home.parent.parent == elsewhere
    homes.close()
    assert list(elsewhere.iterdir()) == []


def test_with_no_disk_at_all_there_is_no_home(tmp_path: Path, elsewhere: Path) -> None:
    elsewhere.rmdir()
    elsewhere.write_text("in the way")
    (tmp_path / "data").write_text("in the way")
    assert Homes(tmp_path / "data").make(1) is None


def test_a_directory_that_somebody_removed_is_made_anew(tmp_path: Path, elsewhere: Path) -> None:
    homes = Homes(tmp_path)
    first = homes.make(1)
    assert first is not None
    first.rmdir()
    (first.parent / "lock").unlink()
    first.parent.rmdir()
    second = homes.make(2)
    assert second is not None
    assert second.is_dir()
    homes.close()


def test_links_and_other_names_are_left_alone(tmp_path: Path, elsewhere: Path) -> None:
    target = tmp_path / "precious"
    target.mkdir()
    (elsewhere / f"{PREFIX}link").symlink_to(target)
    (elsewhere / "other").mkdir()
    Homes(tmp_path / "data").close()
    assert target.is_dir()
    assert (elsewhere / "other").is_dir()
    assert (elsewhere / f"{PREFIX}link").is_symlink()


def test_where_only_the_data_directory_can_be_written_that_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "nowhere")])
    homes = Homes(tmp_path / "data")
    home = homes.make(1)
    assert home is not None
    assert home.is_dir()
    homes.close()
