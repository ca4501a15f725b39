"""Programs on disk, each a file named by the hash of its bytes. Knows bytes and names, not what they mean."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from erlbridge.errors import NotFound, ValidationError

_PREFIX = "program:"


class ProgramStore:
    """Content-addressed files under one directory, shared safely by any number of nodes on this machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def put(self, program_id: str, content: bytes) -> None:
        """Keeps a program: written aside, forced to disk, then renamed, so that a crash leaves it whole or absent.

        Raises `ValidationError` when the id is not the content's, `OSError` when the disk refuses.
        """
        if program_id != f"{_PREFIX}{_sha256(content)}":
            raise ValidationError("expected the hash of the program's bytes", "program_id")
        path = self._path(program_id)
        if self._read(path) == content:
            return
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        import tempfile  # noqa: PLC0415 - 5 ms that the node's start does not wait for

        descriptor, aside = tempfile.mkstemp(dir=self.directory, prefix=".new-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(aside).rename(path)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
        self._sync_directory()

    def get(self, program_id: str) -> bytes:
        """A program's bytes. Raises `NotFound`; a damaged file is set aside under another name and not served."""
        path = self._path(program_id)
        content = self._read(path)
        if content is None:
            raise NotFound(f"no program {program_id} in {self.directory}; optimize again, or send the program itself")
        if _sha256(content) == program_id.removeprefix(_PREFIX):
            return content
        damaged = path.with_suffix(".damaged")
        path.rename(damaged)
        raise NotFound(f"program {program_id} was damaged on disk and set aside as {damaged.name}; optimize again")

    def _read(self, path: Path) -> bytes | None:
        """A stored file's bytes, None when there is no such file that can be read: a pipe or a directory is none."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb") as file:
                return file.read() if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
        except OSError:
            return None

    def _path(self, program_id: str) -> Path:
        # The id has been matched against its pattern on arrival, so the name cannot leave the directory.
        return self.directory / f"{program_id.removeprefix(_PREFIX)}.etf"

    def _sync_directory(self) -> None:
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sha256(content: bytes) -> str:
    import hashlib  # noqa: PLC0415 - 5 ms that the node's start does not wait for

    return hashlib.sha256(content).hexdigest()
