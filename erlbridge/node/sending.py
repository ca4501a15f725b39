"""Answers above the frame limit, on their way to the host in chunks. Knows bytes and turns; writes nothing."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from erlbridge.codec import skip, tags
from erlbridge.core.datasets import PREFIX
from erlbridge.limits import MAX_OUTGOING_BYTES
from erlbridge.wire import messages
from erlbridge.wire.messages import Term
from erlbridge.wire.transfer import Outgoing
from erlbridge.wire.vocabulary import atom

_NONE: Final = atom("none")
_PARTS_AT: Final = 3
"""Where the parts of an answer's frame begin: behind the version, the tuple's tag and its arity."""


@dataclass(frozen=True, slots=True)
class _Sent:
    id: Term
    name: str
    stream: Outgoing


class Sending:
    """The answers that go out, a chunk of each in turn.

    Args:
        chunk_bytes: The longest chunk.
    """

    def __init__(self, chunk_bytes: int) -> None:
        self._chunk_bytes = chunk_bytes
        self._sent: dict[bytes, _Sent] = {}
        self._turns: deque[bytes] = deque()
        self._held_bytes = 0

    def __len__(self) -> int:
        return len(self._sent)

    def holds(self, key: bytes) -> bool:
        """Whether chunks of the answer with this key wait."""
        return key in self._sent

    def take(self, key: bytes, request_id: Term, frame: bytes) -> tuple[Term, ...] | None:
        """Takes the frame of an `{:ok, id, result}`, and gives the answer that goes before its chunks; None when too
        much waits already."""
        if self._held_bytes and self._held_bytes + len(frame) > MAX_OUTGOING_BYTES:
            return None
        result_at = skip(frame, skip(frame, _PARTS_AT))
        stream = Outgoing(bytes((tags.VERSION_MAGIC,)) + frame[result_at:], self._chunk_bytes)
        sent = self._sent[key] = _Sent(request_id, PREFIX + stream.sha256, stream)
        self._turns.append(key)
        self._held_bytes += stream.total_bytes
        about = {"chunks": stream.chunks, "bytes": stream.total_bytes, "sha256": stream.sha256}
        return messages.transfer(request_id, sent.name, about)

    def next(self) -> tuple[Term, ...]:
        """The next chunk, as an event; there must be one."""
        key = self._turns.popleft()
        sent = self._sent[key]
        index, data, is_final = sent.stream.next()
        if is_final:
            self._forget(key)
        else:
            self._turns.append(key)
        chunk = {
            "transfer": sent.name,
            "chunk_index": index,
            "data": data,
            "is_final": is_final,
            "compression": _NONE,
        }
        return messages.data_chunk(sent.id, chunk)

    def stop(self, key: bytes) -> None:
        """Drops what waits of an answer."""
        self._turns.remove(key)
        self._forget(key)

    def _forget(self, key: bytes) -> None:
        self._held_bytes -= self._sent.pop(key).stream.total_bytes
