"""A store's blobs on any file system that fsspec reaches, for nodes on several machines.

What such a system is, and how one logs in there, is its own package's business and the environment's; `remote_system`
gives its answers bounds. What was put is known to be there whole before anybody is told so.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final

from erlbridge.store.blob_cache import BlobCache
from erlbridge.store.blobs import Blob
from erlbridge.store.files import ASIDE
from erlbridge.store.remote_system import BlobsRefused, RemoteSystem

DAMAGED: Final = ".damaged"
_PUTS_WHOLE: Final = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"})
"""Systems in which an object appears whole or not at all. In all others it is written aside and renamed."""

_PIECE_BYTES: Final = 2**20
_TIMES: Final = ("mtime", "LastModified", "last_modified", "updated", "created")
"""What systems call the time when a file was changed; the last, that of its name too where both are known."""


class RemoteBlobs:
    """`Blobs` under an address such as `s3://bucket/erlbridge`, shared by all nodes that have it.

    Args:
        address: As fsspec knows it. Nothing is reached, and fsspec not imported, before the first use.
        cache: Keeps on this machine what was read. It is served only while the system says that nothing changed.
        clock: Seconds that only go up.
    """

    def __init__(self, address: str, cache: BlobCache, clock: Callable[[], float] = time.monotonic) -> None:
        self._system = RemoteSystem(address, clock)
        self._cache = cache

    def put(self, kind: str, name: str, content: bytes, *, durable: bool = True) -> None:
        """As `Blobs.put`; how durable it is where it arrived is the system's affair, and never less than here."""
        del durable
        self._cache.drop(kind, name)

        def put(system: Any, root: str) -> None:
            path = f"{root}/{kind}/{name}"
            if _puts_whole(system):
                system.pipe_file(path, content)
            else:
                _write_aside(system, path, lambda file: file.write(content))
            _expect_size(system, path, len(content))

        self._system.call(put, len(content))

    def get(self, kind: str, name: str, limit_bytes: int = -1) -> bytes | None:
        info = self._info(kind, name)
        if info is None:
            self._cache.drop(kind, name)
            return None
        if 0 <= limit_bytes < info["size"]:
            return self._system.call(
                lambda system, root: _head(system, f"{root}/{kind}/{name}", limit_bytes), limit_bytes
            )
        version = repr(sorted((key, str(value)) for key, value in info.items()))
        if (cached := self._cache.get(kind, name, version)) is not None:
            return cached

        def get(system: Any, root: str) -> bytes | None:
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                return bytes(system.cat_file(f"{root}/{kind}/{name}"))
            return None

        content = self._system.call(get, int(info["size"]))
        if content is not None:
            self._expect_whole(name, len(content), info)
            self._cache.put(kind, name, version, content)
        return content

    def delete(self, kind: str, name: str, *, durable: bool = True) -> bool:  # noqa: ARG002 - a place's own matter
        self._cache.drop(kind, name)
        if not self.has(kind, name):  # an object store says nothing of what it did not find
            return False

        def delete(system: Any, root: str) -> bool:
            with contextlib.suppress(FileNotFoundError):
                system.rm_file(f"{root}/{kind}/{name}")
                return True
            return False  # another node was faster

        return self._system.call(delete)

    def set_aside(self, kind: str, name: str) -> str | None:
        self._cache.drop(kind, name)
        damaged = str(Path(name).with_suffix(DAMAGED))

        def rename(system: Any, root: str) -> str | None:
            with contextlib.suppress(FileNotFoundError):
                system.mv(f"{root}/{kind}/{name}", f"{root}/{kind}/{damaged}")
                return damaged
            return None

        return self._system.call(rename)

    def all(self, kind: str) -> Iterator[Blob]:
        return (_blob(found, _TIMES) for found in self._files(kind) if not _is_left(found))

    def leftovers(self, kind: str) -> Iterator[Blob]:
        """What is no blob: what was set aside and what nodes that were killed left half written; `modified_at_ns` is
        when it became that."""
        return (_blob(found, reversed(_TIMES)) for found in self._files(kind) if _is_left(found))

    def has(self, kind: str, name: str) -> bool:
        def has(system: Any, root: str) -> bool:
            with contextlib.suppress(FileNotFoundError):
                system.info(f"{root}/{kind}/{name}")  # not `exists`, which takes a refusal for a no
                return True
            return False

        return self._system.call(has)

    # -- what is too large for memory

    def upload(self, kind: str, name: str, source: Path) -> None:
        """Keeps a file's bytes, as `put` does."""
        size = source.stat().st_size

        def upload(system: Any, root: str) -> None:
            path = f"{root}/{kind}/{name}"
            if _puts_whole(system):
                system.put_file(str(source), path)
            else:
                with open(source, "rb", buffering=0) as file:
                    _write_aside(system, path, lambda into: _copy(file, into))
            _expect_size(system, path, size)

        self._system.call(upload, size)

    def download(self, kind: str, name: str, target: Path) -> bool:
        """Writes a blob's bytes into a new file, and has them on the disk; gives whether there was one."""
        info = self._info(kind, name)
        if info is None:
            return False

        def download(system: Any, root: str) -> bool:
            with contextlib.suppress(FileNotFoundError), system.open(f"{root}/{kind}/{name}", "rb") as source:
                with open(target, "wb", buffering=0) as file:  # anew, when it is tried again
                    _copy(source, file)
                    os.fsync(file.fileno())
                return True
            return False

        if not self._system.call(download, int(info["size"])):
            return False
        self._expect_whole(name, target.stat().st_size, info)
        return True

    def sha256(self, kind: str, name: str, read: Callable[[int], None]) -> str | None:
        """The digits of a blob's sum, None when there is none; `read` is told how many bytes were read."""
        import hashlib  # noqa: PLC0415 - 5 ms that the node's start does not wait for

        info = self._info(kind, name)
        if info is None:
            return None

        def sum_up(system: Any, root: str) -> tuple[int, str] | None:
            size, summed = 0, hashlib.sha256()
            with contextlib.suppress(FileNotFoundError), system.open(f"{root}/{kind}/{name}", "rb") as source:
                while piece := source.read(_PIECE_BYTES):
                    summed.update(piece)
                    read(len(piece))
                    size += len(piece)
                return size, summed.hexdigest()
            return None

        found = self._system.call(sum_up, int(info["size"]))
        if found is None:
            return None
        self._expect_whole(name, found[0], info)
        return found[1]

    def _expect_whole(self, name: str, size: int, info: Mapping[str, Any]) -> None:
        """A connection that was cut looks like the end of a file: what lies there is not damaged for that."""
        if size != info["size"]:
            raise BlobsRefused(f"{self._system.shown}: {name} broke off after {size} of {info['size']} bytes")

    # -- the system

    def _files(self, kind: str) -> list[Mapping[str, Any]]:
        def listed(system: Any, root: str) -> list[Mapping[str, Any]]:
            with contextlib.suppress(FileNotFoundError):
                return [found for found in system.ls(f"{root}/{kind}", detail=True) if _is_file(found)]
            return []

        return self._system.call(listed)

    def _info(self, kind: str, name: str) -> Mapping[str, Any] | None:
        """What the system knows of a blob, None when there is no such file."""

        def info(system: Any, root: str) -> Mapping[str, Any] | None:
            with contextlib.suppress(FileNotFoundError):
                found: Mapping[str, Any] = system.info(f"{root}/{kind}/{name}")
                return found if _is_file(found) else None
            return None

        return self._system.call(info)


