"""What stands in for a capture: dumps of frames, and packets of a connection in whatever order they came."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from pathlib import Path
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erlbridge.codec import Atom, term_to_binary
from erlbridge.tools.captures import read_capture
from erlbridge.wire.capture import FILE_HEADER, HOST, CaptureError, Damage, Entry, Note, Record, encoded

FRAMES = [
    term_to_binary((Atom("ready"), {})),
    term_to_binary((Atom("predict"), 1, {b"text": b"x" * 3000})),
    term_to_binary((Atom("ok"), 1, [])),
]
DIRECTIONS = ["out", "in", "out"]


def framed(frames: Iterable[bytes]) -> bytes:
    return b"".join(len(frame).to_bytes(4) + frame for frame in frames)


def read(path: Path, content: bytes) -> list[Entry]:
    path.write_bytes(content)
    return list(read_capture(path))


def frames(entries: Iterable[Entry]) -> list[bytes]:
    return [entry.frame for entry in entries if isinstance(entry, Record)]


# -- dumps -----------------------------------------------------------------------------------------------------------


def test_a_dump_of_frames_is_read_and_its_directions_are_told(tmp_path: Path) -> None:
    found = read(tmp_path / "dump", framed(FRAMES))
    assert frames(found) == FRAMES
    assert [entry.direction for entry in found if isinstance(entry, Record)] == DIRECTIONS


def test_a_dump_that_is_cut_or_broken_gives_what_is_before_that(tmp_path: Path) -> None:
    whole = framed(FRAMES)
    *kept, damage = read(tmp_path / "dump", whole[:-1])
    assert frames(kept) == FRAMES[:2]
    assert damage == Damage(
        whole.rindex(len(FRAMES[2]).to_bytes(4)), 3 + len(FRAMES[2]), "the file ends inside a frame"
    )
    *kept, damage = read(tmp_path / "dump", whole + b"\xff\xff\xff\xff more")
    assert frames(kept) == FRAMES
    assert isinstance(damage, Damage)
    assert damage.offset == len(whole)


@pytest.mark.parametrize("content", [b"a text, and nothing that a bridge has said", b"\x00\x00\x00\xffshort"])
def test_what_is_nothing_of_a_bridge_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(CaptureError, match="neither a capture nor packets"):
        read(tmp_path / "x", content)
    with pytest.raises(OSError, match="no regular file"):
        list(read_capture(tmp_path))


def test_a_capture_whose_first_bytes_are_damaged_is_read_from_its_first_record_on(tmp_path: Path) -> None:
    record = Record(1, HOST, "in", 1, 2, 3, b"\x83a\x01")
    damage, kept = read(tmp_path / "x", b"\0\0" + FILE_HEADER[2:] + encoded(record))
    assert damage == Damage(0, len(FILE_HEADER), "no record begins here")
    assert isinstance(kept, Record)
    assert kept.frame == record.frame


# -- packets ---------------------------------------------------------------------------------------------------------


def tcp(sequence: int, data: bytes, *, flags: int = 0x18, back: bool = False) -> bytes:
    source, target = (1000, 4369) if not back else (4369, 1000)
    return pack(">HHIIBBHHH", source, target, sequence % 2**32, 0, 5 << 4, flags, 0, 0, 0) + data


def ip4(segment: bytes) -> bytes:
    return pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(segment), 0, 0, 64, 6, 0, b"\x7f\0\0\1", b"\x7f\0\0\2") + segment


def ip6(segment: bytes) -> bytes:
    hop_by_hop = b"\x06\0" + bytes(6)
    return pack(">IHBB16s16s", 6 << 28, 8 + len(segment), 0, 64, bytes(16), bytes(16)) + hop_by_hop + segment


def ethernet(packet: bytes) -> bytes:
    kind = b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"
    return bytes(12) + b"\x81\x00\x00\x05" + kind + packet + b"\0\0\0"  # a tag of a VLAN before, padding behind


LINKS = {1: ethernet, 101: bytes, 0: lambda packet: b"\2\0\0\0" + packet, 113: lambda packet: bytes(16) + packet}


def pcap(packets: Iterable[bytes], link: int = 101, order: str = "<", magic: int = 0xA1B2C3D4) -> bytes:
    head = pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    return head + b"".join(
        pack(order + "IIII", 100, number, len(packet), len(packet)) + packet for number, packet in enumerate(packets)
    )


def pcapng(packets: Iterable[bytes], link: int = 101, order: str = "<") -> bytes:
    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        return pack(order + "II", kind, 12 + len(body)) + body + pack(order + "I", 12 + len(body))

    options = pack(order + "HHB3x", 9, 1, 9) + bytes(4)  # nanoseconds
    section = block(0x0A0D0D0A, pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
    interface = block(1, pack(order + "HHI", link, 0, 0) + options)
    return section + interface + block(5, bytes(12)) + b"".join(
        block(6, pack(order + "IIIII", 0, *divmod(100_000_000_000 + number, 2**32), len(packet), len(packet)) + packet)
        for number, packet in enumerate(packets)
    )  # fmt: skip


def connection(content: bytes, size: int = 700, first: int = 2**32 - 900) -> list[bytes]:
    """Its segments; the numbers of the bytes begin anew among them."""
    return [tcp(first - 1, b"", flags=2)] + [
        tcp(first + at, content[at : at + size]) for at in range(0, len(content), size)
    ]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("link", sorted(LINKS))
@pytest.mark.parametrize("ip", [ip4, ip6])
def test_frames_are_found_in_the_packets_of_a_connection(tmp_path: Path, link: int, ip: object, order: str) -> None:
    packets = [LINKS[link](ip4(part) if ip is ip4 else ip6(part)) for part in connection(framed(FRAMES))]
    for content in (pcap(packets, link, order), pcapng(packets, link, order)):
        note, *found = read(tmp_path / "x", content)
        assert frames(found) == FRAMES
        assert len(found) == len(FRAMES)
        assert isinstance(note, Note)
        assert str(note.facts["to"]).endswith(":4369")
        last = found[-1]
        assert isinstance(last, Record)
        assert last.wall_ns // 10**9 == 100
        assert last.direction == "out"


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_the_order_and_the_repetitions_of_packets_make_no_difference(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    chance = random.Random(seed)
    content = framed(FRAMES * 2)
    first, *parts = connection(content, size=chance.randrange(8, 900))  # so few that all may come before the first
    again = [tcp(2**32 - 900 + at, content[at : at + 1100]) for at in chance.sample(range(len(content)), 4)]
    parts += again
    chance.shuffle(parts)
    found = read(tmp_path_factory.mktemp("x") / "x", pcap(map(ip4, [first, *parts])))
    assert frames(found) == FRAMES * 2
    assert not [entry for entry in found if isinstance(entry, Damage)]


def test_a_connection_full_of_gaps_costs_time_in_proportion_to_its_packets(tmp_path: Path) -> None:
    frame = framed([FRAMES[0]])
    packets = [ip4(tcp(10 + at * (len(frame) + 1), frame)) for at in range(8000)]
    begun = time.process_time()
    found = read(tmp_path / "x", pcap(packets))
    assert time.process_time() - begun < 5  # looking for the nearest of 4096 each time takes 20 seconds
    assert len(frames(found)) == 8000 - 4096
    assert sum(isinstance(entry, Damage) for entry in found) == 8000 - 4096 - 1


def test_a_connection_whose_beginning_is_missing_is_read_from_a_frame_on(tmp_path: Path) -> None:
    tail = framed(FRAMES)
    packets = [ip4(tcp(500, b"the end of something")), ip4(tcp(520, tail))]
    note, damage, *found = read(tmp_path / "x", pcap(packets))
    assert isinstance(note, Note)
    assert isinstance(damage, Damage)
    assert frames(found) == FRAMES


def test_packets_of_a_link_for_users_are_the_stream_itself(tmp_path: Path) -> None:
    content = framed(FRAMES)
    found = read(tmp_path / "x", pcap([content[at : at + 11] for at in range(0, len(content), 11)], link=147))
    assert frames(found) == FRAMES


def test_a_file_of_packets_cut_at_any_byte_still_opens(tmp_path: Path) -> None:
    for content in (pcap(map(ip4, connection(framed(FRAMES)))), pcapng(map(ip4, connection(framed(FRAMES))))):
        for cut in range(40, len(content), 61):
            found = frames(read(tmp_path / "x", content[:cut]))
            assert found == FRAMES[: len(found)]


@settings(max_examples=60)
@given(
    st.sampled_from([b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\x0a\x0d\x0d\x0a"]), st.binary(max_size=400), st.data()
)
def test_no_file_of_packets_is_a_fault(
    tmp_path_factory: pytest.TempPathFactory, magic: bytes, content: bytes, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("x") / "x"
    read(path, magic + content)
    real = bytearray(pcapng(map(ip4, connection(framed(FRAMES), size=1500))))
    for _ in range(3):
        real[data.draw(st.integers(12, len(real) - 1))] = data.draw(st.integers(0, 255))
    read(path, bytes(real))
