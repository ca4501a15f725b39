"""What the node answers of transfers and datasets: the verbs' payloads read, and what each asks of the disk.

Reading is done at once, by the loop; the rest by the disk's thread. Knows the stores and the answers' shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from erlbridge.core.dataset_requests import parse_dataset, parse_list_datasets
from erlbridge.core.transfers import GetDataset, parse_chunk, parse_get_dataset, parse_transfer
from erlbridge.limits import MAX_CHUNK_BYTES, MAX_TRANSFER_WINDOW, MAX_WAITING_CHUNK_BYTES
from erlbridge.node.dataset_verbs import delete_dataset, list_datasets
from erlbridge.node.disk import Errand
from erlbridge.store.store import Store
from erlbridge.store.transfers import Transfers
from erlbridge.wire.messages import Term
from erlbridge.wire.vocabulary import atom, atom_keys

VERBS: Final = ("data_chunk", "transfer_status", "cancel_transfer", "get_dataset", "list_datasets", "delete_dataset")

_WINDOW: Final = atom("window")


def chunk_bytes(max_frame_bytes: int) -> int:
    """The longest chunk that the node sends: half of a frame, where that is short."""
    return min(MAX_CHUNK_BYTES, max_frame_bytes // 2)


def window(transfers: int) -> int:
    """How many chunks behind the acknowledged ones the host may send, of each of so many transfers: together they fit
    into what may wait."""
    return max(1, min(MAX_TRANSFER_WINDOW, MAX_WAITING_CHUNK_BYTES // MAX_CHUNK_BYTES // max(transfers, 1)))


@dataclass(frozen=True, slots=True)
class Quotas:
    """What transfers and datasets may take together, and what one transfer may; in bytes."""

    all_bytes: int
    transfer_bytes: int


class DataDesk:
    """The transfers and datasets of a store, by verb.

    Args:
        store: Where they lie.
        max_frame_bytes: Of this node's wire.
    """

    def __init__(self, store: Store, quotas: Quotas, max_frame_bytes: int) -> None:
        self._datasets = store.datasets
        self._transfers = Transfers(store.data / "transfers", self._datasets, quotas.all_bytes, quotas.transfer_bytes)
        self._chunk_bytes = chunk_bytes(max_frame_bytes)

    def work(self, verb: str, payload: Term, transfers: int) -> Errand:
        """What a request asks of the disk, where chunks of so many transfers wait for it. Raises `ValidationError` with
        the path."""
        match verb:
            case "data_chunk":
                chunk = parse_chunk(payload)
                left = window(transfers)
                return Errand(lambda: self._transfers.take(chunk) | {_WINDOW: left}, len(chunk.data), chunk.transfer)
            case "transfer_status":
                name = parse_transfer(payload)
                return Errand(lambda: self._transfers.status(name))
            case "cancel_transfer":
                name = parse_transfer(payload)
                return Errand(lambda: self._transfers.cancel(name))
            case "list_datasets":
                page = parse_list_datasets(payload)
                return Errand(lambda: list_datasets(self._datasets, page))
            case "delete_dataset":
                name = parse_dataset(payload)
                return Errand(lambda: delete_dataset(self._datasets, name))
            case _:
                wanted = parse_get_dataset(payload, self._chunk_bytes)
                return Errand(lambda: self._part(wanted))

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