def _puts_whole(system: Any) -> bool:
    names = system.protocol
    return not _PUTS_WHOLE.isdisjoint((names,) if isinstance(names, str) else names)


def _write_aside(system: Any, path: str, write: Callable[[IO[bytes]], object]) -> None:
    directory, _, _ = path.rpartition("/")
    system.makedirs(directory, exist_ok=True)
    aside = f"{directory}/{ASIDE}{secrets.token_hex(8)}"
    try:
        with system.open(aside, "wb") as file:
            write(file)
            file.flush()
            with contextlib.suppress(AttributeError, OSError):  # a file of this machine, or one mounted here
                os.fsync(file.fileno())
        system.mv(aside, path)
    except BaseException:
        with contextlib.suppress(Exception):
            system.rm_file(aside)
        raise


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    while piece := source.read(_PIECE_BYTES):
        left = memoryview(piece)
        while left:
            left = left[target.write(left) :]


def _head(system: Any, path: str, limit_bytes: int) -> bytes | None:
    with contextlib.suppress(FileNotFoundError):
        return bytes(system.cat_file(path, start=0, end=limit_bytes))
    return None


def _expect_size(system: Any, path: str, size: int) -> None:
    """A system that lost a part on the way has to say so before anybody hears that the blob is kept."""
    found = system.info(path)["size"]
    if found != size:
        raise BlobsRefused(f"{path.rpartition('/')[2]} has {found} bytes there, {size} were put")


def _is_file(info: Mapping[str, Any]) -> bool:
    return info.get("type") == "file" and isinstance(info.get("size"), int)


def _is_left(info: Mapping[str, Any]) -> bool:
    name = _name(info)
    return name.startswith(ASIDE) or name.endswith(DAMAGED)


def _name(info: Mapping[str, Any]) -> str:
    return str(info["name"]).rpartition("/")[2]


def _blob(info: Mapping[str, Any], times: Iterable[str]) -> Blob:
    changed = next((info[name] for name in times if name in info), 0)
    if isinstance(changed, str):  # RFC 3339, as Google's has it
        with contextlib.suppress(ValueError):
            changed = datetime.fromisoformat(changed)
    if isinstance(changed, datetime):
        changed = changed.timestamp()
    at_ns = round(changed * 1e9) if isinstance(changed, int | float) else 0
    return Blob(_name(info), int(info["size"]), at_ns)
