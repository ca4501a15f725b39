"""What a host asks of the datasets that a node keeps, beside their bytes: the payloads that the node reads and answers
itself, checked. Knows payloads as values; knows no disk.
"""

from __future__ import annotations

from erlbridge.core.datasets import is_dataset_name, read_dataset_name
from erlbridge.core.paging import Page, read_page
from erlbridge.wire.place import Place


def parse_list_datasets(payload: object) -> Page:
    """The stored datasets, newest first. Raises `ValidationError` with the path, as every reader here."""
    return read_page(payload, is_dataset_name)


def parse_dataset(payload: object) -> str:
    """The one dataset that a payload names."""
    place = Place(payload, "payload")
    return read_dataset_name(place.required(place.only(("dataset",)), "dataset"))
