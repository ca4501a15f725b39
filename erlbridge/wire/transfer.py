"""A transfer: one stream of examples in chunks. Sans-IO: chunks in, the plain stream out, piece by piece.

The stream is examples, each a 4-byte length and a term; chunks are cuts of it, or of one zlib stream over all of it.
Everything is checked as it comes, so that nothing has to be held: the framing, the sizes, the sum. Knows bytes; knows
no disk and no message.
"""

from __future__ import annotations

import copy
import struct
from collections.abc import Iterator, Mapping
from typing import Final

from erlbridge.codec.scan import count_maps
from erlbridge.errors import TransferError
from erlbridge.limits import MAX_EXAMPLE_BYTES
from erlbridge.wire.frames import HEADER_BYTES
from erlbridge.wire.inflation import Broken, inflation
from erlbridge.wire.vocabulary import atom

_HEAD: Final = struct.Struct(">IH")
"""An example's length, and the first two bytes of its term."""
LEAST_FRAMED_BYTES: Final = HEADER_BYTES + 6
"""What an example takes in a stream, at least: the empty map."""


def refused(reason: str, message: str, **context: object) -> TransferError:
    """The error of a transfer; `reason` is one of `vocabulary.TRANSFER_REASONS`."""
    details: Mapping[str, object] = {"reason": atom(reason), **context}
    return TransferError(message, context=details)


class Framing:
    """Counts the examples of a stream, cut anywhere, without building them.

    An example is a map, not compressed by itself: what unpacks to gigabytes later would pass all limits here.

    >>> framing = Framing()
    >>> framing.feed(bytes.fromhex("00000006 837400"))
    >>> framing.feed(bytes.fromhex("000000"))
    >>> framing.finish()
    1
    """

    def __init__(self, limit_bytes: int = MAX_EXAMPLE_BYTES) -> None:
        self.examples = 0
        self._limit_bytes = limit_bytes
        self._head = b""
        self._left = 0
        """Bytes of the example that has begun."""

    def feed(self, piece: bytes) -> None:
        """Takes the next bytes. Raises `TransferError` for what is no example."""
        data = self._head + piece if self._head else piece
        self._head = b""
        at, end = self._left, len(data)
        count, at = count_maps(data, at, self._limit_bytes)
        self.examples += count
        if at + _HEAD.size <= end:
            raise self._refused(*_HEAD.unpack_from(data, at))
        self._head = data[at:end] if at < end else b""
        self._left = max(0, at - end)

    def finish(self) -> int:
        """The stream has ended: how many examples it held. Raises `TransferError` for one that is cut off."""
        if self._head or self._left:
            raise refused("corrupt", f"the stream ends inside example {self.examples}; send it anew, whole")
        if not self.examples:
            raise refused("empty", "a dataset has at least one example, and this stream has none")
        return self.examples

    def _refused(self, length: int, head: int) -> TransferError:
        if length > self._limit_bytes:
            text = f"is {length} bytes long, limit {self._limit_bytes}"
        else:
            text = f"is {length} bytes that begin with {head >> 8}, {head & 0xFF}"
        return refused(
            "corrupt",
            f"example {self.examples} {text}; each is a 4-byte length and a map in External Term Format, uncompressed",
        )


