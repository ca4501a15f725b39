"""Takes what `archive_export` has written into a store. Whoever made the file may be hostile.

Only headers of the one form are taken: no links, no other names, no extension of the format that asks for memory. Each
thing is kept once all of its bytes were found to be those of its name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, Final, TypeAlias

from erlbridge.core.datasets import PREFIX
from erlbridge.errors import NotFound, TransferError, ValidationError
from erlbridge.limits import MAX_OUTGOING_BYTES, MAX_REPORT_BYTES
from erlbridge.store.archive import BLOCK, FORMAT, INDEX, READ_BYTES, Moved, Read, filling
from erlbridge.store.contents import SUFFIX, Contents
from erlbridge.store.datasets import STREAM, DatasetStore
from erlbridge.store.models import MODEL
from erlbridge.store.programs import PROGRAM
from erlbridge.store.reports import PREFIX as REPORT_PREFIX
from erlbridge.store.reports import Reports
from erlbridge.store.store import Store
from erlbridge.wire.transfer import Incoming

_Shelf: TypeAlias = Contents | DatasetStore | Reports

_NAME: Final = re.compile(r"(?:(?:programs|models|reports)/[0-9a-f]{64}\.etf|datasets/[0-9a-f]{64}|index)\Z")
_MOST_LINE_BYTES: Final = 256
"""Of the index."""
_LARGEST: Final = MAX_OUTGOING_BYTES
"""Of a program or a model, which stand in memory. No answer and no job holds a larger one."""


def take_in(store: Store, source: BinaryIO, quota_bytes: int, read: Read = lambda _: None) -> Iterator[Moved]:
    """Takes an archive in, one thing each time it is asked for the next. What is there already stays, so an import that
    was cut off is done again. What was not there is as old as the archive says, and was used now. All of it is on the
    disk itself when this ends.

    Args:
        source: Read once, from where it stands to the archive's end.
        quota_bytes: What datasets and transfers may take together.

    Raises `ValidationError` for what is no archive of a store, is damaged or cut off, and `OSError` when the disk
    refuses; what came before that place was taken.
    """
    taken: dict[str, tuple[_Shelf, int, bool]] = {}
    while True:
        name, size = _next(source)
        if name == INDEX:
            most = (len(taken) + 1) * _MOST_LINE_BYTES
            if size > most:
                raise _unfit(f"the archive's index has {size} bytes, expected at most {most}")
            _settle(_exactly(source, size), taken)
            os.sync()
            return
        room, digits = name.removesuffix(SUFFIX).split("/")
        places: dict[str, tuple[_Shelf, str]] = {
            "programs": (store.programs, PROGRAM.prefix),
            "models": (store.models, MODEL.prefix),
            "datasets": (store.datasets, PREFIX),
            "reports": (store.reports, REPORT_PREFIX),
        }
        shelf, prefix = places[room]
        full_name = prefix + digits
        if full_name in taken:
            raise _unfit(f"{name} is twice in the archive")
        match shelf:
            case Reports():
                known = _take_report(shelf, source, full_name, size)
                read(size)
            case Contents():
                known = _take_content(shelf, source, full_name, size)
                read(size)
            case _:
                _refuse_too_much(store, full_name, size, quota_bytes)
                known = _take_dataset(shelf, source, full_name, size, read)
        taken[full_name] = shelf, size, known
        yield Moved(room.removesuffix("s"), full_name, size, known)


def _next(source: BinaryIO) -> tuple[str, int]:
    """The next file's name and size."""
    block = _some(source, BLOCK)
    if len(block) < BLOCK or not any(block):
        raise _unfit("the archive is cut off: its last file, `index`, is missing")
    try:
        info = tarfile.TarInfo.frombuf(block, "ascii", "strict")
    except (tarfile.HeaderError, ValueError):
        raise _unfit("no header of a tar stands where one is expected; this is no archive of a store") from None
    if info.type != tarfile.REGTYPE or not _NAME.match(info.name) or info.size < 0:
        raise _unfit(f"an archive of a store holds no file {info.name!r} of type {info.type!r}")
    return info.name, info.size


