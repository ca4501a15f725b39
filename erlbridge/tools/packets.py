"""The packets of a pcap or pcapng file, down to what TCP carries. Reads what tcpdump, dumpcap and text2pcap write.

Known are Ethernet, Linux's cooked captures, loopback, bare IP, and the link types that are free for users (147 to 162),
whose packets are taken for pieces of one stream, as of a pipe. Every length is checked; nothing is kept.

Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct, error
from typing import BinaryIO, Final, Literal, TypeAlias

from erlbridge.wire.capture import CaptureError, Damage

ByteOrder: TypeAlias = Literal["big", "little"]

_CLASSIC: Final[dict[bytes, tuple[ByteOrder, int]]] = {
    b"\xa1\xb2\xc3\xd4": ("big", 1000),
    b"\xd4\xc3\xb2\xa1": ("little", 1000),
    b"\xa1\xb2\x3c\x4d": ("big", 1),
    b"\x4d\x3c\xb2\xa1": ("little", 1),
}
"""The byte order, and the nanoseconds of a fraction's unit."""
_SECTION: Final = b"\x0a\x0d\x0d\x0a"
PACKET_MAGICS: Final = (*_CLASSIC, _SECTION)
"""How files of packets begin."""

_MAX_BLOCK_BYTES: Final = 16 * 1024 * 1024
_MAX_INTERFACES: Final = 1024
_USER: Final = range(147, 163)
_TAGGED: Final = (b"\x81\x00", b"\x88\xa8")
_TCP: Final = 6
_EXTENSIONS: Final = (0, 43, 60)
"""Headers of IPv6 that stand before what it carries: hop by hop, routing, destination."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a stream.

    Attributes:
        offset: Of its packet in the file.
        time_ns: Since 1970.
        source, target: Who sends to whom, such as `10.0.0.1:4369`; empty where the packets are the stream itself.
        sequence: Of its first byte, by TCP; None where the packets are the stream itself.
        opens: Whether it is the stream's first (SYN).
    """

    offset: int
    time_ns: int
    source: str
    target: str
    sequence: int | None
    opens: bool
    data: bytes


def read_packets(file: BinaryIO) -> Iterator[Segment | Damage]:
    """The segments of a file of packets, in the file's order; packets of other protocols are passed over. What is
    behind damage is not read: there is no telling where the next packet begins.

    Raises `CaptureError` for what is no such file.
    """
    magic = file.read(4)
    if magic == _SECTION:
        packets = _blocks(file)
    elif magic in _CLASSIC:
        packets = _classic(file, *_CLASSIC[magic])
    else:
        raise CaptureError("no file of packets: it does not begin as one")
    for packet in packets:
        if isinstance(packet, Damage):
            yield packet
        elif (segment := _segment(*packet)) is not None:
            yield segment


_Packet: TypeAlias = tuple[int, int, int, bytes]
"""Offset, time, link type and bytes."""


def _classic(file: BinaryIO, order: ByteOrder, unit_ns: int) -> Iterator[_Packet | Damage]:
    link_type = int.from_bytes(file.read(20)[16:20], order) & 0xFFFF
    header = Struct((">" if order == "big" else "<") + "IIII")
    while True:
        offset = file.tell()
        head = file.read(header.size)
        if len(head) < header.size:
            if head:
                yield Damage(offset, len(head), "the file ends inside a packet's header")
            return
        seconds, fraction, size, _ = header.unpack(head)
        if size > _MAX_BLOCK_BYTES:
            yield Damage(offset, header.size, f"a packet of {size} bytes, limit {_MAX_BLOCK_BYTES}")
            return
        data = file.read(size)
        if len(data) < size:
            yield Damage(offset, header.size + len(data), "the file ends inside a packet")
            return
        yield offset, seconds * 10**9 + fraction * unit_ns, link_type, data


