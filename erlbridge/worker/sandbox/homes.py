"""Workers' own temporary directories: made before a worker is forked, removed after it is gone.

They lie under the data directory, or in the system's place for temporary files when that directory refuses. Each
forkserver has a directory of its own for those of its workers, and a locked file in it as the sign that it lives: the
kernel takes the lock away however the process ends, also where processes do not see each other's numbers. What is found
with such a file that nobody has locked is nobody's, and is removed; what has none was never a forkserver's.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from erlbridge.kinship import die_with_parent
from erlbridge.store.files import lock_file

PREFIX: Final = "erlbridge-workers-"
_LOCK: Final = "lock"
_TRIES: Final = 3
_DESCRIPTORS: Final = 4096


class Homes:
    """The temporary directories of one forkserver's workers.

    Args:
        data: The node's data directory.
    """

    def __init__(self, data: Path) -> None:
        self._roots = [data / "tmp"]
        with suppress(FileNotFoundError):  # nothing but the data directory can be written, as in many containers
            self._roots.append(Path(tempfile.gettempdir()))
        self._directory: Path | None = None
        self._lock = -1
        self._cleaners: set[int] = set()
        self._clean([stale for root in self._roots for stale in _claimable(root)])

    def make(self, number: int) -> Path | None:
        """A new directory for a worker, for its owner alone; None when no disk takes one."""
        for _ in self._roots:
            directory = self._directory or self._settle()
            if directory is None:
                return None
            try:
                home = directory / str(number)
                home.mkdir(mode=0o700)
            except OSError:
                self._let_go()  # removed by somebody, or the disk is full: perhaps the other one is not
            else:
                return home
        return None

    def remove(self, number: int) -> None:
        """The worker is gone. An empty directory goes at once; a full one is emptied by a process of its own, since no
        worker can start while the forkserver deletes files."""
        if self._directory is None:
            return
        home = self._directory / str(number)
        try:
            home.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            self._clean([home])

    def close(self) -> None:
        """Removes what is left; the workers are gone."""
        if self._directory is not None:
            _remove(self._directory)
        self._let_go()
        for pid in self._cleaners:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)

    def leave(self) -> None:
        """In a worker: the directories are not its to keep or remove."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock, self._directory = -1, None

    def _settle(self) -> Path | None:
        for root in self._roots:
            for _ in range(_TRIES):
                try:
                    root.mkdir(mode=0o700, parents=True, exist_ok=True)
                    directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
                except OSError:
                    break
                lock = _locked(directory, os.O_CREAT)
                if lock is not None:
                    self._directory, self._lock = directory, lock
                    return directory
        return None

    def _let_go(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
        self._lock, self._directory = -1, None

    def _clean(self, directories: list[Path]) -> None:
        if not directories:
            return
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                os.closerange(3, _DESCRIPTORS)  # nobody shall take this process for the forkserver's life
                die_with_parent(parent)
                for directory in directories:
                    _remove(directory)
            finally:
                os._exit(0)
        self._cleaners.add(pid)

    def cleaners(self) -> Collection[int]:
        """Processes that empty directories at this moment."""
        for pid in list(self._cleaners):
            with suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG) == (0, 0):
                    continue
            self._cleaners.discard(pid)
        return self._cleaners


def _claimable(root: Path) -> list[Path]:
    """Directories of this user whose owners are gone."""
    found = []
    with suppress(OSError), os.scandir(root) as entries:
        for entry in entries:
            with suppress(OSError):
                mine = entry.name.startswith(PREFIX) and entry.stat(follow_symlinks=False).st_uid == os.geteuid()
                if mine and entry.is_dir(follow_symlinks=False) and (lock := _locked(Path(entry.path))) is not None:
                    os.close(lock)
                    found.append(Path(entry.path))
    return found


def _remove(directory: Path) -> None:
    """The lock goes last: without it, nobody would take up what is left half done."""
    with suppress(OSError):
        for inner in directory.iterdir():
            if inner.name != _LOCK:
                shutil.rmtree(inner, ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)


def _locked(directory: Path, flags: int = 0) -> int | None:
    """A descriptor that holds the directory's lock, None when another process has it or has removed it, or when there
    is no file for it and `flags` do not make one."""
    with suppress(OSError):
        return lock_file(directory / _LOCK, flags)
    return None
