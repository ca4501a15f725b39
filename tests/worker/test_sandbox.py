"""What a confined process can and cannot do, tried from inside of one, on this machine's kernel."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from erlbridge.codec import binary_to_term, term_to_binary
from erlbridge.core.sandbox import Report
from erlbridge.worker.sandbox import kernel, landlock, seccomp
from erlbridge.worker.sandbox.confine import Policy, Unconfined, confine
from erlbridge.worker.sandbox.reach import find_reach

VERSION = landlock.version()
FILTERED = seccomp.why_not() is None
needs_files = pytest.mark.skipif(VERSION < landlock.TRUNCATE_SINCE, reason="this kernel's Landlock is too old")
needs_tcp = pytest.mark.skipif(VERSION < landlock.TCP_SINCE, reason="this kernel's Landlock knows no TCP")
needs_signals = pytest.mark.skipif(VERSION < landlock.SIGNALS_SINCE, reason="this kernel's Landlock knows no signals")
needs_filter = pytest.mark.skipif(not FILTERED, reason="no list of system calls for this machine")

REFUSED = {"EPERM", "EACCES"}


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of each attempt, and facts of the process that made them."""
    place = tmp_path_factory.mktemp("sandbox")
    for name in ("shared", "homes/1", "homes/2", "outside"):
        (place / name).mkdir(parents=True)
    (place / "outside" / "secret").write_text("of somebody else")
    with socket.create_server(("127.0.0.1", 0)) as open_port, socket.create_server(("127.0.0.1", 0)) as closed_port:
        given = {
            "shared": str(place / "shared"),
            "home": str(place / "homes" / "1"),
            "outside": str(place / "outside"),
            "open_port": open_port.getsockname()[1],
            "closed_port": closed_port.getsockname()[1],
            "parent": os.getpid(),
        }
        command = [sys.executable, "-P", str(Path(__file__).with_name("confined.py")), json.dumps(given)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert (place / "outside" / "secret").read_text() == "of somebody else" or VERSION < landlock.TRUNCATE_SINCE
    return {**json.loads(ran.stdout), "home": given["home"]}


@needs_files
@pytest.mark.parametrize(
    "attempt",
    ["write outside", "change outside", "cut outside", "remove outside", "read outside", "list outside",
     "link outside", "read beside home"],
)  # fmt: skip
def test_files_outside_are_neither_read_nor_written(tried: dict[str, Any], attempt: str) -> None:
    assert tried["outcomes"][attempt] in REFUSED


@pytest.mark.parametrize(
    "attempt",
    ["write own", "make own directory", "keep an answer", "write /dev/null", "read certificates", "thread", "fork",
     "signal itself", "limit and slow itself", "connect", "socket pair", "datagrams", "find an address",
     "map memory that runs"],
)  # fmt: skip
def test_what_jobs_need_is_there(tried: dict[str, Any], attempt: str) -> None:
    assert tried["outcomes"][attempt] == "done"


@needs_filter
@pytest.mark.parametrize(
    "attempt",
    ["execute", "execute from memory", "trace", "connect elsewhere by sending", "raw socket", "mount",
     "new namespaces", "fork into namespaces", "io_uring", "keyring"],
)  # fmt: skip
def test_the_filter_refuses_what_no_job_needs(tried: dict[str, Any], attempt: str) -> None:
    if attempt == "execute" and find_reach(os.environ).executable:
        pytest.skip("deno is here, and may be executed")
    assert tried["outcomes"][attempt] in REFUSED


@needs_filter
@pytest.mark.parametrize("attempt", ["limit another", "slow another", "slow its user", "move another"])
def test_no_other_process_of_the_user_is_limited_or_slowed(tried: dict[str, Any], attempt: str) -> None:
    assert tried["outcomes"][attempt] == "EPERM"


@needs_filter
def test_nothing_is_made_that_outlives_all_processes(tried: dict[str, Any]) -> None:
    assert tried["outcomes"]["memory that stays"] == "EPERM"


@needs_filter
def test_only_internet_sockets_can_be_made(tried: dict[str, Any]) -> None:
    assert tried["outcomes"]["Unix socket"] == "EAFNOSUPPORT"
    assert tried["outcomes"]["multipath TCP"] == "EPROTONOSUPPORT"


@needs_tcp
def test_tcp_goes_to_the_ports_that_are_set_and_is_served_nowhere(tried: dict[str, Any]) -> None:
    assert tried["outcomes"]["connect"] == "done"
    assert tried["outcomes"]["connect elsewhere"] in REFUSED
    assert tried["outcomes"]["bind"] in REFUSED


@needs_signals
@pytest.mark.parametrize("attempt", ["signal another", "signal by descriptor"])
def test_no_other_process_is_signalled(tried: dict[str, Any], attempt: str) -> None:
    assert tried["outcomes"][attempt] in REFUSED


@needs_files
@pytest.mark.parametrize("attempt", ["read another's environment", "read another's memory", "become another user"])
def test_other_processes_memory_stays_theirs_for_root_too(tried: dict[str, Any], attempt: str) -> None:
    assert tried["outcomes"][attempt] in REFUSED


def test_limits_and_the_umask_are_in_force(tried: dict[str, Any]) -> None:
    facts = tried["facts"]
    assert (facts["umask"], facts["core"], facts["file"]) == (0o077, [0, 0], 2**30)
    assert tried["outcomes"]["raise a limit"] != "done"


def test_a_process_works_from_its_own_temporary_directory(tried: dict[str, Any]) -> None:
    assert tried["facts"]["directory"] == tried["facts"]["working directory"] == tried["home"]


def test_the_report_names_what_this_kernel_lacks(tried: dict[str, Any]) -> None:
    lacking = {
        part for part, since in (("files", landlock.TRUNCATE_SINCE), ("tcp", 4), ("signals", 6)) if since > VERSION
    }
    assert set(tried["facts"]["missing"]) == lacking | (set() if FILTERED else {"seccomp"})
    assert tried["facts"]["landlock"] == VERSION


def test_another_process_of_the_user_reads_neither_memory_nor_environment(tmp_path: Path) -> None:
    """Root may read everything; so as root this is tried as nobody, from before and after."""
    code = f"""
import os, sys
from pathlib import Path
from erlbridge.worker.sandbox import kernel
def readable(pid):
    found = []
    for name in ("stat", "statm", "environ"):
        try:
            found.append((name, bool(Path("/proc", str(pid), name).read_bytes())))
        except PermissionError:
            found.append((name, False))
    return [name for name, there in found if there]
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
    kernel._prctl({kernel._PR_SET_DUMPABLE}, 1)
begun, begin = os.pipe()
done, end = os.pipe()
pid = os.fork()
if pid == 0:
    kernel.keep_memory_private()
    os.write(begin, b"x")
    os.read(done, 1)
    os._exit(0)
before = readable(os.getpid())
os.read(begun, 1)
print(before, readable(pid))
os.write(end, b"x")
os.waitpid(pid, 0)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "['stat', 'statm', 'environ'] ['stat', 'statm']"


def test_without_a_sandbox_nothing_is_changed() -> None:
    assert confine(Policy("off")) == Report("off", 0, {})


def test_who_must_be_confined_fully_hears_what_is_missing() -> None:
    code = (
        "from erlbridge.worker.sandbox.confine import *\n"
        "try: confine(Policy('required'))\n"
        "except Unconfined as error: print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "cannot be had in full here: directory: no disk takes a temporary directory" in ran.stdout
    assert issubclass(Unconfined, Exception)


@pytest.mark.parametrize(
    "report",
    [Report("off", 0, {}), Report("on", 7, {}), Report("required", 2, {"tcp": "too old", "seccomp": "no list"})],
)
def test_a_report_comes_back_from_its_term_as_it_was(report: Report) -> None:
    assert Report.from_term(binary_to_term(term_to_binary(report.to_term()))) == report


@pytest.mark.parametrize("term", [None, 7, {}, {"mode": 1}, [], {b"mode": b"on"}])
def test_what_is_no_report_is_refused(term: object) -> None:
    with pytest.raises(ValueError, match="expected a worker's report"):
        Report.from_term(term)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("executing", [True, False])
def test_the_filter_of_each_machine_is_one_that_kernels_take(machine: str, executing: bool) -> None:
    program = seccomp._program(machine, executing=executing)
    assert len(program) % 8 == 0
    assert len(program) // 8 < 255  # no jump is too long
    code = (
        "import sys\nfrom erlbridge.worker.sandbox import kernel\nkernel.forbid_new_privileges()\n"
        "import os\npid = os.fork()\nif pid == 0:\n"
        "    kernel.filter_syscalls(bytes.fromhex(sys.argv[1]))\n    os._exit(0)\n"
        "print(os.waitpid(pid, 0)[1] >> 8)"
    )
    if machine == os.uname().machine:
        command = [sys.executable, "-c", code, program.hex()]
        assert subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip() == "0"


def test_kernel_errors_are_raised() -> None:
    with pytest.raises(OSError, match="Function not implemented"):
        kernel.syscall(100_000)