def _blocks(file: BinaryIO) -> Iterator[_Packet | Damage]:
    order: ByteOrder = "little"
    interfaces: list[tuple[int, int]] = []
    file.seek(0)
    while True:
        offset = file.tell()
        head = file.read(12)
        if head[:4] == _SECTION:
            order = "big" if head[8:12] == b"\x1a\x2b\x3c\x4d" else "little"
            interfaces = []
        size = int.from_bytes(head[4:8], order)
        if len(head) < 12 or not 12 <= size <= _MAX_BLOCK_BYTES or size % 4:
            if head:
                yield Damage(offset, len(head), f"a block of {size} bytes, expected 12 to {_MAX_BLOCK_BYTES}")
            return
        body = head[8:] + file.read(size - 12)
        if len(body) < size - 8:
            yield Damage(offset, 8 + len(body), "the file ends inside a block")
            return
        kind = int.from_bytes(head[:4], order)
        if kind == 1 and len(interfaces) < _MAX_INTERFACES:
            interfaces.append(_interface(body, order))
        elif kind in (3, 6):
            yield _of_block(kind, body, order, interfaces, offset)


def _interface(body: bytes, order: ByteOrder) -> tuple[int, int]:
    """Link type, and how many units of its clock a second has."""
    at, per_second = 8, 10**6
    while (code := int.from_bytes(body[at : at + 2], order)) and at + 4 < len(body):
        length = int.from_bytes(body[at + 2 : at + 4], order)
        if code == 9 and length == 1:  # if_tsresol
            power = body[at + 4]
            per_second = 2 ** (power & 0x7F) if power & 0x80 else 10 ** (power & 0x1F)
        at += 4 + length + -length % 4
    return int.from_bytes(body[:2], order), per_second


def _of_block(
    kind: int, body: bytes, order: ByteOrder, interfaces: list[tuple[int, int]], offset: int
) -> _Packet | Damage:
    number = int.from_bytes(body[:4], order) if kind == 6 else 0
    if number >= len(interfaces):
        return Damage(offset, 8 + len(body), f"a packet of interface {number}, of which the file says nothing")
    link_type, per_second = interfaces[number]
    if kind == 3:  # a simple packet, without a time
        size = int.from_bytes(body[:4], order)
        return offset, 0, link_type, body[4:-4][:size]
    ticks = int.from_bytes(body[4:8], order) << 32 | int.from_bytes(body[8:12], order)
    size = int.from_bytes(body[12:16], order)
    return offset, ticks * 10**9 // per_second, link_type, body[20:-4][:size]


def _segment(offset: int, time_ns: int, link_type: int, packet: bytes) -> Segment | None:
    if link_type in _USER:
        return Segment(offset, time_ns, "", "", None, opens=False, data=packet)
    try:
        return _of_ip(offset, time_ns, _carried(link_type, packet))
    except (IndexError, error):
        return None  # a packet that was cut off


def _carried(link_type: int, packet: bytes) -> bytes:
    """The IP packet in one of a link; nothing where it holds none."""
    match link_type:
        case 1:
            at = 12
            while packet[at : at + 2] in _TAGGED:
                at += 4
            return packet[at + 2 :] if packet[at : at + 2] in (b"\x08\x00", b"\x86\xdd") else b""
        case 0 | 108:
            return packet[4:]
        case 12 | 101 | 228 | 229:
            return packet
        case 113:
            return packet[16:]
        case 276:
            return packet[20:]
        case _:
            return b""


def _of_ip(offset: int, time_ns: int, packet: bytes) -> Segment | None:
    """What TCP carries in an IP packet. One in fragments is passed over: TCP makes none."""
    if not packet:
        return None
    if packet[0] >> 4 == 4:
        header = (packet[0] & 0x0F) * 4
        if packet[9] != _TCP or int.from_bytes(packet[6:8]) & 0x3FFF:
            return None
        end = int.from_bytes(packet[2:4]) or len(packet)  # 0 where the card was to fill it in
        source, target = (".".join(map(str, packet[at : at + 4])) for at in (12, 16))
    elif packet[0] >> 4 == 6:
        header, following = 40, packet[6]
        while following in _EXTENSIONS:
            following, header = packet[header], header + 8 + packet[header + 1] * 8
        if following != _TCP:
            return None
        end = 40 + int.from_bytes(packet[4:6]) if packet[4:6] != b"\0\0" else len(packet)
        source, target = (f"[{packet[at : at + 16].hex(':', 2)}]" for at in (8, 24))
    else:
        return None
    tcp = packet[header:end]
    source_port, target_port, sequence, _, length, flags = _TCP_HEADER.unpack_from(tcp)
    source, target = f"{source}:{source_port}", f"{target}:{target_port}"
    opens = bool(flags & 0x02)
    return Segment(offset, time_ns, source, target, sequence, opens, tcp[(length >> 4) * 4 :])


_TCP_HEADER: Final = Struct(">HHIIBB")
