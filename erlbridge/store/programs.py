"""Programs on disk, each a file named by the hash of its bytes. Knows bytes and names, not what they mean."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from erlbridge.core.requests import Cursor
from erlbridge.errors import NotFound, ValidationError
from erlbridge.store.files import read_regular, sync_directory, write_whole

_PREFIX: Final = "program:"
_FILE: Final = re.compile(r"([0-9a-f]{64})\.etf\Z")


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored program as its directory knows it. `stored_at_ns` counts from 1970."""

    program_id: str
    size_bytes: int
    stored_at_ns: int

    @property
    def cursor(self) -> Cursor:
        """Its place in the list."""
        return Cursor(self.stored_at_ns, self.program_id)


class ProgramStore:
    """Content-addressed files under one directory, shared safely by any number of nodes on this machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def put(self, program_id: str, content: bytes) -> None:
        """Keeps a program; a crash leaves it whole or absent.

        Raises `ValidationError` when the id is not the content's, `OSError` when the disk refuses.
        """
        if program_id != f"{_PREFIX}{_sha256(content)}":
            raise ValidationError("expected the hash of the program's bytes", "program_id")
        path = self._path(program_id)
        if read_regular(path) == content:
            return
        write_whole(path, content)

    def get(self, program_id: str) -> bytes:
        """A program's bytes. Raises `NotFound`, or `OSError` when the disk refuses; a damaged file is set aside under
        another name and not served."""
        path = self._path(program_id)
        content = read_regular(path)
        if content is None and os.path.lexists(path):
            return self._set_aside(program_id)
        if content is None:
            raise _not_found(
                program_id, f"no program {program_id} in {self.directory}; optimize again, or send the program itself"
            )
        if _sha256(content) == program_id.removeprefix(_PREFIX):
            return content
        return self._set_aside(program_id)

    def head(self, program_id: str, limit_bytes: int) -> bytes | None:
        """The first bytes of a program, not checked against its hash; None when it cannot be read."""
        return read_regular(self._path(program_id), limit_bytes)

    def newest(self, limit: int, after: Cursor | None = None) -> list[Stored]:
        """The newest programs, or those that come behind a place in that list. Holds no more than it gives.

        Raises `OSError` when the directory cannot be read; one that is not there yet holds nothing.
        """
        import heapq  # noqa: PLC0415 - as above

        def behind(found: Stored) -> bool:
            return after is None or _order(found.cursor) > _order(after)

        return heapq.nsmallest(limit, filter(behind, self._entries()), key=lambda found: _order(found.cursor))

    def delete(self, program_id: str) -> None:
        """Forgets a program. Raises `NotFound`, or `OSError` when the disk refuses."""
        try:
            self._path(program_id).unlink()
        except FileNotFoundError:
            raise _not_found(program_id, f"no program {program_id} in {self.directory}") from None
        sync_directory(self.directory)

    def _entries(self) -> Iterator[Stored]:
        try:
            directory = os.scandir(self.directory)
        except FileNotFoundError:
            return
        with directory:
            for entry in directory:
                name = _FILE.match(entry.name)
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError:
                    continue  # deleted meanwhile
                if name and stat.S_ISREG(found.st_mode):
                    yield Stored(_PREFIX + name[1], found.st_size, found.st_mtime_ns)

    def _set_aside(self, program_id: str) -> bytes:
        """Renames a damaged file. Another node may have put the program again in the very moment: then it is given."""
        path = self._path(program_id)
        damaged = path.with_suffix(".damaged")
        try:
            path.rename(damaged)
        except FileNotFoundError:
            pass  # another node was faster
        except OSError as error:
            raise _not_found(
                program_id,
                f"program {program_id} is damaged on disk, and cannot be set aside ({error.strerror}); optimize again",
            ) from None
        else:
            content = read_regular(damaged)
            if content is not None and _sha256(content) == program_id.removeprefix(_PREFIX):
                damaged.rename(path)
                return content
        raise _not_found(
            program_id, f"program {program_id} was damaged on disk and set aside as {damaged.name}; optimize again"
        )

    def _path(self, program_id: str) -> Path:
        # The id has been matched against its pattern on arrival, so the name cannot leave the directory.
        return self.directory / f"{program_id.removeprefix(_PREFIX)}.etf"


def _order(place: Cursor) -> tuple[int, str]:
    return -place.stored_at_ns, place.program_id


def _sha256(content: bytes) -> str:
    import hashlib  # noqa: PLC0415 - 5 ms that the node's start does not wait for

    return hashlib.sha256(content).hexdigest()


def _not_found(program_id: str, message: str) -> NotFound:
    """Says in its context which program, so that a host that can get it from elsewhere knows what to get."""
    return NotFound(message, context={"program_id": program_id})
