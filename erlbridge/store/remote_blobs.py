"""A store's blobs on any file system that fsspec reaches, for nodes on several machines. The one door to fsspec.

What such a system is, and how one logs in there, is its own package's business and the environment's. Here its answers
get bounds: an error of whatever class is an `OSError`, one that never comes is not waited for, and what was put is
known to be there whole before anybody is told so.
"""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final, TypeVar

from erlbridge.core.addresses import Address, parse_address, redacted
from erlbridge.store.blob_cache import BlobCache
from erlbridge.store.blobs import Blob
from erlbridge.store.files import ASIDE

Result = TypeVar("Result")

DAMAGED: Final = ".damaged"
_PUTS_WHOLE: Final = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"})
"""Systems in which an object appears whole or not at all. In all others it is written aside and renamed."""

_PATIENCE_S: Final = 30.0
"""How long any answer may take; packages try again by themselves meanwhile."""
_SLOWEST_BYTES_PER_S: Final = 2**20
_AWAY_S: Final = 5.0
"""How long a system that did not answer is left alone; meanwhile it refuses at once."""
_PIECE_BYTES: Final = 2**20
_TIMES: Final = ("mtime", "LastModified", "last_modified", "updated", "created")
"""What systems call the time when a file was changed; the last, that of its name too where both are known."""


class BlobsRefused(OSError):
    """The blobs cannot be reached now; what was asked for may be asked for again."""


class RemoteBlobs:
    """`Blobs` under an address such as `s3://bucket/erlbridge`, shared by all nodes that have it.

    Args:
        address: As fsspec knows it. Nothing is reached, and fsspec not imported, before the first use.
        cache: Keeps on this machine what was read. It is served only while the system says that nothing changed.
        clock: Seconds that only go up.
    """

    def __init__(self, address: str, cache: BlobCache, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = address
        self._address = parse_address(address) or Address("", "store_blobs", (address,))
        self._cache = cache
        self._clock = clock
        self._lock = threading.Lock()
        self._opened: tuple[Any, str] | None = None
        self._away_until = 0.0

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

        self._call(put, len(content))

    def get(self, kind: str, name: str, limit_bytes: int = -1) -> bytes | None:
        info = self._info(kind, name)
        if info is None:
            self._cache.drop(kind, name)
            return None
        if 0 <= limit_bytes < info["size"]:
            return self._call(lambda system, root: _head(system, f"{root}/{kind}/{name}", limit_bytes), limit_bytes)
        version = repr(sorted((key, str(value)) for key, value in info.items()))
        if (cached := self._cache.get(kind, name, version)) is not None:
            return cached

        def get(system: Any, root: str) -> bytes | None:
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                return bytes(system.cat_file(f"{root}/{kind}/{name}"))
            return None

        content = self._call(get, int(info["size"]))
        if content is not None and len(content) != info["size"]:
            raise BlobsRefused(f"{self._address.shown}: {name} broke off after {len(content)} of {info['size']} bytes")
        if content is not None:
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

        return self._call(delete)

    def set_aside(self, kind: str, name: str) -> str | None:
        self._cache.drop(kind, name)
        damaged = str(Path(name).with_suffix(DAMAGED))

        def rename(system: Any, root: str) -> str | None:
            with contextlib.suppress(FileNotFoundError):
                system.mv(f"{root}/{kind}/{name}", f"{root}/{kind}/{damaged}")
                return damaged
            return None

        return self._call(rename)

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

        return self._call(has)

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

        self._call(upload, size)

    def download(self, kind: str, name: str, target: Path) -> bool:
        """Writes a blob's bytes into a new file, and has them on the disk; gives whether there was one."""
        info = self._info(kind, name)
        if info is None:
            return False

        def download(system: Any, root: str) -> bool:
            with contextlib.suppress(FileNotFoundError), system.open(f"{root}/{kind}/{name}", "rb") as source:
                with open(target, "xb", buffering=0) as file:
                    _copy(source, file)
                    os.fsync(file.fileno())
                return True
            return False

        return self._call(download, int(info["size"]))

    # -- the system

    def _files(self, kind: str) -> list[Mapping[str, Any]]:
        def listed(system: Any, root: str) -> list[Mapping[str, Any]]:
            with contextlib.suppress(FileNotFoundError):
                return [found for found in system.ls(f"{root}/{kind}", detail=True) if _is_file(found)]
            return []

        return self._call(listed)

    def _info(self, kind: str, name: str) -> Mapping[str, Any] | None:
        """What the system knows of a blob, None when there is no such file."""

        def info(system: Any, root: str) -> Mapping[str, Any] | None:
            with contextlib.suppress(FileNotFoundError):
                found: Mapping[str, Any] = system.info(f"{root}/{kind}/{name}")
                return found if _is_file(found) else None
            return None

        return self._call(info)

    def _call(self, work: Callable[[Any, str], Result], size_bytes: int = 0) -> Result:
        """What `work` gives with the system and the path of its root."""
        if self._clock() < self._away_until:
            raise BlobsRefused(f"{self._address.shown} did not answer a moment ago")
        try:
            return _within(_PATIENCE_S + size_bytes / _SLOWEST_BYTES_PER_S, lambda: work(*self._open()))
        except BlobsRefused:
            raise
        except TimeoutError as error:
            self._away_until = self._clock() + _AWAY_S
            raise BlobsRefused(f"{self._address.shown} does not answer: {error}") from None
        except ImportError as error:
            raise BlobsRefused(
                f"a package for {self._address.shown} is missing: {error}; install it, or unset store_blobs"
            ) from None
        except Exception as error:  # noqa: BLE001 - every system has errors of its own
            said = redacted(f"{type(error).__name__}: {error}", self._address)
            text = f"{self._address.shown}: {said}"
            number = error.errno if isinstance(error, OSError) else None
            raise (BlobsRefused(number, text) if number else BlobsRefused(text)) from None

    def _open(self) -> tuple[Any, str]:
        with self._lock:
            if self._opened is None:
                from fsspec.core import url_to_fs  # type: ignore[import-untyped]  # noqa: PLC0415 - for those who use it

                # What another node has put or deleted is asked for each time.
                system, root = url_to_fs(self._url, use_listings_cache=False)
                self._opened = system, str(root).rstrip("/")
            return self._opened


def _within(seconds: float, work: Callable[[], Result]) -> Result:
    """What `work` gives, done by a thread that is left to itself when it takes longer: then raises `TimeoutError`."""
    done: queue.SimpleQueue[tuple[Result | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put((work(), None))
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits
            done.put((None, error))

    threading.Thread(target=run, name="erlbridge-blobs", daemon=True).start()
    try:
        result, error = done.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"nothing within {seconds:.0f} s") from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # None is what the work gave


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
