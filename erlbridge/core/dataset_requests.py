"""What a host asks of the datasets that a node keeps, beside their bytes: the payloads that the node reads and answers
itself, checked. Knows payloads as values; knows no disk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from erlbridge.core.datasets import read_dataset_name
from erlbridge.limits import LISTED_DATASETS, MAX_LISTED_DATASETS
from erlbridge.wire.place import Place, given

_CURSOR: Final = re.compile(r"(-?[0-9]{1,19})/(sha256:[0-9a-f]{64})\Z")


@dataclass(frozen=True, slots=True)
class ListDatasets:
    """The stored datasets, newest first: at most `limit` of them, those behind the place `after`: when one was stored,
    in nanoseconds since 1970, and its name. It stays a place when that dataset is deleted."""

    limit: int
    after: tuple[int, str] | None


def parse_list_datasets(payload: object) -> ListDatasets:
    """Raises `ValidationError` with the path, as every reader here."""
    place = Place(payload, "payload")
    entries = place.only(("limit", "after"))
    limit = LISTED_DATASETS
    if given(entries, "limit"):
        limit = entries["limit"].integer(minimum=1, maximum=MAX_LISTED_DATASETS)
    return ListDatasets(limit, _read_place(entries["after"]) if given(entries, "after") else None)


def parse_dataset(payload: object) -> str:
    """The one dataset that a payload names."""
    place = Place(payload, "payload")
    return read_dataset_name(place.required(place.only(("dataset",)), "dataset"))


def told_place(stored_at_ns: int, name: str) -> str:
    """A place in the list as a host sends it back."""
    return f"{stored_at_ns}/{name}"


def _read_place(place: Place) -> tuple[int, str]:
    expected = "the `next` of an earlier answer"
    found = _CURSOR.match(place.text(expected))
    if found is None:
        raise place.refused(expected)
    return int(found[1]), found[2]
