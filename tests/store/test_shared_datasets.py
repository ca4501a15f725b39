"""Datasets that machines share: sent to one, used at another, right whatever lies there."""

from __future__ import annotations

import hashlib
import io
import os
import time
from pathlib import Path
from typing import IO

import pytest

from erlbridge.codec import term_to_binary
from erlbridge.core.paging import Page
from erlbridge.errors import NotFound
from erlbridge.node.dataset_verbs import list_datasets
from erlbridge.store import remote_blobs
from erlbridge.store.blob_cache import BlobCache
from erlbridge.store.gc import Policy, collect
from erlbridge.store.places import Places
from erlbridge.store.remote_blobs import RemoteBlobs
from erlbridge.store.remote_system import BlobsRefused, RemoteSystem
from erlbridge.store.shared_datasets import SharedDatasets
from erlbridge.store.store import Store, open_store
from erlbridge.store.verify import verify
from erlbridge.wire.vocabulary import atom

STREAM = b"".join(len(term).to_bytes(4) + term for term in [term_to_binary({b"n": n}) for n in range(20)])
NAME = "sha256:" + hashlib.sha256(STREAM).hexdigest()
DIGITS = NAME.removeprefix("sha256:")


def machine(tmp_path: Path, name: str, said: list[str] | None = None, **places: int) -> Store:
    """A store as another machine has it: a data directory of its own, and blobs in one that all of them mount."""
    lines = [] if said is None else said
    return open_store(tmp_path / name, lines.append, Places(blobs=f"file://{tmp_path}/shared", **places))


def sent(store: Store, stream: bytes = STREAM, examples: int = 20) -> str:
    name = "sha256:" + hashlib.sha256(stream).hexdigest()
    store.data.mkdir(exist_ok=True)
    (store.data / "received").write_bytes(stream)
    store.datasets.adopt(store.data / "received", name, examples)
    return name


def content(store: Store, name: str = NAME) -> bytes:
    return Path(os.fsdecode(store.datasets.ready(name).path)).read_bytes()


def test_what_one_machine_was_sent_another_one_uses(tmp_path: Path) -> None:
    sent(machine(tmp_path, "a"))
    other = machine(tmp_path, "b")
    assert content(other) == STREAM
    assert other.datasets.find(NAME).examples == 20
    assert [(entry.name, entry.size_bytes) for entry in other.datasets.found()] == [(NAME, len(STREAM))]
    assert str(tmp_path / "b") in os.fsdecode(other.datasets.find(NAME).path)


def test_what_is_only_listed_is_not_fetched(tmp_path: Path) -> None:
    sent(machine(tmp_path, "a"))
    other = machine(tmp_path, "b")
    described = other.datasets.describe(NAME)
    assert (described.examples, described.size_bytes) == (20, len(STREAM))
    assert other.datasets.has(NAME)
    assert not (tmp_path / "b" / "datasets").exists()


def test_what_was_deleted_at_one_machine_is_gone_at_all(tmp_path: Path) -> None:
    first, other = machine(tmp_path, "a"), machine(tmp_path, "b")
    sent(first)
    other.datasets.find(NAME)
    first.datasets.delete(NAME)
    with pytest.raises(NotFound):
        other.datasets.find(NAME)
    assert list((tmp_path / "b" / "datasets").iterdir()) == []
    with pytest.raises(NotFound):
        first.datasets.delete(NAME)


def test_a_copy_that_is_damaged_is_fetched_again(tmp_path: Path) -> None:
    said: list[str] = []
    store = machine(tmp_path, "a", said)
    sent(store)
    with open(store.datasets.find(NAME).path, "r+b") as stream:
        stream.write(b"!")
    with pytest.raises(NotFound, match="damaged"):
        store.datasets.check(NAME)
    assert f"the dataset {NAME} was damaged, and is set aside as {DIGITS}.damaged" in said
    assert content(store) == STREAM


@pytest.mark.parametrize("end", [".stream", ".about"])
def test_what_was_damaged_elsewhere_is_never_used_and_is_set_aside(tmp_path: Path, end: str) -> None:
    sent(machine(tmp_path, "a"))
    blob = tmp_path / "shared" / "datasets" / (DIGITS + end)
    blob.write_bytes(b"!" + blob.read_bytes()[1:])
    said: list[str] = []
    other = machine(tmp_path, "b", said)
    with pytest.raises(NotFound, match="damaged"):
        other.datasets.find(NAME)
    assert said == [f"the dataset {NAME} was damaged, and is set aside as {DIGITS}.damaged"]
    assert list(other.datasets.found()) == []
    sent(other)
    assert content(machine(tmp_path, "c")) == STREAM


