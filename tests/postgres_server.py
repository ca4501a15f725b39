"""A PostgreSQL of the tests' own: its files in a temporary directory, reached by a socket there and by no port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

_PROGRAMS = Path("/usr/lib/postgresql")
"""Where Debian puts the server's programs, a directory for each version; they are on nobody's path."""
_START_S = 30.0
_POLL_S = 0.02
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",  # the directory does not outlive the tests
    "full_page_writes": "off",
    "max_connections": "40",
    "shared_buffers": "16MB",
    "autovacuum": "off",
    "max_wal_size": "64MB",
    "jit": "off",
}


def programs() -> Path | None:
    """The directory of the newest server's programs, None when none is installed."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = sorted(_PROGRAMS.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return versions[-1].parent if versions else None


class PostgresServer:
    """A running server. PostgreSQL refuses to run as root; there it runs as the user `postgres`."""

    def __init__(self, bin_directory: Path) -> None:
        self._bin = bin_directory
        self._user = "postgres" if os.geteuid() == 0 else None
        # Not pytest's own directory: a socket's path may be 107 bytes long, and `postgres` must reach it.
        self.directory = Path(tempfile.mkdtemp(prefix="erlbridge-pg-"))
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(self.directory, account.pw_uid, account.pw_gid)
        self._data = self.directory / "data"
        self._log = self.directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        try:
            self._initialize()
            self.start()
        except BaseException:
            self.close()
            raise

    def _initialize(self) -> None:
        arguments = ["--auth=trust", "--encoding=UTF8", "--no-sync", "--username=tests", "--locale=C.UTF-8"]
        subprocess.run(
            [self._bin / "initdb", "-D", self._data, *arguments], user=self._user, check=True, capture_output=True,
            env=self._environment, cwd="/",
        )  # fmt: skip

    @property
    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}

    @property
    def pid(self) -> int:
        """Of the server's first process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts it and waits until it takes connections."""
        settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, "-k", self.directory, *settings],
                user=self._user, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment, cwd="/",
            )  # fmt: skip
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"PostgreSQL did not start:\n{self._log.read_text(errors='replace')}")
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Ends it at once, as a crash does for whoever is connected; what was committed is there at the next start."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(_START_S)

    def close(self) -> None:
        """Ends it and removes its files."""
        if self._process is not None and self._process.poll() is None:
            self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def new_database(self) -> str:
        """The address of a database that nobody has used."""
        import psycopg

        self._databases += 1
        name = f"store{self._databases}"
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} STRATEGY wal_log")
        return self.address(name)

    def address(self, database: str) -> str:
        """The address of a database by its name."""
        return f"postgresql://tests@/{database}?host={self.directory}"

    def _answers(self) -> bool:
        ready = [self._bin / "pg_isready", "-q", "-h", self.directory, "-U", "tests", "-d", "postgres"]
        return subprocess.run(ready, check=False, env=self._environment).returncode == 0
