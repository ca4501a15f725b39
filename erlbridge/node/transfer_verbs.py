"""What the node answers of transfers and datasets: the verbs' payloads read, and what each asks of the disk.

Reading is done at once, by the loop; the rest by the disk's thread. Knows the stores and the answers' shapes.
"""

from __future__ import annotations

from typing import Final

from erlbridge.core.dataset_requests import parse_dataset, parse_list_datasets
from erlbridge.core.transfers import GetDataset, parse_chunk, parse_get_dataset, parse_transfer
from erlbridge.limits import MAX_CHUNK_BYTES
from erlbridge.node.dataset_verbs import delete_dataset, list_datasets
from erlbridge.node.disk import Work
from erlbridge.store.store import Store
from erlbridge.store.transfers import Transfers
from erlbridge.wire.messages import Term
from erlbridge.wire.vocabulary import atom, atom_keys

VERBS: Final = ("data_chunk", "transfer_status", "cancel_transfer", "get_dataset", "list_datasets", "delete_dataset")


def chunk_bytes(max_frame_bytes: int) -> int:
    """The longest chunk that the node sends: half of a frame, where that is short."""
    return min(MAX_CHUNK_BYTES, max_frame_bytes // 2)


class DataDesk:
    """The transfers and datasets of a store, by verb.

    Args:
        store: Where they lie.
        quota_bytes: What transfers and datasets may take together.
        max_frame_bytes: Of this node's wire.
    """

    def __init__(self, store: Store, quota_bytes: int, max_frame_bytes: int) -> None:
        self._datasets = store.datasets
        self._transfers = Transfers(store.data / "transfers", self._datasets, quota_bytes)
        self._chunk_bytes = chunk_bytes(max_frame_bytes)

    def work(self, verb: str, payload: Term) -> tuple[Work, int]:
        """What a request asks of the disk, and how many bytes that holds. Raises `ValidationError` with the path."""
        match verb:
            case "data_chunk":
                chunk = parse_chunk(payload)
                return lambda: self._transfers.take(chunk), len(chunk.data)
            case "transfer_status":
                name = parse_transfer(payload)
                return lambda: self._transfers.status(name), 0
            case "cancel_transfer":
                name = parse_transfer(payload)
                return lambda: self._transfers.cancel(name), 0
            case "list_datasets":
                page = parse_list_datasets(payload)
                return lambda: list_datasets(self._datasets, page), 0
            case "delete_dataset":
                name = parse_dataset(payload)
                return lambda: delete_dataset(self._datasets, name), 0
            case _:
                wanted = parse_get_dataset(payload, self._chunk_bytes)
                return lambda: self._part(wanted), 0

    def _part(self, wanted: GetDataset) -> Term:
        found = self._datasets.find(wanted.dataset)
        data = self._datasets.read(found, wanted.offset, wanted.limit)
        return atom_keys(
            {
                "status": atom("success"),
                "dataset": found.name,
                "examples": found.examples,
                "bytes": found.size_bytes,
                "offset": wanted.offset,
                "data": data,
                "is_final": wanted.offset + len(data) >= found.size_bytes,
            }
        )
