"""Programs on disk: whole or absent, named by content, damaged ones never served."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from erlbridge.errors import NotFound, ValidationError
from erlbridge.store.programs import ProgramStore


def named(content: bytes) -> str:
    return f"program:{hashlib.sha256(content).hexdigest()}"


def test_a_program_comes_back_as_it_was_put(tmp_path: Path) -> None:
    store = ProgramStore(tmp_path / "new" / "programs")
    for content in (b"", b"one", b"two" * 100_000):
        store.put(named(content), content)
        store.put(named(content), content)
        assert store.get(named(content)) == content
    assert len(list(store.directory.iterdir())) == 3


def test_a_program_under_a_name_that_is_not_its_hash_is_refused(tmp_path: Path) -> None:
    store = ProgramStore(tmp_path)
    with pytest.raises(ValidationError, match="hash"):
        store.put(named(b"other"), b"content")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_program_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no program") as caught:
        ProgramStore(tmp_path).get(named(b"never put"))
    assert caught.value.context == {"program_id": named(b"never put")}


@pytest.mark.parametrize("damage", [b"", b"cut", b"content!"], ids=["emptied", "cut", "changed"])
def test_a_damaged_program_is_set_aside_and_can_be_put_again(tmp_path: Path, damage: bytes) -> None:
    store = ProgramStore(tmp_path)
    store.put(named(b"content"), b"content")
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage)
    with pytest.raises(NotFound, match="damaged") as caught:
        store.get(named(b"content"))
    assert caught.value.context == {"program_id": named(b"content")}
    store.put(named(b"content"), b"content")
    assert store.get(named(b"content")) == b"content"


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    """A real refusal of the kernel: the process may write no file of more than 4 KiB."""
    code = textwrap.dedent(
        """
        import hashlib, resource, signal, sys
        from pathlib import Path
        from erlbridge.store.programs import ProgramStore
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        content = b"x" * 10_000
        try:
            ProgramStore(Path(sys.argv[1])).put("program:" + hashlib.sha256(content).hexdigest(), content)
        except OSError as error:
            print(type(error).__name__, error.errno)
        """
    )
    ran = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("OSError")
    assert list(tmp_path.iterdir()) == []


def test_programs_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    store = ProgramStore(tmp_path / "programs")
    store.put(named(b"content"), b"content")
    (path,) = store.directory.iterdir()
    assert store.directory.stat().st_mode & 0o077 == 0
    assert path.stat().st_mode & 0o077 == 0


def test_the_newest_programs_are_listed_in_order_and_nothing_else_is(tmp_path: Path) -> None:
    store = ProgramStore(tmp_path)
    assert ProgramStore(tmp_path / "not there").newest(5) == []
    names = [named(b"%d" % number) for number in range(5)]
    for number, name in enumerate(names):
        store.put(name, b"%d" % number)
        os.utime(tmp_path / f"{name.removeprefix('program:')}.etf", ns=(0, 1000 + number // 2))
    (tmp_path / ".new-abc").write_bytes(b"half written")
    (tmp_path / f"{'0' * 64}.damaged").write_bytes(b"set aside")
    (tmp_path / f"{'1' * 64}.etf").mkdir()
    (tmp_path / f"{'2' * 64}.etf").symlink_to(tmp_path / ".new-abc")
    expected = [names[4], *sorted(names[2:4]), *sorted(names[0:2])]
    assert [found.program_id for found in store.newest(10)] == expected
    first = store.newest(2)
    assert [found.size_bytes for found in first] == [1, 1]
    store.delete(first[-1].program_id)
    assert [found.program_id for found in store.newest(10, first[-1].cursor)] == expected[2:]


def test_a_deleted_program_is_gone_and_cannot_be_deleted_again(tmp_path: Path) -> None:
    store = ProgramStore(tmp_path)
    store.put(named(b"content"), b"content")
    store.delete(named(b"content"))
    for call in (store.get, store.delete):
        with pytest.raises(NotFound, match="no program"):
            call(named(b"content"))
    assert list(tmp_path.iterdir()) == []
