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
from erlbridge.store.contents import Contents
from erlbridge.store.engine import INDEX_FILE
from erlbridge.store.index import Index
from erlbridge.store.programs import PROGRAM
from erlbridge.store.register import Register
from erlbridge.store.store import open_store
from erlbridge.wire.vocabulary import atom


def named(content: bytes) -> str:
    return f"program:{hashlib.sha256(content).hexdigest()}"


def test_a_program_comes_back_as_it_was_put(tmp_path: Path) -> None:
    store = open_store(tmp_path / "new", str).programs
    for content in (b"", b"one", b"two" * 100_000):
        store.put(named(content), content)
        store.put(named(content), content)
        assert store.get(named(content)) == content
    assert len(list((tmp_path / "new" / "programs").iterdir())) == 3


def test_a_program_under_a_name_that_is_not_its_hash_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="hash"):
        open_store(tmp_path, str).programs.put(named(b"other"), b"content")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_program_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no program") as caught:
        open_store(tmp_path, str).programs.get(named(b"never put"))
    assert caught.value.context == {"program_id": named(b"never put")}


@pytest.mark.parametrize("damage", [b"", b"cut", b"content!"], ids=["emptied", "cut", "changed"])
def test_a_damaged_program_is_set_aside_named_and_can_be_put_again(tmp_path: Path, damage: bytes) -> None:
    said: list[str] = []
    store = open_store(tmp_path, said.append).programs
    store.put(named(b"content"), b"content")
    (path,) = (tmp_path / "programs").iterdir()
    path.write_bytes(damage)
    with pytest.raises(NotFound, match="damaged") as caught:
        store.get(named(b"content"))
    assert caught.value.context == {"program_id": named(b"content"), "reason": atom("damaged")}
    assert said == [f"the program {named(b'content')} was damaged, and is set aside as {path.stem}.damaged"]
    assert store.newest(1) == []
    store.put(named(b"content"), b"content")
    assert store.get(named(b"content")) == b"content"


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    """A real refusal of the kernel: the process may write no file of more than 4 KiB."""
    code = textwrap.dedent(
        """
        import hashlib, resource, signal, sys
        from pathlib import Path
        from erlbridge.store.store import open_store
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        content = b"x" * 10_000
        try:
            open_store(Path(sys.argv[1]), str).programs.put("program:" + hashlib.sha256(content).hexdigest(), content)
        except OSError as error:
            print(type(error).__name__, error.errno)
        """
    )
    ran = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("OSError")
    assert list((tmp_path / "programs").iterdir()) == []


def test_programs_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    open_store(tmp_path, str).programs.put(named(b"content"), b"content")
    (path,) = (tmp_path / "programs").iterdir()
    assert path.parent.stat().st_mode & 0o077 == 0
    assert path.stat().st_mode & 0o077 == 0
    assert (tmp_path / INDEX_FILE).stat().st_mode & 0o077 == 0


def test_an_old_data_directory_is_taken_over_and_nothing_but_programs_is_listed(tmp_path: Path) -> None:
    """One without an index, as nodes of before have left it."""
    programs = tmp_path / "programs"
    programs.mkdir()
    names = [named(b"%d" % number) for number in range(5)]
    for number, name in enumerate(names):
        path = programs / f"{name.removeprefix('program:')}.etf"
        path.write_bytes(b"%d" % number)
        os.utime(path, ns=(0, 1000 + number // 2))
    (programs / ".new-abc").write_bytes(b"half written")
    (programs / f"{'0' * 64}.damaged").write_bytes(b"set aside")
    (programs / f"{'1' * 64}.etf").mkdir()
    (programs / f"{'2' * 64}.etf").symlink_to(programs / ".new-abc")
    (programs / f"{'A' * 64}.etf").write_bytes(b"no name of ours")
    expected = [names[4], *sorted(names[2:4]), *sorted(names[0:2])]
    store = open_store(tmp_path, str).programs
    assert [found.name for found in store.newest(10)] == expected
    first = store.newest(2)
    assert [(found.size_bytes, found.stored_at_ns) for found in first] == [(1, 1002), (1, 1001)]
    store.delete(first[-1].name)
    assert [found.name for found in store.newest(10, (first[-1].stored_at_ns, first[-1].name))] == expected[2:]


def test_a_directory_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert open_store(tmp_path / "not there", str).programs.newest(5) == []


def test_a_deleted_program_is_gone_and_cannot_be_deleted_again(tmp_path: Path) -> None:
    store = open_store(tmp_path, str).programs
    store.put(named(b"content"), b"content")
    store.delete(named(b"content"))
    for call in (store.get, store.delete):
        with pytest.raises(NotFound, match="no program"):
            call(named(b"content"))
    assert list((tmp_path / "programs").iterdir()) == []
    assert store.newest(1) == []


def test_what_the_index_was_not_told_is_made_up_for_before_the_next_list(tmp_path: Path) -> None:
    said: list[str] = []
    store = open_store(tmp_path, said.append)
    store.programs.put(named(b"gone"), b"gone")
    store.close()
    aside = (tmp_path / INDEX_FILE).rename(tmp_path / "aside")
    (tmp_path / INDEX_FILE).symlink_to(tmp_path / "nowhere" / "at all")
    (tmp_path / "store.damaged").mkdir()
    (tmp_path / "store.damaged" / "in the way").touch()
    store.programs.put(named(b"one"), b"one")
    store.programs.put(named(b"two"), b"two")
    store.programs.delete(named(b"gone"))
    assert store.programs.get(named(b"one")) == b"one"
    assert len([line for line in said if "behind with programs" in line]) == 1
    newest = store.programs.newest(5)
    assert {entry.name for entry in newest} == {named(b"one"), named(b"two")}, "read from what lies there"
    assert store.programs.newest(5, (newest[0].stored_at_ns, newest[0].name)) == newest[1:]
    assert [entry.name for entry in store.programs.newest(1)] == [newest[0].name]
    aside.rename(tmp_path / INDEX_FILE)
    assert {entry.name for entry in store.programs.newest(5)} == {named(b"one"), named(b"two")}


def test_when_a_program_was_used_is_noted_once_a_minute(tmp_path: Path) -> None:
    store = open_store(tmp_path, str)
    index, now = Index(store.engine, "program"), [10**18]
    programs = Contents(PROGRAM, store.blobs, Register(index, str, lambda: now[0]))
    assert programs.newest(1) == []
    programs.put(named(b"content"), b"content")
    for later_s, noted_s in ((30, 0), (61, 61), (100, 61), (200, 200)):
        now[0] = 10**18 + later_s * 10**9
        programs.get(named(b"content"))
        entry = index.get(named(b"content"))
        assert entry is not None
        assert (entry.stored_at_ns, entry.used_at_ns) == (10**18, 10**18 + noted_s * 10**9)
