"""Answers above the frame limit, on their way to the host in chunks. Knows bytes and turns; writes nothing."""

from __future__ import annotations

from collections import Counter, deque
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
        self._users: Counter[str] = Counter()
        self._newest: tuple[Term, Outgoing] | None = None

    def __len__(self) -> int:
        return len(self._sent)

    def holds(self, key: bytes) -> bool:
        """Whether chunks of the answer with this key wait."""
        return key in self._sent

    def take(self, key: bytes, request_id: Term, result: Term, frame: bytes) -> tuple[Term, ...] | None:
        """Takes an `{:ok, id, result}`, whose frame this is. Gives the answer that goes before its chunks; None when
        too much waits already."""
        if self._held_bytes and self._held_bytes + len(frame) > MAX_OUTGOING_BYTES:
            return None
        result_at = skip(frame, skip(frame, _PARTS_AT))
        stream = Outgoing(memoryview(frame)[result_at:], self._chunk_bytes, bytes((tags.VERSION_MAGIC,)))
        if self._users[PREFIX + stream.sha256]:  # the same bytes, of another job
            stream = next(sent.stream for sent in self._sent.values() if sent.stream.sha256 == stream.sha256).again()
        self._newest = result, stream
        return self._add(key, request_id, stream)

    def take_again(self, key: bytes, request_id: Term, result: Term) -> tuple[Term, ...] | None:
        """The same where this very value was the newest that was taken, for others who wait for it; None where not. Its
        bytes are there, and are held once."""
        if self._newest is None or self._newest[0] is not result:
            return None
        return self._add(key, request_id, self._newest[1].again())

    def let_go(self) -> None:
        """Nobody else is about to be answered with the newest value."""
        self._newest = None

    def _add(self, key: bytes, request_id: Term, stream: Outgoing) -> tuple[Term, ...]:
        sent = self._sent[key] = _Sent(request_id, PREFIX + stream.sha256, stream)
        self._turns.append(key)
        self._users[sent.name] += 1
        if self._users[sent.name] == 1:
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
        sent = self._sent.pop(key)
        self._users[sent.name] -= 1
        if not self._users[sent.name]:
            del self._users[sent.name]
            self._held_bytes -= sent.stream.total_bytes
