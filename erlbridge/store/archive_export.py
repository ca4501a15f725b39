"""Writes a store into one file, which `archive_import` takes in again. See `archive`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import BinaryIO

from erlbridge.core.datasets import PREFIX
from erlbridge.errors import NotFound
from erlbridge.store.archive import BLOCK, FORMAT, INDEX, READ_BYTES, Moved, Read, filling, header
from erlbridge.store.contents import Contents
from erlbridge.store.datasets import DatasetStore
from erlbridge.store.reports import DIRECTORY as REPORTS
from erlbridge.store.reports import report_name
from erlbridge.store.store import Store


def export(store: Store, out: BinaryIO, read: Read = lambda _: None) -> Iterator[Moved]:
    """Writes everything that is stored, one thing each time it is asked for the next; the archive is whole at the end.

    Each thing is checked before it is written, and left out with its fault when it is damaged. Raises `OSError`; what
    was written by then is no whole archive, and is refused as such.
    """
    lines: list[str] = []
    for shelf in store.shelves:
        index = shelf.register.index
        for there in shelf.found():
            entry = index.get(there.name) or there
            try:
                size = _write(shelf, entry.name, out, read)
            except NotFound as missing:
                yield Moved(index.kind, entry.name, there.size_bytes, fault=missing.message)
                continue
            lines.append(json.dumps({"name": entry.name, "size": size, "stored_at_ns": entry.stored_at_ns}))
            yield Moved(index.kind, entry.name, size)
    for program_id, blob in store.reports.all():
        name = report_name(program_id)
        try:
            content = store.reports.file(program_id)
        except NotFound as missing:
            yield Moved("report", name, blob.size_bytes, fault=missing.message)
            continue
        _write_file(out, f"{REPORTS}/{blob.name}", content)
        read(len(content))
        lines.append(json.dumps({"name": name, "size": len(content), "stored_at_ns": blob.modified_at_ns}))
        yield Moved("report", name, len(content))
    listed = "".join(f"{line}\n" for line in lines).encode()
    end = json.dumps({"format": FORMAT, "count": len(lines), "sha256": hashlib.sha256(listed).hexdigest()})
    _write_file(out, INDEX, listed + f"{end}\n".encode())
    out.write(bytes(2 * BLOCK))
    out.flush()


def _write(shelf: Contents | DatasetStore, name: str, out: BinaryIO, read: Read) -> int:
    if isinstance(shelf, Contents):
        content = shelf.check(name)
        _write_file(out, f"{shelf.kind.directory}/{shelf.file(name)}", content)
        read(len(content))
        return len(content)
    # Read twice, the second time mostly from the system's cache: what has begun to go out cannot be taken back.
    found = shelf.check(name)
    try:
        stream = open(found.path, "rb", buffering=0)  # noqa: SIM115 - closed below, and told apart from the writing
    except FileNotFoundError:
        raise NotFound("deleted meanwhile") from None
    with stream:
        out.write(header(f"datasets/{name.removeprefix(PREFIX)}", found.size_bytes))
        left = found.size_bytes
        while piece := stream.read(min(READ_BYTES, left)):
            out.write(piece)
            read(len(piece))
            left -= len(piece)
        if left:
            raise OSError(f"{name} has become shorter while it was read")
    out.write(filling(found.size_bytes))
    return found.size_bytes


def _write_file(out: BinaryIO, name: str, content: bytes) -> None:
    out.write(header(name, len(content)))
    out.write(content)
    out.write(filling(len(content)))
