"""What a host asks of transfers and datasets: the payloads that the node reads and answers itself, checked.

Knows payloads as values; knows no disk. What a stream must be is `wire.transfer`'s.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from erlbridge.core.datasets import read_dataset_name
from erlbridge.limits import MAX_CHUNK_BYTES, MAX_TRANSFER_NAME_BYTES
from erlbridge.wire.inflation import available
from erlbridge.wire.place import Place, given

_SHA256: Final = re.compile(r"[0-9a-f]{64}\Z")
_MOST_INDEX: Final = 2**40
_MOST_BYTES: Final = 2**62


@dataclass(frozen=True, slots=True)
class DataChunk:
    """One chunk of a transfer. The last one, and only that, has the `sha256` of the whole plain stream; the first one,
    and only that, may say how many bytes this stream has."""

    transfer: str
    index: int
    data: bytes
    compression: str
    sha256: str | None
    total_bytes: int | None = None

    @property
    def is_final(self) -> bool:
        """Whether it is the last one."""
        return self.sha256 is not None


@dataclass(frozen=True, slots=True)
class GetDataset:
    """At most `limit` bytes of a dataset's plain stream, from `offset`."""

    dataset: str
    offset: int
    limit: int


def parse_chunk(payload: object) -> DataChunk:
    """Raises `ValidationError` with the path, as every reader here."""
    place = Place(payload, "payload")
    entries = place.only(("transfer", "chunk_index", "data", "is_final", "compression", "sha256", "total_bytes"))
    data = place.required(entries, "data")
    if not isinstance(data.term, bytes):
        raise data.refused("a binary")
    if len(data.term) > MAX_CHUNK_BYTES:
        raise data.refused(f"a chunk of at most {MAX_CHUNK_BYTES} bytes, this one has {len(data.term)}")
    is_final = given(entries, "is_final") and entries["is_final"].boolean()
    sha256 = None
    if is_final:
        sha256 = place.required(entries, "sha256").text()
        if not _SHA256.match(sha256):
            raise entries["sha256"].refused("64 hexadecimal digits, lower case: of the whole stream, uncompressed")
    elif not data.term:
        raise data.refused("at least one byte; only the last chunk may have none")
    elif given(entries, "sha256"):
        raise entries["sha256"].refused("nothing beside `is_final: false`; the last chunk carries it")
    index = place.required(entries, "chunk_index").integer(minimum=0, maximum=_MOST_INDEX)
    total_bytes = None
    if given(entries, "total_bytes"):
        total_bytes = entries["total_bytes"].integer(minimum=1, maximum=_MOST_BYTES)
        if index:
            raise entries["total_bytes"].refused(
                "nothing beside another `chunk_index` than 0; the first chunk carries it"
            )
    return DataChunk(
        _name(place.required(entries, "transfer")),
        index,
        data.term,
        entries["compression"].choice(available()) if given(entries, "compression") else available()[0],
        sha256,
        total_bytes,
    )


def parse_transfer(payload: object) -> str:
    """The one transfer that a payload names."""
    place = Place(payload, "payload")
    return _name(place.required(place.only(("transfer",)), "transfer"))


def parse_get_dataset(payload: object, most_bytes: int) -> GetDataset:
    """The part of a dataset that is asked for; `most_bytes` is what the node gives at once."""
    place = Place(payload, "payload")
    entries = place.only(("dataset", "offset", "limit"))
    limit = entries["limit"].integer(minimum=0) if given(entries, "limit") else most_bytes
    return GetDataset(
        read_dataset_name(place.required(entries, "dataset")),
        entries["offset"].integer(minimum=0, maximum=_MOST_BYTES) if given(entries, "offset") else 0,
        min(limit, most_bytes),
    )


def _name(place: Place) -> str:
    found = place.text()
    if not 0 < len(found.encode()) <= MAX_TRANSFER_NAME_BYTES:
        raise place.refused(f"a name of 1 to {MAX_TRANSFER_NAME_BYTES} bytes")
    return found
