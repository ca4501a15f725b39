"""Transfers on the disk: gone on with from what lies there, held to the quota, never mixed, never half a dataset."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streams import chunks, framed, name_of, rows

from erlbridge.codec import Atom, term_to_binary
from erlbridge.core.transfers import DataChunk, parse_chunk
from erlbridge.errors import Cancelled, NotFound, TransferError
from erlbridge.limits import MAX_OPEN_TRANSFERS
from erlbridge.store.datasets import DatasetStore
from erlbridge.store.store import open_store
from erlbridge.store.transfers import Transfers

NEXT, DATASET, STATUS = Atom("next_index"), Atom("dataset"), Atom("status")
STREAM = framed(rows(300))


def parsed(transfer: str, stream: bytes = STREAM, **how: Any) -> list[DataChunk]:
    return [parse_chunk(payload) for payload in chunks(transfer, stream, **{"chunk_bytes": 2000, **how})]


def transfers(data: Path, quota_bytes: int = 2**30) -> Transfers:
    return Transfers(data / "transfers", open_store(data, str).datasets, quota_bytes)


def next_index(told: Any) -> int:
    return int(told[NEXT])


def reason(refusal: pytest.ExceptionInfo[TransferError]) -> str:
    return str(refusal.value.context["reason"])


@pytest.mark.parametrize("compression", ["zlib", "none"])
def test_a_transfer_goes_on_from_the_disk_after_any_chunk(tmp_path: Path, compression: str) -> None:
    wanted = parsed("t", compression=compression)
    for chunk in wanted:
        taker = transfers(tmp_path)
        assert next_index(taker.status("t")) == chunk.index
        told = taker.take(chunk)
        taker.close()
    assert told[DATASET] == name_of(STREAM)
    found = open_store(tmp_path, str).datasets.find(name_of(STREAM))
    assert (found.examples, found.size_bytes) == (300, len(STREAM))
    assert Path(os.fsdecode(found.path)).read_bytes() == STREAM
    assert [path.suffix for path in (tmp_path / "transfers").iterdir()] == [".over"]


@pytest.mark.parametrize(
    ("damage", "left"),
    [
        (lambda data: data[:-1], 2),
        (lambda data: data + b"\0\0\1", 3),
        (lambda data: data + bytes(4096), 3),
        (lambda data: data[:-500] + bytes(500), 2),
        (lambda data: data[:9], 0),
        (lambda _data: b"", 0),
    ],
    ids=["cut", "a header's beginning", "zeros behind it", "zeros in it", "nearly all gone", "emptied"],
)
def test_what_a_crash_left_of_a_record_does_not_count(tmp_path: Path, damage: Any, left: int) -> None:
    wanted = parsed("t")
    taker = transfers(tmp_path)
    for chunk in wanted[:3]:
        taker.take(chunk)
    taker.close()
    (path,) = (tmp_path / "transfers").glob("*.chunks")
    path.write_bytes(damage(path.read_bytes()))
    taker = transfers(tmp_path)
    assert next_index(taker.status("t")) == left
    for chunk in wanted[left:]:
        told = taker.take(chunk)
    assert told[DATASET] == name_of(STREAM)


def test_chunks_out_of_order_change_nothing(tmp_path: Path) -> None:
    taker, wanted = transfers(tmp_path), parsed("t")
    with pytest.raises(TransferError, match="chunk 1 came where 0 is the next") as refusal:
        taker.take(wanted[1])
    assert (reason(refusal), refusal.value.context["next_index"]) == ("gap", 0)
    taker.take(wanted[0])
    with pytest.raises(TransferError) as refusal:
        taker.take(wanted[2])
    assert refusal.value.context["next_index"] == 1
    assert next_index(taker.take(wanted[0])) == 1, "a replay is acknowledged with where to go on"
    for chunk in wanted[1:]:
        told = taker.take(chunk)
    assert told[DATASET] == name_of(STREAM)
    assert taker.take(wanted[-1])[DATASET] == name_of(STREAM)
    other = parsed("t", framed(rows(301)))
    with pytest.raises(TransferError) as refusal:
        taker.take(other[-1])
    assert reason(refusal) == "checksum"
    for chunk in other:
        told = taker.take(chunk)
    assert told[DATASET] == name_of(framed(rows(301)))


@pytest.mark.parametrize("fault", ["corrupt", "checksum", "compression"])
def test_a_stream_that_is_wrong_leaves_nothing_and_begins_anew(tmp_path: Path, fault: str) -> None:
    taker, wanted = transfers(tmp_path), parsed("t")
    taker.take(wanted[0])
    bad = {
        "corrupt": DataChunk("t", 1, b"no zlib", "zlib", None),
        "checksum": DataChunk("t", 1, zlib.compress(STREAM), "zlib", "0" * 64),
        "compression": DataChunk("t", 1, wanted[1].data, "none", None),
    }[fault]
    if fault == "checksum":
        taker.take(wanted[1])
        for chunk in wanted[2:-1]:
            taker.take(chunk)
        bad = DataChunk("t", wanted[-1].index, wanted[-1].data, "zlib", "0" * 64)
    with pytest.raises(TransferError) as refusal:
        taker.take(bad)
    assert reason(refusal) == ("checksum" if fault == "checksum" else "corrupt")
    assert list((tmp_path / "transfers").iterdir()) == []
    assert next_index(taker.status("t")) == 0
    for chunk in wanted:
        told = taker.take(chunk)
    assert told[DATASET] == name_of(STREAM)


def test_a_bomb_ends_at_the_quota_and_leaves_nothing(tmp_path: Path) -> None:
    taker = transfers(tmp_path, quota_bytes=5_000_000)
    bomb = zlib.compress(framed([{}]) * 2_000_000, 1)
    with pytest.raises(TransferError, match="dataset_quota_bytes") as refusal:
        taker.take(DataChunk("bomb", 0, bomb[: 2**20], "zlib", None))
    assert reason(refusal) == "quota"
    assert list((tmp_path / "transfers").iterdir()) == []


def test_what_lies_there_counts_for_the_quota(tmp_path: Path) -> None:
    stream = framed(rows(300, size=1000))
    taker = transfers(tmp_path, quota_bytes=int(1.5 * len(stream)))
    for chunk in parsed("one", stream, compression="none", chunk_bytes=2**20):
        taker.take(chunk)
    more = parsed("two", framed(rows(301, size=1000)), compression="none", chunk_bytes=2**17)
    taker = transfers(tmp_path, quota_bytes=int(1.5 * len(stream)))
    for chunk in more[:-1]:
        try:
            taker.take(chunk)
        except TransferError as error:
            assert str(error.context["reason"]) == "quota"  # noqa: PT017 - which chunk it is depends on other files
            return
    pytest.fail("nothing was refused")


def test_not_each_transfer_waits_for_a_look_at_all_datasets(tmp_path: Path) -> None:
    """A node with ten thousand datasets took 0.15 s for each one that it was sent."""
    looks = []

    class Watched(DatasetStore):
        def sizes(self) -> Iterator[int]:
            looks.append(len(list(self.directory.glob("*"))))
            return super().sizes()

    quota_bytes = 4 * len(STREAM)
    datasets = Watched(tmp_path / "datasets", open_store(tmp_path, str).datasets.register)
    taker = Transfers(tmp_path / "transfers", datasets, quota_bytes)

    def send(number: int) -> None:
        stream = framed([{b"number": number}]) + STREAM
        first, *others = parsed(f"t{number}", stream, compression="none")
        for chunk in (replace(first, total_bytes=len(stream)), *others):
            taker.take(chunk)

    for number in range(3):
        send(number)
    assert looks == [0]
    with pytest.raises(TransferError):  # but nothing is refused without one
        send(3)
    assert looks == [0, 3]
    for path in datasets.directory.glob("*"):
        datasets.delete(f"sha256:{path.name}")
    send(4)
    assert looks == [0, 3, 0]


def test_a_cancelled_transfer_is_forgotten_until_it_begins_anew(tmp_path: Path) -> None:
    taker, wanted = transfers(tmp_path), parsed("t")
    assert next_index(taker.cancel("t")) == 0
    taker.take(wanted[0])
    taker.cancel("t")
    with pytest.raises(Cancelled):
        taker.take(wanted[1])
    with pytest.raises(Cancelled):
        transfers(tmp_path).take(wanted[1])
    for chunk in wanted:
        taker.take(chunk)
    assert str(taker.cancel("t")[STATUS]) == "finished"


def test_a_name_that_begins_anew_is_not_taken_for_what_it_was_before(tmp_path: Path) -> None:
    taker = transfers(tmp_path)
    for chunk in parsed("t"):
        taker.take(chunk)
    other = parsed("t", framed(rows(900)), compression="none")
    taker.take(other[0])
    with pytest.raises(TransferError):
        taker.take(parsed("t")[1])  # of another compression: the transfer is forgotten
    with pytest.raises(TransferError) as refusal:
        taker.take(other[2])
    assert reason(refusal) == "gap"
    assert str(taker.status("t")[STATUS]) == "not_found"


@pytest.mark.parametrize("dataset", [b"\xff", b"sha256:../transfers", b"no name"])
def test_a_damaged_record_of_what_became_of_a_transfer_is_none(tmp_path: Path, dataset: bytes) -> None:
    taker = transfers(tmp_path)
    for chunk in parsed("t"):
        taker.take(chunk)
    (over,) = (tmp_path / "transfers").iterdir()
    over.write_bytes(term_to_binary((dataset, 2, 100)))
    assert str(transfers(tmp_path).status("t")[STATUS]) == "not_found"
    assert over.exists()


def test_what_a_killed_node_left_of_a_dataset_is_removed(tmp_path: Path) -> None:
    left, fresh = tmp_path / "datasets" / ".new-left", tmp_path / "datasets" / ".new-fresh"
    for directory in (left, fresh):
        directory.mkdir(parents=True)
        (directory / "stream").write_bytes(STREAM)
    os.utime(left, (1, 1))
    transfers(tmp_path).take(parsed("t")[0])
    assert [path.name for path in (tmp_path / "datasets").iterdir()] == [fresh.name], "another node may be at it"


def test_more_transfers_than_files_may_be_open_go_on_all_the_same(tmp_path: Path) -> None:
    taker = transfers(tmp_path)
    names = [f"t{number}" for number in range(MAX_OPEN_TRANSFERS + 3)]
    wanted = {name: parsed(name, framed([{b"name": name.encode() * 30}] * 40), compression="none") for name in names}
    for index in range(max(map(len, wanted.values()))):
        for name in names:
            if index < len(wanted[name]):
                taker.take(wanted[name][index])
    assert all(str(taker.status(name)[STATUS]) == "finished" for name in names)


def test_what_nobody_goes_on_with_is_removed_and_what_another_node_holds_is_not(tmp_path: Path) -> None:
    old, other = transfers(tmp_path), transfers(tmp_path)
    old.take(parsed("abandoned")[0])
    old.close()
    other.take(parsed("held")[0])
    for chunk in parsed("finished"):
        old.take(chunk)
    for path in (tmp_path / "transfers").iterdir():
        os.utime(path, (1, 1))
    taker = transfers(tmp_path)
    taker.take(parsed("new")[0])
    assert next_index(taker.status("abandoned")) == 0
    assert str(taker.status("finished")[STATUS]) == "not_found"
    with pytest.raises(TransferError) as refusal:
        taker.status("held")
    assert reason(refusal) == "busy"
    assert next_index(other.take(parsed("held")[1])) == 2


def test_a_full_disk_costs_no_chunk_that_was_acknowledged(tmp_path: Path) -> None:
    """A real refusal of the kernel: the process may write no file of more than 16 KiB."""
    code = textwrap.dedent(
        """
        import resource, signal, sys
        from pathlib import Path
        from streams import framed, rows
        from test_transfers import next_index, parsed, transfers
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        taker = transfers(Path(sys.argv[1]))
        resource.setrlimit(resource.RLIMIT_FSIZE, (16384, resource.RLIM_INFINITY))
        refused = 0
        for chunk in parsed("t", framed(rows(1000)), chunk_bytes=3000):
            try:
                taker.take(chunk)
            except OSError as error:
                refused += 1
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
                assert next_index(taker.status("t")) == chunk.index
                taker.take(chunk)
        print(refused, taker.status("t"))
        """
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False, env=environment
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("1 ")
    assert name_of(framed(rows(1000))) in ran.stdout


def test_a_dataset_that_is_there_whole_is_kept_and_a_damaged_one_is_replaced(tmp_path: Path) -> None:
    store, taker = open_store(tmp_path, str).datasets, transfers(tmp_path)
    for chunk in parsed("one"):
        taker.take(chunk)
    stream = tmp_path / "datasets" / name_of(STREAM)[7:] / "stream"
    first = stream.stat().st_ino
    for chunk in parsed("two"):
        taker.take(chunk)
    assert stream.stat().st_ino == first
    stream.write_bytes(STREAM[:-1] + b"?")
    for chunk in parsed("three"):
        taker.take(chunk)
    assert stream.read_bytes() == STREAM
    (stream.parent / "about").write_bytes(b"?")
    with pytest.raises(NotFound, match="damaged on disk and set aside"):
        store.find(name_of(STREAM))
    assert str(taker.status("three")[STATUS]) == "not_found", "a dataset that is gone is not said to be there"
    assert {path.suffix for path in (tmp_path / "datasets").iterdir()} == {".damaged"}


def test_a_plain_stream_goes_on_in_front_of_bytes_that_a_power_cut_has_changed(tmp_path: Path) -> None:
    wanted = parsed("t", compression="none")
    taker = transfers(tmp_path)
    for chunk in wanted[:5]:
        taker.take(chunk)
    taker.close()
    (part,) = (tmp_path / "transfers").glob("*.part")
    content = bytearray(part.read_bytes())
    content[3 * 2000 + 7] ^= 1
    part.write_bytes(content)
    taker = transfers(tmp_path)
    assert next_index(taker.status("t")) == 3
    part.write_bytes(part.read_bytes() + b"written, never acknowledged")
    taker.close()
    taker = transfers(tmp_path)
    for chunk in wanted[3:]:
        told = taker.take(chunk)
    assert told[DATASET] == name_of(STREAM)


def test_a_plain_stream_lies_on_the_disk_once(tmp_path: Path) -> None:
    taker = transfers(tmp_path)
    for chunk in parsed("t", compression="none")[:-1]:
        taker.take(chunk)
    assert sum(path.stat().st_size for path in (tmp_path / "transfers").iterdir()) < 1.1 * len(STREAM)


def test_what_a_transfer_says_it_will_have_is_held_to_both_quotas_before_anything_is_kept(tmp_path: Path) -> None:
    store = open_store(tmp_path, str).datasets
    taker = Transfers(tmp_path / "transfers", store, 10**6, 10**5)
    for size, named in [(10**5 + 1, "transfer_quota_bytes"), (10**6 + 1, "dataset_quota_bytes")]:
        with pytest.raises(TransferError, match=named) as refusal:
            taker.take(DataChunk("t", 0, STREAM[:1000], "none", None, size))
        assert reason(refusal) == "quota"
    assert not list((tmp_path / "transfers").glob("*.part"))
    for chunk in parsed("long", framed(rows(3000)), compression="none", chunk_bytes=50_000):
        try:
            taker.take(chunk)
        except TransferError as error:
            assert "transfer_quota_bytes" in str(error)  # noqa: PT017 - which chunk it is is not the point
            break
    else:
        pytest.fail("nothing was refused")
    assert list((tmp_path / "transfers").iterdir()) == []
