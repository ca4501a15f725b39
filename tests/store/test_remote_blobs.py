"""Blobs elsewhere: a store's files on what fsspec reaches, and what becomes of a system that fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from erlbridge.store import remote_system
from erlbridge.store.blob_cache import BlobCache
from erlbridge.store.remote_blobs import RemoteBlobs
from erlbridge.store.remote_system import BlobsRefused

CONTENT = b"a program" * 100


class FaultySystem(LocalFileSystem):
    """A directory that fails as it is told: `faults` has what to do, by operation."""

    protocol = "faulty"
    cachable = False
    faults: ClassVar[dict[str, Any]] = {}

    def _fail(self, operation: str) -> None:
        fault = self.faults.get(operation)
        if isinstance(fault, BaseException):
            raise fault
        if callable(fault):
            fault()

    def info(self, path: str, **options: Any) -> Any:
        self._fail("info")
        return super().info(path, **options)

    def cat_file(self, path: str, **options: Any) -> bytes:
        self._fail("cat_file")
        found = super().cat_file(path, **options)
        return found[:-1] if self.faults.get("cut") else found

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        self._fail("mv")
        super().mv(path1, path2, **options)
        if self.faults.get("lose"):
            with open(self._strip_protocol(path2), "r+b") as file:
                file.truncate(1)


class ConnectedSystem(LocalFileSystem):
    """A directory behind a connection, of which those of an earlier `generation` are cut."""

    protocol = "connected"
    generation: ClassVar[int] = 0
    opened: ClassVar[int] = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        ConnectedSystem.opened += 1
        self._mine = self.generation

    def info(self, path: str, **options: Any) -> Any:
        if self._mine != self.generation:
            raise OSError("Socket is closed")
        return super().info(path, **options)


fsspec.register_implementation("faulty", FaultySystem)
fsspec.register_implementation("connected", ConnectedSystem)


@pytest.fixture(params=["memory", "file"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """One system that puts objects whole, and one in which files are written aside."""
    yield f"{request.param}://{tmp_path}/remote"
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()


@pytest.fixture
def blobs(address: str, tmp_path: Path) -> RemoteBlobs:
    return _blobs(address, tmp_path)


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[RemoteBlobs]:
    FaultySystem.faults.clear()
    yield _blobs(f"faulty://{tmp_path}/remote", tmp_path)
    FaultySystem.faults.clear()


def _blobs(address: str, tmp_path: Path) -> RemoteBlobs:
    return RemoteBlobs(address, BlobCache(tmp_path / "cache", 2**20))


def test_what_one_node_puts_another_one_gets(blobs: RemoteBlobs, address: str, tmp_path: Path) -> None:
    blobs.put("programs", "one.etf", CONTENT)
    other = RemoteBlobs(address, BlobCache(tmp_path / "another", 2**20))
    assert other.get("programs", "one.etf") == CONTENT
    assert other.get("programs", "one.etf", 9) == b"a program"
    assert other.has("programs", "one.etf")
    (found,) = other.all("programs")
    assert (found.name, found.size_bytes) == ("one.etf", len(CONTENT))
    assert abs(found.modified_at_ns - time.time_ns()) < 60 * 10**9


def test_what_is_not_there_is_none_of_it(blobs: RemoteBlobs) -> None:
    assert blobs.get("programs", "one.etf") is None
    assert blobs.get("programs", "one.etf", 5) is None
    assert not blobs.has("programs", "one.etf")
    assert not blobs.delete("programs", "one.etf")
    assert blobs.set_aside("programs", "one.etf") is None
    assert list(blobs.all("programs")) == []


def test_what_was_deleted_or_replaced_elsewhere_is_not_served_from_here(
    blobs: RemoteBlobs, address: str, tmp_path: Path
) -> None:
    blobs.put("programs", "one.etf", CONTENT)
    assert blobs.get("programs", "one.etf") == CONTENT
    other = RemoteBlobs(address, BlobCache(tmp_path / "another", 2**20))
    other.put("programs", "one.etf", b"another")
    assert blobs.get("programs", "one.etf") == b"another"
    assert other.delete("programs", "one.etf")
    assert blobs.get("programs", "one.etf") is None


def test_a_damaged_blob_is_set_aside_and_listed_no_more(blobs: RemoteBlobs) -> None:
    blobs.put("programs", "one.etf", CONTENT)
    assert blobs.set_aside("programs", "one.etf") == "one.damaged"
    assert blobs.get("programs", "one.etf") is None
    assert blobs.get("programs", "one.damaged") == CONTENT
    assert list(blobs.all("programs")) == []


def test_large_files_go_both_ways_without_memory(blobs: RemoteBlobs, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(CONTENT * 5000)
    blobs.upload("datasets", "one.stream", source)
    assert blobs.download("datasets", "one.stream", target)
    assert target.read_bytes() == source.read_bytes()
    assert not blobs.download("datasets", "none.stream", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_what_was_read_is_kept_here_and_read_again_only_when_it_changed(faulty: RemoteBlobs, tmp_path: Path) -> None:
    faulty.put("programs", "one.etf", CONTENT)
    assert faulty.get("programs", "one.etf") == CONTENT
    FaultySystem.faults["cat_file"] = AssertionError("read again")
    assert faulty.get("programs", "one.etf") == CONTENT
    assert _blobs(f"faulty://{tmp_path}/remote", tmp_path).get("programs", "one.etf") == CONTENT


def test_a_copy_that_was_changed_here_is_not_served(faulty: RemoteBlobs, tmp_path: Path) -> None:
    faulty.put("programs", "one.etf", CONTENT)
    assert faulty.get("programs", "one.etf") == CONTENT
    (copy,) = (tmp_path / "cache").iterdir()
    copy.write_bytes(copy.read_bytes()[:-1] + b"!")
    assert faulty.get("programs", "one.etf") == CONTENT


def test_copies_take_no_more_than_their_room(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path / "cache", 10_000)
    for number in range(40):
        cache.put("programs", f"{number}.etf", "1", bytes(1000))
    assert sum(path.stat().st_size for path in cache.directory.iterdir()) <= 11_000
    assert cache.get("programs", "39.etf", "1") == bytes(1000)
    assert cache.get("programs", "39.etf", "2") is None
    cache.put("programs", "huge.etf", "1", bytes(9000))
    assert cache.get("programs", "huge.etf", "1") is None


def test_a_system_that_refuses_is_an_error_of_the_disk(faulty: RemoteBlobs) -> None:
    class EndpointConnectionError(Exception):
        """Not an `OSError`, as those of cloud packages are not."""

    FaultySystem.faults["info"] = EndpointConnectionError("could not connect")
    with pytest.raises(BlobsRefused, match="EndpointConnectionError: could not connect"):
        faulty.has("programs", "one.etf")
    with pytest.raises(BlobsRefused):
        faulty.get("programs", "one.etf")


def test_a_blob_that_breaks_off_is_refused_not_served(faulty: RemoteBlobs) -> None:
    faulty.put("programs", "one.etf", CONTENT)
    FaultySystem.faults["cut"] = True
    with pytest.raises(BlobsRefused, match="broke off after 899 of 900 bytes"):
        faulty.get("programs", "one.etf")


def test_a_put_of_which_a_part_is_lost_is_not_acknowledged(faulty: RemoteBlobs) -> None:
    FaultySystem.faults["lose"] = True
    with pytest.raises(BlobsRefused, match="has 1 bytes there, 900 were put"):
        faulty.put("programs", "one.etf", CONTENT)


def test_a_put_that_fails_leaves_what_was_there_and_nothing_beside_it(faulty: RemoteBlobs, tmp_path: Path) -> None:
    faulty.put("programs", "one.etf", CONTENT)
    FaultySystem.faults["mv"] = PermissionError(13, "Permission denied")
    with pytest.raises(BlobsRefused, match="Permission denied"):
        faulty.put("programs", "one.etf", b"another")
    assert [path.name for path in (tmp_path / "remote" / "programs").iterdir()] == ["one.etf"]
    FaultySystem.faults.clear()
    assert faulty.get("programs", "one.etf") == CONTENT


def test_a_system_that_never_answers_is_left_alone_for_longer_each_time_and_used_once_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_system, "_PATIENCE_S", 0.05)
    now = [0.0]
    blobs = RemoteBlobs(f"faulty://{tmp_path}/remote", BlobCache(tmp_path / "cache", 2**20), clock=lambda: now[0])
    answer = threading.Event()
    monkeypatch.setattr(FaultySystem, "faults", {"info": answer.wait})
    for away_s in (5.0, 10.0, 20.0):
        with pytest.raises(BlobsRefused, match="does not answer"):
            blobs.has("programs", "one.etf")
        now[0] += away_s - 0.1
        with pytest.raises(BlobsRefused, match="did not answer a moment ago"):
            blobs.has("programs", "one.etf")
        now[0] += 0.1
    with pytest.raises(BlobsRefused, match="does not answer"):
        blobs.has("programs", "one.etf")
    (tmp_path / "remote" / "programs").mkdir(parents=True)
    (tmp_path / "remote" / "programs" / "one.etf").touch()
    answer.set()
    deadline = time.monotonic() + 10
    while True:
        try:
            assert blobs.has("programs", "one.etf")
            break
        except BlobsRefused:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_connection_that_was_cut_is_made_again(tmp_path: Path) -> None:
    """As `sftp` and `ftp` have them: whoever has one gets nothing but errors from it once it is cut."""
    blobs = _blobs(f"connected://{tmp_path}/remote", tmp_path)
    blobs.put("programs", "one.etf", CONTENT)
    ConnectedSystem.generation += 1
    assert blobs.has("programs", "one.etf")
    ConnectedSystem.generation += 1
    assert blobs.get("programs", "one.etf") == CONTENT
    blobs.download("programs", "one.etf", tmp_path / "target")
    assert ConnectedSystem.opened == 3


def test_an_unknown_system_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BlobsRefused, match="nonsense"):
        _blobs("nonsense://bucket/store", tmp_path).has("programs", "one.etf")


def test_a_secret_of_an_address_shows_in_no_refusal(tmp_path: Path) -> None:
    blobs = _blobs("ftp://app:s3cret@127.0.0.1:1/store", tmp_path)
    with pytest.raises(BlobsRefused) as refused:
        blobs.has("programs", "one.etf")
    assert "s3cret" not in str(refused.value)
