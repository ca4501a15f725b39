"""Results of requests with an idempotency key, on disk before they are answered: what was paid for is not paid twice.

One file for each key under its hash, shared safely by any number of nodes on one directory; bounded by age, count and
bytes, the oldest going first. A file that is not what was written is set aside, and named. Keys of models are never
written. A disk that refuses costs a log line and no answer. What the bytes mean is decided in `core.results`.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from erlbridge.codec import Atom
from erlbridge.core.results import Identity, Stored, conflict, name_of, pack, parse_fetch, shared, unpack
from erlbridge.core.sharing import Sharing
from erlbridge.errors import NotFound
from erlbridge.store.failures import storage_failed
from erlbridge.store.files import read_regular, write_whole
from erlbridge.wire.messages import Request, Term
from erlbridge.wire.vocabulary import atom, atom_keys, published

_SUFFIX: Final = ".result"
_DAMAGED: Final = ".damaged"
_SHORTEST_KEY: Final = 4
_SLACK: Final = 64


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is kept: nothing older than `age_s` (0: nothing at all), and about so many files and bytes at most."""

    age_s: float
    count: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    stored_at_ns: int
    size_bytes: int


class Results:
    """The results under one directory. `say` is told, in a line, of everything that was not kept or is damaged."""

    def __init__(self, directory: Path, bounds: Bounds, say: Callable[[str], None]) -> None:
        self.directory = directory
        self._bounds = bounds
        self._say = say
        self._new_count = 0
        self._new_bytes = 0

    def put(self, request: Request, result: Term, asked: Identity) -> None:
        """Keeps the result of a request with a key: when this returns it is on the disk, or the log says why not."""
        if not self._bounds.age_s or request.meta.idempotency_key is None:
            return
        name, verb = name_of(request.meta.idempotency_key), request.verb
        content = pack(name, Stored(verb, asked.fingerprint, result))
        if len(content) > self._bounds.total_bytes:
            limit = f"limit {self._bounds.total_bytes} (result_max_bytes)"
            self._say(f"a result of {verb} is not kept: {len(content)} bytes, {limit}")
        elif any(key in content for key in _keys(asked)):
            self._say(f"a result of {verb} is not kept: a key of its models stands in it")
        else:
            try:
                # The node's loop waits for this, and a result that a power cut takes can be had again.
                write_whole(self._path(name), content, durable=False)
                self._keep_within(len(content))
            except OSError as error:
                self._say(f"a result of {verb} is not kept: {error}")

    def has(self, idempotency_key: str | None) -> bool:
        """Whether something lies there for a key, be it old or damaged; reads nothing."""
        return idempotency_key is not None and os.path.lexists(self._path(name_of(idempotency_key)))

    def answer_to(self, request: Request, asked: Identity) -> Term | None:
        """What a request was answered before, None when nothing whole is stored of that. A disk that does not say has
        nothing either: what is asked for can still be done. Raises `ValidationError` when its key was another one's."""
        try:
            found = self._read(name_of(request.meta.idempotency_key or ""))
        except OSError as error:
            self._say(f"stored results cannot be read: {error}")
            return None
        if found is None:
            return None
        if found[0].fingerprint != asked.fingerprint:
            raise conflict(found[0].verb)
        return shared(found[0].result)

    def fetch(self, payload: Term, sharing: Sharing) -> Term:
        """The answer of `:fetch_result`. Raises `NotFound`, and `StorageFailed` when the disk does not say."""
        wanted = parse_fetch(payload)
        try:
            found = self._read(name_of(wanted.idempotency_key))
        except OSError as error:
            raise storage_failed("the stored result was not read", error) from None
        if found is None and sharing.find(wanted.idempotency_key):
            text = "the request with this key is being done; send it again to wait for it"
            raise NotFound(text, context={"state": atom("running")})
        if found is None:
            raise NotFound("no result is stored under this key; send the request itself")
        stored, stored_at_ns = found
        return atom_keys(
            {
                "status": atom("success"),
                "verb": published(Atom(stored.verb)),
                "result": published(shared(stored.result), wanted.atoms),
                "stored_at_ms": stored_at_ns // 1_000_000,
            }
        )

    def _read(self, name: str) -> tuple[Stored, int] | None:
        path = self._path(name)
        try:
            stored_at_ns = path.lstat().st_mtime_ns
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not self._bounds.age_s or stored_at_ns < self._oldest_ns():
            return None
        stored = self._unpack(name, path) or self._set_aside(name, path)
        return None if stored is None else (stored, stored_at_ns)

    def _unpack(self, name: str, path: Path) -> Stored | None:
        content = read_regular(path, self._bounds.total_bytes + 1)  # what is longer is nothing that was put here
        return None if content is None else unpack(name, content)

    def _set_aside(self, name: str, path: Path) -> Stored | None:
        """Renames a damaged file. Another node may have stored it again in the very moment: then that is given."""
        damaged = path.with_suffix(_DAMAGED)
        try:
            path.rename(damaged)
        except FileNotFoundError:
            return None  # another node was faster, or has just dropped it for its age
        except OSError as error:
            self._say(f"the stored result {path.name} is damaged, and cannot be set aside: {error}")
            return None
        if stored := self._unpack(name, damaged):
            damaged.rename(path)
            return stored
        self._say(f"the stored result {path.name} was damaged, and is set aside as {damaged.name}")
        return None

    # -- bounds

    def _keep_within(self, new_bytes: int) -> None:
        """Looks at all files now and then only: bounds are kept to within a part of `_SLACK`."""
        self._new_count += 1
        self._new_bytes += new_bytes
        if self._new_count * _SLACK >= self._bounds.count or self._new_bytes * _SLACK >= self._bounds.total_bytes:
            self._new_count = self._new_bytes = 0
            self._prune()

    def _prune(self) -> None:
        """Drops what is too old or too much. What was set aside counts, and what a killed node left half written."""
        oldest_ns, total = self._oldest_ns(), 0
        newest_first = sorted(self._files(), key=lambda file: file.stored_at_ns, reverse=True)
        for count, file in enumerate(newest_first, 1):
            total += file.size_bytes
            if count > self._bounds.count or total > self._bounds.total_bytes or file.stored_at_ns < oldest_ns:
                file.path.unlink(missing_ok=True)

    def _files(self) -> Iterator[_File]:
        with os.scandir(self.directory) as directory:
            for entry in directory:
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError:
                    continue  # another node has dropped it meanwhile
                if stat.S_ISREG(found.st_mode):
                    yield _File(Path(entry.path), found.st_mtime_ns, found.st_size)

    def _oldest_ns(self) -> int:
        return time.time_ns() - int(self._bounds.age_s * 1e9)

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}{_SUFFIX}"


def _keys(asked: Identity) -> Iterator[bytes]:
    """The keys of a request's models, as bytes that a result might hold. A word of a few letters is no secret."""
    named = (os.fsencode(os.environ.get(variable, "").strip()) for variable in asked.key_variables)
    return (key for key in (*asked.keys, *named) if len(key) >= _SHORTEST_KEY)