def _take_content(shelf: Contents, source: BinaryIO, name: str, size: int) -> bool:
    if size > _LARGEST:
        raise _unfit(f"{name} has {size} bytes, limit {_LARGEST}")
    content = _exactly(source, size)
    if not shelf.is_whole(name, content):
        raise _unfit(f"{name} is damaged in the archive: its bytes are not those of its name")
    known = shelf.has(name)
    shelf.put(name, content, durable=False)  # ten thousand of them would wait for the disk for minutes
    return known


def _take_report(shelf: Reports, source: BinaryIO, name: str, size: int) -> bool:
    if size > 2 * MAX_REPORT_BYTES:
        raise _unfit(f"{name} has {size} bytes, limit {MAX_REPORT_BYTES}")
    try:
        return shelf.take(name, _exactly(source, size))
    except ValidationError as error:
        raise _unfit(f"{name} is damaged in the archive: {error.message}") from None


def _refuse_too_much(store: Store, name: str, size: int, quota_bytes: int) -> None:
    """What is here already takes no more room than it does, whatever an archive says of it; the rest fits the quota."""
    with contextlib.suppress(NotFound):  # or damaged: then it is new
        if store.datasets.describe(name).size_bytes != size:
            raise _unfit(f"{name} is damaged in the archive: it is here, and has not {size} bytes")
        return
    taken_bytes = sum(store.datasets.sizes()) + store.transfer_bytes()
    if taken_bytes + size > quota_bytes:
        raise _unfit(
            f"{name} has {size} bytes, and {taken_bytes} of {quota_bytes} (dataset_quota_bytes) are taken; make room, "
            "or raise it"
        )


def _take_dataset(shelf: DatasetStore, source: BinaryIO, name: str, size: int, read: Read) -> bool:
    known = shelf.has(name)
    incoming = Incoming("none")
    aside = shelf.begin()
    try:
        with open(aside / STREAM, "xb", buffering=0) as stream:
            os.fchmod(stream.fileno(), 0o600)
            for piece in _pieces(source, size):
                for part in incoming.take(piece):
                    _write(stream.fileno(), part)
                read(len(piece))
            os.fsync(stream.fileno())
        examples = incoming.finish(name.removeprefix(PREFIX))
        shelf.settle(aside, name, examples, size)
    except TransferError as error:
        raise _unfit(f"{name} is damaged in the archive: {error.message}") from None
    finally:
        shelf.discard(aside)
    return known


def _settle(content: bytes, taken: dict[str, tuple[_Shelf, int, bool]]) -> None:
    """Checks the index against what came, and notes how old each is that was not there."""
    lines = content.splitlines(keepends=True)
    try:
        *files, end = [json.loads(line) for line in lines]
        sound = (end["format"], end["count"]) == (FORMAT, len(files)) and (
            end["sha256"] == hashlib.sha256(b"".join(lines[:-1])).hexdigest()
        )
        sizes = {file["name"]: (file["size"], file["stored_at_ns"]) for file in files}
    except (ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound or {name: size for name, (size, _) in sizes.items()} != {n: size for n, (_, size, _) in taken.items()}:
        raise _unfit("the archive's index does not fit what came before it; it was changed, or put together by others")
    for name, (shelf, _, known) in taken.items():
        stored_at_ns = sizes[name][1]
        if not isinstance(shelf, Reports) and not known and type(stored_at_ns) is int and 0 <= stored_at_ns < 2**63:
            shelf.register.index.aged(name, stored_at_ns)


def _exactly(source: BinaryIO, size: int) -> bytes:
    return b"".join(_pieces(source, size))


def _pieces(source: BinaryIO, size: int) -> Iterator[bytes]:
    """A file's bytes, and what fills it up passed over."""
    left = size
    while left:
        piece = _some(source, min(READ_BYTES, left))
        if not piece:
            raise _unfit("the archive is cut off in the middle of a file")
        yield piece
        left -= len(piece)
    if len(_some(source, len(filling(size)))) < len(filling(size)):
        raise _unfit("the archive is cut off behind a file")


def _some(source: BinaryIO, size: int) -> bytes:
    """So many bytes; fewer at the end."""
    found = source.read(size)
    while len(found) < size and (more := source.read(size - len(found))):  # a pipe gives what it has
        found += more
    return found


def _write(descriptor: int, piece: bytes) -> None:
    left = memoryview(piece)
    while left:
        left = left[os.write(descriptor, left) :]


def _unfit(text: str) -> ValidationError:
    return ValidationError(text, "archive")
