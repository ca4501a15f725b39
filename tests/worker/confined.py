"""A process that confines itself as a worker is, then tries what it should not be able to do; prints what came of it.

python confined.py '{"shared": …, "home": …, "outside": …, "open_port": …, "closed_port": …, "parent": pid}'
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import resource
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from erlbridge.worker.sandbox.confine import Policy, confine, max_processes
from erlbridge.worker.sandbox.reach import find_reach

CLONE, KEYCTL, SHMGET = {"x86_64": (56, 250, 29), "aarch64": (220, 219, 194)}.get(os.uname().machine, (-1, -1, -1))
LIBC = ctypes.CDLL(None, use_errno=True)


def libc(name: str, *arguments: object) -> int:
    result = getattr(LIBC, name)(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return int(result)


def connect(port: int) -> None:
    with socket.socket() as wire:
        wire.connect(("127.0.0.1", port))


def fast_open(port: int) -> None:
    with socket.socket() as wire:
        wire.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", port))


def execute_from_memory() -> None:
    descriptor = os.memfd_create("program")
    os.write(descriptor, Path("/bin/true").read_bytes())
    os.execve(descriptor, ["true"], {})


def keep_an_answer(shared: Path) -> int:
    with sqlite3.connect(shared / "answers.sqlite3", isolation_level=None) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE kept (one INTEGER)")
        database.execute("INSERT INTO kept VALUES (1)")
        return len(list(shared.iterdir()))


def fork_into_namespaces() -> None:
    if libc("syscall", CLONE, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0) == 0:
        os._exit(0)


def write_own() -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x")


def limit_and_slow_itself() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, resource.getrlimit(resource.RLIMIT_CORE))
    os.sched_setaffinity(0, os.sched_getaffinity(0))
    os.nice(1)


def in_thread() -> None:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()


def bind(family: int, address: object) -> None:
    with socket.socket(family) as wire:
        wire.bind(address)


def main() -> None:
    given = json.loads(sys.argv[1])
    shared, home, outside = Path(given["shared"]), Path(given["home"]), Path(given["outside"])
    parent = given["parent"]
    policy = Policy("on", shared, home, find_reach(os.environ), (given["open_port"],), max_processes())
    report = confine(policy)
    probes: dict[str, Callable[[], object]] = {
        "write outside": lambda: (outside / "new").write_text("x"),
        "change outside": lambda: (outside / "secret").write_text("x"),
        "cut outside": lambda: os.truncate(outside / "secret", 0),
        "remove outside": (outside / "secret").unlink,
        "read outside": (outside / "secret").read_text,
        "list outside": lambda: list(outside.iterdir()),
        "link outside": lambda: (home / "link").symlink_to(outside) or list((home / "link").iterdir()),
        "read beside home": lambda: list(home.parent.iterdir()),
        "write own": write_own,
        "make own directory": lambda: Path("below").mkdir(),
        "keep an answer": lambda: keep_an_answer(shared),
        "write /dev/null": lambda: Path(os.devnull).write_text("x"),
        "read certificates": ssl.create_default_context,
        "execute": lambda: subprocess.run(["/bin/true"], check=True),
        "execute from memory": execute_from_memory,
        "fork": lambda: os.waitpid(os.fork() or os._exit(0), 0),
        "thread": in_thread,
        "map memory that runs": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
        "trace": lambda: libc("ptrace", 16, parent, 0, 0),
        "read another's environment": lambda: Path(f"/proc/{parent}/environ").read_bytes(),
        "read another's memory": lambda: os.close(os.open(f"/proc/{parent}/mem", os.O_RDONLY)),
        "signal another": lambda: os.kill(parent, 0),
        "limit another": lambda: resource.prlimit(parent, resource.RLIMIT_CORE),
        "slow another": lambda: os.setpriority(os.PRIO_PROCESS, parent, os.getpriority(os.PRIO_PROCESS, parent)),
        "slow its user": lambda: os.setpriority(os.PRIO_USER, 0, os.getpriority(os.PRIO_PROCESS, 0)),
        "move another": lambda: os.sched_setaffinity(parent, os.sched_getaffinity(parent)),
        "memory that stays": lambda: libc("syscall", SHMGET, 0, 1, 0o600),
        "limit and slow itself": limit_and_slow_itself,
        "signal itself": lambda: os.kill(os.getpid(), 0),
        "signal by descriptor": lambda: signal.pidfd_send_signal(os.pidfd_open(parent), 0),
        "connect": lambda: connect(given["open_port"]),
        "connect elsewhere": lambda: connect(given["closed_port"]),
        "connect elsewhere by sending": lambda: fast_open(given["closed_port"]),
        "bind": lambda: bind(socket.AF_INET, ("127.0.0.1", 0)),
        "Unix socket": lambda: socket.socket(socket.AF_UNIX),
        "socket pair": lambda: [end.close() for end in socket.socketpair()],
        "raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
        "multipath TCP": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262),
        "datagrams": lambda: socket.socket(type=socket.SOCK_DGRAM).close(),
        "find an address": lambda: socket.getaddrinfo("localhost", 80),
        "mount": lambda: libc("mount", b"none", str(home).encode(), b"tmpfs", 0, None),
        "new namespaces": lambda: libc("unshare", 0x10000000),
        "fork into namespaces": fork_into_namespaces,
        "io_uring": lambda: libc("syscall", 425, 1, ctypes.create_string_buffer(120)),
        "keyring": lambda: libc("syscall", KEYCTL, 0, -1, 0),
        "raise a limit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (4097, 4097)),
        "become another user": lambda: os.setuid(12345),
    }
    outcomes = {}
    for name, probe in probes.items():
        try:
            probe()
            outcomes[name] = "done"
        except OSError as error:
            outcomes[name] = errno.errorcode.get(error.errno or 0, str(error))
        except ValueError as error:
            outcomes[name] = str(error)
    facts = {
        "missing": dict(report.missing),
        "landlock": report.landlock,
        "directory": tempfile.gettempdir(),
        "working directory": os.getcwd(),
        "umask": os.umask(0),
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "file": resource.getrlimit(resource.RLIMIT_FSIZE)[1],
    }
    print(json.dumps({"outcomes": outcomes, "facts": facts}))


if __name__ == "__main__":
    main()
