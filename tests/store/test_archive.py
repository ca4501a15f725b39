"""A store in one file, and back; and files that somebody else has made."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from erlbridge.errors import ValidationError
from erlbridge.store.archive_export import export
from erlbridge.store.archive_import import take_in
from erlbridge.store.dataset_writer import DatasetWriter
from erlbridge.store.index import Entry
from erlbridge.store.store import Store, open_store

QUOTA = 2**30


def filled(directory: Path) -> Store:
    store = open_store(directory, str)
    for content in (b"one", b"two" * 1000, b""):
        store.programs.put("program:" + hashlib.sha256(content).hexdigest(), content)
    store.models.put("offline:" + hashlib.sha256(b"a model").hexdigest(), b"a model")
    with DatasetWriter(store.datasets) as writer:
        for number in range(500):
            writer.add({"question": f"{number}?"})
        writer.finish()
    return store


def exported(store: Store) -> bytes:
    out = io.BytesIO()
    assert all(one.fault is None for one in export(store, out))
    return out.getvalue()


def imported(directory: Path, archive: bytes, quota_bytes: int = QUOTA) -> Store:
    store = open_store(directory, str)
    list(take_in(store, io.BytesIO(archive), quota_bytes))
    return store


def entries(store: Store) -> list[Entry]:
    return [
        Entry(one.name, one.size_bytes, one.stored_at_ns, 0)
        for shelf in store.shelves
        for one in shelf.register.index.newest(10)
    ]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return filled(tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="module")
def archive(full: Store) -> bytes:
    return exported(full)


def test_what_is_exported_and_imported_is_the_same_and_as_old(full: Store, archive: bytes, tmp_path: Path) -> None:
    store = imported(tmp_path, archive)
    assert entries(store) == entries(full)
    assert [store.programs.get(one.name) for one in full.programs.newest(9)] == [
        full.programs.get(one.name) for one in full.programs.newest(9)
    ]
    (dataset,) = store.datasets.register.index.newest(9)
    assert store.datasets.check(dataset.name).examples == 500
    assert store.datasets.ready(dataset.name).examples == 500


def test_any_tar_reads_it(archive: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = tar.getnames()
    assert len(names) == 6
    assert names[-1] == "index"


def test_importing_twice_changes_nothing(archive: bytes, tmp_path: Path) -> None:
    store = imported(tmp_path, archive)
    before = {path: path.stat().st_ino for path in tmp_path.glob("*/*")}
    moved = list(take_in(store, io.BytesIO(archive), QUOTA))
    assert all(one.known for one in moved)
    assert {path: path.stat().st_ino for path in tmp_path.glob("*/*")} == before


def test_what_is_damaged_is_left_out_and_named(tmp_path: Path) -> None:
    store = filled(tmp_path / "one")
    (stream,) = (tmp_path / "one" / "datasets").glob("*/stream")
    stream.write_bytes(stream.read_bytes()[:-1] + b"!")
    out = io.BytesIO()
    (fault,) = [one for one in export(store, out) if one.fault]
    assert fault.kind == "dataset"
    assert len(entries(imported(tmp_path / "two", out.getvalue()))) == 4


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 0.9, 0.97])
def test_an_archive_that_is_cut_off_is_refused_and_taken_again_whole(
    full: Store, archive: bytes, tmp_path: Path, share: float
) -> None:
    with pytest.raises(ValidationError, match="archive"):
        imported(tmp_path, archive[: int((len(archive) - 1024) * share)])
    assert not list(tmp_path.glob("*/.new-*"))
    assert {one.name for one in entries(imported(tmp_path, archive))} == {one.name for one in entries(full)}


def test_a_byte_that_was_changed_is_found_wherever_it_is(archive: bytes, tmp_path: Path) -> None:
    for number, at in enumerate(range(700, len(archive) - 1024, 4099)):
        changed = archive[:at] + bytes([archive[at] ^ 1]) + archive[at + 1 :]
        block = archive[at - at % 512 :][:512]
        if not any(block[at % 512 :]):
            continue  # what fills a file up is nobody's
        with pytest.raises(ValidationError):
            imported(tmp_path / str(number), changed)


def member(name: str, content: bytes = b"", **settings: object) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in settings.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


EMPTY = f"programs/{hashlib.sha256(b'').hexdigest()}.etf"
HOSTILE: dict[str, Callable[[], bytes]] = {
    "a way out": lambda: member("../programs/" + "a" * 64 + ".etf"),
    "an absolute path": lambda: member("/etc/passwd", b"root"),
    "a way through": lambda: member("programs/../../" + "a" * 64 + ".etf"),
    "another name": lambda: member("programs/x.etf"),
    "another room": lambda: member("results/" + "a" * 64),
    "a link": lambda: member(EMPTY, type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": lambda: member(EMPTY, type=tarfile.LNKTYPE, linkname="/etc/passwd"),
    "a device": lambda: member(EMPTY, type=tarfile.CHRTYPE),
    "a directory": lambda: member("programs", type=tarfile.DIRTYPE),
    "a name of a gigabyte": lambda: member("././@LongLink", type=tarfile.GNUTYPE_LONGNAME, size=2**30),
    "headers of a gigabyte": lambda: member("pax", type=tarfile.XHDTYPE, size=2**30),
    "a sparse file": lambda: member(EMPTY, type=tarfile.GNUTYPE_SPARSE),
    "a program of a terabyte": lambda: member(EMPTY, size=2**40),
    "a dataset of a terabyte": lambda: member("datasets/" + "a" * 64, size=2**40),
    "a negative size": lambda: member(EMPTY, size=-1),
    "an index of a terabyte": lambda: member("index", size=2**40),
    "an empty dataset": lambda: member("datasets/" + hashlib.sha256(b"").hexdigest()),
    "the same twice": lambda: member(EMPTY) * 2,
    "no end": lambda: member(EMPTY) + bytes(1024),
    "an index of its own": lambda: member(EMPTY) + member("index", b'{"format": 1, "count": 0, "sha256": ""}\n'),
    "an index that is none": lambda: member(EMPTY) + member("index", b"[" * 400),
    "an index of no lines": lambda: member("index"),
    "no tar": lambda: b"hello" * 1000,
    "zeros": lambda: bytes(10_000),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_no_store_has_written_is_refused_and_leaves_nothing_outside(tmp_path: Path, what: str) -> None:
    with pytest.raises(ValidationError, match="archive"):
        imported(tmp_path / "data", HOSTILE[what]())
    assert [path.name for path in tmp_path.iterdir()] in ([], ["data"])
    assert {path.name for path in tmp_path.glob("data/*/*")} <= {Path(EMPTY).name}


def test_a_dataset_beyond_the_quota_is_refused(archive: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="dataset_quota_bytes"):
        imported(tmp_path, archive, quota_bytes=100)
    assert not list(tmp_path.glob("datasets/*"))


def test_a_dataset_that_is_here_does_not_let_more_than_itself_in(tmp_path: Path) -> None:
    """A name that the store has told its maker was a way around the quota, up to a full disk."""
    store = filled(tmp_path)
    (known,) = store.datasets.register.index.newest(9)
    endless = io.BytesIO(
        member(f"datasets/{known.name[7:]}", size=2**40) + (bytes.fromhex("00000006837400000000") * 1000)
    )
    read: list[int] = []
    with pytest.raises(ValidationError, match="damaged in the archive"):
        list(take_in(store, endless, QUOTA, read.append))
    assert read == []
    list(take_in(store, io.BytesIO(exported(store)), quota_bytes=1))  # what is here needs no room
