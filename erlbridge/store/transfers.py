"""Transfers that come in: what becomes of each chunk, and where a transfer goes on, also after a restart of the node.

    transfers/<64 digits>.chunks, .part    one that goes on, as `transfer_files` keeps it
    transfers/<64 digits>.over             what became of one, for whoever asks once more

The digits are the SHA-256 of a transfer's name, so that no name leaves the directory.

Blocks on the disk: not for the node's loop. Knows bytes and names, not what they mean.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from erlbridge.codec import binary_to_term, term_to_binary
from erlbridge.core.datasets import PREFIX, is_dataset_name
from erlbridge.core.transfers import DataChunk
from erlbridge.errors import Cancelled, DecodeError, NotFound, TransferError
from erlbridge.limits import MAX_CHUNK_BYTES, MAX_OPEN_TRANSFERS, TRANSFER_KEPT_S
from erlbridge.store.beside import Beside
from erlbridge.store.datasets import DatasetStore
from erlbridge.store.files import sync_directory
from erlbridge.store.transfer_files import CHUNKS, PART, TransferFiles
from erlbridge.wire.transfer import refused
from erlbridge.wire.vocabulary import atom, atom_keys

Told: TypeAlias = dict[object, object]
"""How far a transfer is, as the wire has it."""

_OVER: Final = ".over"
_LOOK_BYTES: Final = 64 * 1024 * 1024
_LOOK_S: Final = 10.0
"""How much is written, and how much time passes, between two looks at what the directories hold: other nodes write
there too. A look takes 0.15 s where ten thousand datasets lie, which not each of them shall have to wait for."""
_SWEEP_INTERVAL_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Over:
    """What became of a transfer; `dataset` is empty when it was cancelled."""

    dataset: str
    next_index: int
    received_bytes: int


class Transfers:
    """The transfers of a data directory, each by its name.

    Args:
        directory: Where they lie; made when the first one comes.
        datasets: Where they go when they are whole; on the same disk.
        quota_bytes: What both together may take.
        transfer_quota_bytes: What the plain stream of one may have.

    Every method may raise `TransferError`, which ends a transfer whose content is wrong, and `OSError` when the disk
    refuses: then the transfer goes on behind what was acknowledged.
    """

    def __init__(
        self, directory: Path, datasets: DatasetStore, quota_bytes: int, transfer_quota_bytes: int | None = None
    ) -> None:
        self._directory = directory
        self._datasets = datasets
        self._quota_bytes = quota_bytes
        self._transfer_quota_bytes = transfer_quota_bytes
        self._left_bytes = 0
        """What may be kept beyond what the last look found and was written since; `_unseen_bytes` is the latter."""
        self._unseen_bytes = 0
        self._look_at = 0.0
        self._open: dict[str, TransferFiles] = {}
        self._beside = Beside(MAX_CHUNK_BYTES)
        self._sweep_at = 0.0

    def take(self, chunk: DataChunk) -> Told:
        """Takes a chunk and gives where to go on. One that was taken before is acknowledged once more; chunk 0 of a
        transfer that is over begins it anew."""
        name = chunk.transfer
        files = self._files(name)
        if files is None and chunk.index > 0 and (over := self._over(name)) is not None:
            return _repeated(chunk, over)
        if files is None and chunk.index == 0:
            files = self._begun(chunk)
        expected = files.incoming.next_index if files else 0
        if files is None or chunk.index > expected:
            raise refused(
                "gap", f"chunk {chunk.index} came where {expected} is the next; go on from there", next_index=expected
            )
        if chunk.index < expected:
            return _going_on(name, files)
        with self._guarded(name, files):
            return self._add(files, chunk)

    def status(self, name: str) -> Told:
        """Where a transfer goes on: at 0 when there is none of this name."""
        if (files := self._files(name)) is not None:
            return _going_on(name, files)
        over = self._over(name)
        if over is not None and over.dataset:
            return _told("finished", name, over.next_index, over.received_bytes, over.dataset)
        return _told("not_found", name, 0, 0)

    def cancel(self, name: str) -> Told:
        """Forgets a transfer, and refuses the chunks of it that are on their way; one that is finished stays so."""
        if (files := self._files(name)) is not None:
            self._note(name, _Over("", files.incoming.next_index, files.incoming.received_bytes))
            self._end(name, files)
        return self.status(name)

    def close(self) -> None:
        """Lets go of all files; another node may go on with them."""
        while self._open:
            self._open.popitem()[1].close()
        self._beside.close()

    # -- chunks

    def _add(self, files: TransferFiles, chunk: DataChunk) -> Told:
        incoming = files.incoming
        if chunk.compression != incoming.compression:
            raise refused("corrupt", f"a chunk with compression {chunk.compression} after {incoming.compression}")
        files.take(chunk.data, self._spend, is_final=chunk.is_final)
        if chunk.sha256 is None:
            return _going_on(chunk.transfer, files)
        examples = incoming.finish(chunk.sha256)
        files.sync()
        dataset = PREFIX + chunk.sha256
        over = _Over(dataset, incoming.next_index, incoming.received_bytes)
        self._note(chunk.transfer, over)  # first: it holds from the moment in which the dataset is there
        self._datasets.adopt(files.part, dataset, examples)
        self._end(chunk.transfer, files)
        return _told("finished", chunk.transfer, over.next_index, over.received_bytes, dataset)

    @contextlib.contextmanager
    def _guarded(self, name: str, files: TransferFiles) -> Iterator[None]:
        """What is no dataset is forgotten whole. What the disk refused is cut back to what was acknowledged, and read
        again from there."""
        try:
            yield
        except TransferError:
            if self._open.pop(name, None) is not None:
                files.remove()
            raise
        except BaseException:
            if self._open.pop(name, None) is not None:
                with contextlib.suppress(OSError):  # a record that is not whole shows when it is read
                    files.cut()
                files.close()
            raise

    def _spend(self, size: int) -> None:
        """So many bytes are to be written. Raises `TransferError` when they are too many."""
        self._allow(size)
        self._left_bytes -= size
        self._unseen_bytes += size

    def _allow(self, size: int) -> None:
        """Raises `TransferError` when so many bytes more are too many; not without a look."""
        now = time.monotonic()
        if size <= self._left_bytes and self._unseen_bytes < _LOOK_BYTES and now < self._look_at:
            return
        self._left_bytes = self._quota_bytes - sum(_sizes(self._directory)) - sum(self._datasets.sizes())
        self._unseen_bytes = 0
        self._look_at = now + _LOOK_S
        if size > self._left_bytes:
            raise refused(
                "quota",
                f"transfers and datasets may take {self._quota_bytes} bytes together, and this one would be more; "
                "make room, or raise dataset_quota_bytes",
                limit=self._quota_bytes,
            )

    # -- what lies on the disk

    def _begun(self, chunk: DataChunk) -> TransferFiles:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.sweep()
        if chunk.total_bytes is not None:
            self._allow(chunk.total_bytes)  # nothing is sent in vain
        # First, so that a transfer which has both was about to be over, or was, when its node was killed.
        self._base(chunk.transfer).with_suffix(_OVER).unlink(missing_ok=True)
        files = TransferFiles.begin(
            self._base(chunk.transfer), self._beside, chunk.compression, chunk.total_bytes, self._transfer_quota_bytes
        )
        self._remember(chunk.transfer, files)
        return files

    def _files(self, name: str) -> TransferFiles | None:
        files = self._open.pop(name, None)
        if files is None and self._over(name) is None:
            self._datasets.give_back(self._base(name).with_suffix(PART))
            files = TransferFiles.resume(self._base(name), self._beside, self._transfer_quota_bytes)
        if files is not None:
            self._remember(name, files)
        return files

    def _remember(self, name: str, files: TransferFiles) -> None:
        self._open[name] = files  # the newest is the last
        while len(self._open) > MAX_OPEN_TRANSFERS:
            self._open.pop(next(iter(self._open))).close()

    def _over(self, name: str) -> _Over | None:
        """What became of a transfer, None when nobody knows, or when the dataset that it gave is gone."""
        try:
            match binary_to_term(self._base(name).with_suffix(_OVER).read_bytes()):
                case (bytes() as dataset, int() as next_index, int() as received_bytes):
                    over = _Over(dataset.decode(errors="replace"), next_index, received_bytes)
                case _:
                    return None
            if over.dataset and not is_dataset_name(over.dataset):
                return None
            if over.dataset:
                self._datasets.find(over.dataset)
        except (FileNotFoundError, DecodeError, NotFound):
            return None
        return over

    def _note(self, name: str, over: _Over) -> None:
        base = self._base(name)
        aside = base.with_suffix(".new")
        aside.write_bytes(term_to_binary((over.dataset, over.next_index, over.received_bytes)))
        aside.rename(base.with_suffix(_OVER))

    def _end(self, name: str, files: TransferFiles) -> None:
        self._open.pop(name, None)
        with contextlib.suppress(OSError):  # it is over all the same, and the next look at what is old removes them
            files.remove()
        sync_directory(self._directory)

    def sweep(self) -> None:
        """Removes what nobody has gone on with, or asked for, for long; looks once a minute at most."""
        if (now := time.monotonic()) < self._sweep_at:
            return
        self._sweep_at = now + _SWEEP_INTERVAL_S
        self._datasets.sweep(TRANSFER_KEPT_S)
        with os.scandir(self._directory) as entries:
            old = [entry.path for entry in entries if _age_s(entry) > TRANSFER_KEPT_S]
        held = {str(self._base(name)) for name in self._open}
        for path in old:
            base = Path(path).with_suffix("")
            if str(base) in held:
                continue
            if Path(path).suffix != CHUNKS:
                if not base.with_suffix(CHUNKS).exists():
                    Path(path).unlink(missing_ok=True)
                continue
            with contextlib.suppress(TransferError):  # another node's
                found = TransferFiles.begin(base, self._beside, "none")
                found.remove()

    def _base(self, name: str) -> Path:
        import hashlib  # noqa: PLC0415 - 5 ms that the node's start does not wait for

        return self._directory / hashlib.sha256(name.encode()).hexdigest()


def _repeated(chunk: DataChunk, over: _Over) -> Told:
    if not over.dataset:
        raise Cancelled("this transfer was cancelled; chunk 0 begins it anew")
    if chunk.sha256 is not None and PREFIX + chunk.sha256 != over.dataset:
        raise refused("checksum", f"the transfer of this name was {over.dataset}; send another stream from chunk 0 on")
    return _told("finished", chunk.transfer, over.next_index, over.received_bytes, over.dataset)


def _going_on(name: str, files: TransferFiles) -> Told:
    return _told("receiving", name, files.incoming.next_index, files.incoming.received_bytes)


def _told(status: str, name: str, next_index: int, received_bytes: int, dataset: str | None = None) -> Told:
    return atom_keys(
        {
            "status": atom(status),
            "transfer": name,
            "next_index": next_index,
            "received_bytes": received_bytes,
            "dataset": dataset,
        }
    )


def _sizes(directory: Path) -> Iterator[int]:
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                yield entry.stat(follow_symlinks=False).st_size


def _age_s(entry: os.DirEntry[str]) -> float:
    try:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return 0.0