def test_while_nobody_can_be_asked_a_copy_serves_and_what_is_not_here_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = machine(tmp_path, "a"), machine(tmp_path, "b")
    sent(store)

    def away(*_: object) -> None:
        raise BlobsRefused("away")

    with monkeypatch.context() as patch:
        patch.setattr(RemoteSystem, "call", away)
        assert content(store) == STREAM
        with pytest.raises(BlobsRefused):
            other.datasets.find(NAME)
        # What was received stays for another try.
        with pytest.raises(BlobsRefused):
            sent(store, STREAM * 2, 40)
        assert (tmp_path / "a" / "received").read_bytes() == STREAM * 2
    assert content(store, sent(store, STREAM * 2, 40)) == STREAM * 2


def test_an_upload_that_was_killed_is_no_dataset_and_is_done_again(tmp_path: Path) -> None:
    blobs = RemoteBlobs(f"file://{tmp_path}/shared", BlobCache(tmp_path / "copies", 2**20))
    blobs.put("datasets", f"{DIGITS}.stream", STREAM[:50])
    store = machine(tmp_path, "a")
    assert list(store.datasets.found()) == []
    with pytest.raises(NotFound):
        store.datasets.find(NAME)
    sent(store)
    assert content(machine(tmp_path, "b")) == STREAM


def test_copies_used_longest_ago_make_room_and_come_back(tmp_path: Path) -> None:
    store = machine(tmp_path, "a", datasets_bytes=6 * len(STREAM))
    names = [sent(store, STREAM * times, 20 * times) for times in (1, 2, 3)]
    for name, age in zip(names, (7300, 7200, 10), strict=True):
        place = tmp_path / "a" / "datasets" / name.removeprefix("sha256:")
        used = place.stat().st_mtime - age
        os.utime(place, (used, used))
    sent(store, STREAM * 4, 80)
    here = {path.name for path in (tmp_path / "a" / "datasets").iterdir()}
    assert [name.removeprefix("sha256:") in here for name in names] == [False, False, True]
    assert isinstance(store.datasets, SharedDatasets)
    assert len(list(store.datasets.found())) == 4
    assert content(store, names[0]) == STREAM


def test_a_list_of_what_lies_elsewhere_fetches_none_of_it(tmp_path: Path) -> None:
    sent(machine(tmp_path, "a"))
    other = machine(tmp_path, "b")
    page = list_datasets(other.datasets, Page(10, None))
    assert isinstance(page, dict)
    (listed,) = page[atom("datasets")]
    assert [listed[atom(key)] for key in ("dataset", "examples", "bytes")] == [NAME, 20, len(STREAM)]
    assert not (tmp_path / "b" / "datasets").exists()
    (entry,) = other.datasets.newest(10)
    assert entry.about, "the next list asks nobody"


def test_what_was_left_elsewhere_is_cleared_up_and_what_is_used_stays(tmp_path: Path) -> None:
    store = machine(tmp_path, "a")
    sent(store)
    shared = tmp_path / "shared" / "datasets"
    left = ["0.damaged", ".new-1", "1" * 64 + ".stream"]
    for file in left:
        (shared / file).write_bytes(b"left")

    def collected(after_s: int) -> set[tuple[str, str]]:
        later = time.time_ns() + after_s * 10**9
        return {(gone.kind, gone.name) for gone in collect(store, Policy(None), clock=lambda: later)}

    assert collected(0) == set()
    kinds = ("damaged", "unfinished", "unfinished")
    expected = {(kind, f"datasets/{file}") for kind, file in zip(kinds, left, strict=True)}
    assert collected(100_000) == expected
    assert content(machine(tmp_path, "b")) == STREAM


def test_what_was_sent_is_not_fetched_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = machine(tmp_path, "a")
    monkeypatch.setattr(RemoteBlobs, "download", None)
    sent(store)
    sent(store)
    assert content(store) == STREAM


def test_a_fetch_that_breaks_off_condemns_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut connection looks like the end of a file; for that no machine may lose the dataset."""
    sent(machine(tmp_path, "a"))
    other = machine(tmp_path, "b")
    whole = remote_blobs._copy

    def cut(source: IO[bytes], target: IO[bytes]) -> None:
        whole(io.BytesIO(source.read(100)), target)

    with monkeypatch.context() as patch:
        patch.setattr(remote_blobs, "_copy", cut)
        with pytest.raises(BlobsRefused, match=f"broke off after 100 of {len(STREAM)} bytes"):
            other.datasets.find(NAME)
    assert content(other) == STREAM


@pytest.mark.parametrize("has_copy", [True, False])
def test_verify_reads_what_all_machines_have_it_from(tmp_path: Path, *, has_copy: bool) -> None:
    first, other = machine(tmp_path, "a"), machine(tmp_path, "b")
    sent(first)
    assert [checked.fault for checked in verify(other)] == [None]
    assert not (tmp_path / "b" / "datasets").exists()
    blob = tmp_path / "shared" / "datasets" / f"{DIGITS}.stream"
    blob.write_bytes(b"!" + blob.read_bytes()[1:])
    (checked,) = verify(first if has_copy else other)
    assert (checked.name, checked.fault) == (NAME, "damaged")
    assert list(other.datasets.found()) == []