class Incoming:
    """A transfer as far as it has come. After an error it is of no use any more.

    Args:
        compression: One of `inflation.available`.
        total_bytes: How long the plain stream is, where its sender has said so.
        most_bytes: How long it may be.

    Attributes:
        next_index: The chunk that comes next.
        received_bytes, plain_bytes: Of the chunks, and of the stream that they hold.

    >>> import hashlib
    >>> stream = bytes.fromhex("00000006 8374 00000000")
    >>> incoming = Incoming("none")
    >>> [bytes(piece) for piece in incoming.take(stream)] == [stream], incoming.next_index
    (True, 1)
    >>> incoming.finish(hashlib.sha256(stream).hexdigest())
    1
    """

    def __init__(self, compression: str, total_bytes: int | None = None, most_bytes: int | None = None) -> None:
        import hashlib  # noqa: PLC0415 - 5 ms that the node's start does not wait for

        if total_bytes is not None and most_bytes is not None and total_bytes > most_bytes:
            raise _above_quota(total_bytes, most_bytes)
        self.compression = compression
        self.total_bytes = total_bytes
        self.next_index = 0
        self.received_bytes = 0
        self.plain_bytes = 0
        self._most_bytes = most_bytes
        self._sum = hashlib.sha256()
        self._framing = Framing()
        try:
            self._inflation = inflation(compression)
        except Broken as why:
            raise refused("corrupt", f"{why}; send the stream anew, with another compression") from None

    def take(self, data: bytes) -> Iterator[bytes]:
        """Takes the next chunk; gives the plain stream that it holds, piece by piece. It counts as taken when the last
        piece has been asked for. Raises `TransferError` as soon as something is no stream of examples."""
        for piece in self._plain(data):
            self._count(len(piece))
            self._framing.feed(piece)
            self._sum.update(piece)
            yield piece
        self.next_index += 1
        self.received_bytes += len(data)

    def sum_so_far(self) -> bytes:
        """SHA-256 of the plain stream up to here. It costs a microsecond, however much that is."""
        return self._sum.digest()

    def finish(self, sha256: str) -> int:
        """The last chunk has been taken: how many examples there are. Raises `TransferError` when the stream is not
        whole, or is not the one whose SHA-256, 64 hexadecimal digits, is given."""
        if self._inflation is not None and not self._inflation.is_over:
            raise refused("corrupt", f"the {self.compression} stream does not end with the last chunk; send it anew")
        if self.total_bytes is not None and self.plain_bytes != self.total_bytes:
            raise self._another_size("has", self.plain_bytes)
        examples = self._framing.finish()
        if (found := self._sum.hexdigest()) != sha256:
            raise refused("checksum", f"the stream's sha256 is {found}, expected {sha256}; send it anew, from chunk 0")
        return examples

    def _plain(self, data: bytes) -> Iterator[bytes]:
        if self._inflation is None:
            if data:
                yield data
            return
        if self._inflation.is_over:
            if data:
                raise refused(
                    "corrupt", f"the {self.compression} stream ended in an earlier chunk; send it anew, as one"
                )
            return
        try:
            yield from self._inflation.take(data)
        except Broken as why:
            raise refused("corrupt", f"no {self.compression} stream goes on like this: {why}; send it anew") from None

    def _count(self, size: int) -> None:
        self.plain_bytes += size
        if self.total_bytes is not None and self.plain_bytes > self.total_bytes:
            raise self._another_size("has at least", self.plain_bytes)
        if self._most_bytes is not None and self.plain_bytes > self._most_bytes:
            raise _above_quota(self.plain_bytes, self._most_bytes)

    def _another_size(self, has: str, size: int) -> TransferError:
        return refused(
            "size",
            f"the stream {has} {size} bytes, and its first chunk said {self.total_bytes}; send it anew, from chunk 0",
            limit=self.total_bytes,
        )


def _above_quota(size: int, most: int) -> TransferError:
    return refused(
        "quota",
        f"one transfer may have {most} bytes before compression, and this one has {size} or more; send it as several "
        "datasets, or raise transfer_quota_bytes",
        limit=most,
    )


class Outgoing:
    """One term on its way out in chunks, uncompressed: a 4-byte length and the term, `head` and `rest` of it together.
    The rest is not copied: it may be most of the memory that there is.

    >>> outgoing = Outgoing(b"term", chunk_bytes=6)
    >>> outgoing.chunks, outgoing.total_bytes
    (2, 8)
    >>> outgoing.next(), outgoing.next()
    ((0, b'\\x00\\x00\\x00\\x04te', False), (1, b'rm', True))
    """

    def __init__(self, rest: bytes | memoryview, chunk_bytes: int, head: bytes = b"") -> None:
        import hashlib  # noqa: PLC0415 - as above

        self._head = (len(head) + len(rest)).to_bytes(HEADER_BYTES) + head
        self._rest = memoryview(rest)
        self._chunk_bytes = chunk_bytes
        self._index = 0
        summed = hashlib.sha256(self._head)
        summed.update(self._rest)
        self.sha256 = summed.hexdigest()
        self.total_bytes = len(self._head) + len(rest)
        self.chunks = -(-self.total_bytes // chunk_bytes)

    def again(self) -> Outgoing:
        """The same chunks from the first one on, of the same bytes in memory."""
        other = copy.copy(self)
        other._index = 0
        return other

    @property
    def is_over(self) -> bool:
        """Whether every chunk has been given."""
        return self._index == self.chunks

    def next(self) -> tuple[int, bytes, bool]:
        """The next chunk: its index, its bytes, and whether it is the last."""
        index = self._index
        start, before = index * self._chunk_bytes, len(self._head)
        end = start + self._chunk_bytes
        data = self._head[start:end] + self._rest[max(0, start - before) : max(0, end - before)]
        self._index += 1
        return index, data, self.is_over
