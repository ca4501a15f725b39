"""Which system calls a worker may not make: a filter of classic BPF, built here and run by the kernel (`seccomp(2)`).

It refuses with an error, so that a library that tries something falls back or says so. Machines are known by name; on
one that is not listed there is no filter.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from erlbridge.worker.sandbox.kernel import filter_syscalls

_DENIED: Final = {
    # into other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438), "kcmp": (312, 272), "process_madvise": (440, 440),
    # into the kernel
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None), "syslog": (103, 116),
    # around this filter: its operations are no system calls
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    # another view of the machine
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "move_mount": (429, 429),
    "open_tree": (428, 428), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "unshare": (272, 97), "setns": (308, 268),
    "open_by_handle_at": (304, 265), "fanotify_init": (300, 262),
    # memory, messages and semaphores that other processes use, and that outlive whoever made them
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193),
    "semctl": (66, 191), "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188),
    "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181),
    # keys that processes share
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    # the machine itself
    "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266),
    "adjtimex": (159, 171), "sethostname": (170, 161), "setdomainname": (171, 162), "vhangup": (153, 58),
}  # fmt: skip
"""Refused always: numbers on x86_64 and on aarch64."""

_OF_ITSELF: Final = {
    "prlimit64": (302, 261), "sched_setparam": (142, 118), "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122), "sched_setattr": (314, 274), "migrate_pages": (256, 238), "move_pages": (279, 239),
}  # fmt: skip
"""Refused but for 0, the caller, as their first argument. The kernel lets a process do these to each other one of its
user: a node whose descriptors are limited to three is a dead one."""

_OF_ITSELF_AS: Final = {"setpriority": ((141, 140), 0), "ioprio_set": ((251, 30), 1)}
"""The same for the second argument; each with what the first is where one process is meant, no group and no user."""

_EXECUTING: Final = {"execve": (59, 221), "execveat": (322, 281)}
_CLONE: Final = (56, 220)
_CLONE3: Final = (435, 435)
_SOCKET: Final = (41, 198)
_SENDING: Final = {"sendto": ((44, 206), 3), "sendmsg": ((46, 211), 2), "sendmmsg": ((307, 269), 3)}
"""Each with the argument that its flags are."""

_MACHINES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Column of the numbers above, and `AUDIT_ARCH_…`."""

_X32: Final = 0x40000000
_NAMESPACES: Final = 0x7E020000
"""The `CLONE_NEW…` flags: mounts, cgroups, names, IPC, users, processes, network."""

_MSG_FASTOPEN: Final = 0x20000000
_SOCK_TYPE: Final = 0xF
_SOCK_DGRAM: Final = 2
_AF_INET, _AF_INET6, _AF_NETLINK = 2, 10, 16
_TCP, _UDP = 6, 17

_LOAD: Final = 0x20
_MASK: Final = 0x54
_RETURN: Final = 0x06
_IF_EQUAL: Final = 0x15
_IF_AT_LEAST: Final = 0x35
_IF_MORE: Final = 0x25
_IF_ANY_BIT: Final = 0x45
_NUMBER_AT, _MACHINE_AT, _ARGUMENTS_AT = 0, 4, 16
_ALLOW: Final = 0x7FFF0000
_FAIL: Final = 0x00050000


def why_not() -> str | None:
    """Why there is no filter on this machine, None where there is."""
    machine = os.uname().machine
    if machine not in _MACHINES or sys.byteorder != "little" or sys.maxsize < 2**32:
        return f"no list of system calls for {machine}; there are those of {' and '.join(_MACHINES)}"
    return None


def enforce(*, executing: bool) -> None:
    """Puts the filter on the calling thread and all that it starts. Raises `OSError`.

    Args:
        executing: Whether programs may be executed, as far as nothing else forbids them.
    """
    filter_syscalls(_program(os.uname().machine, executing=executing))


@dataclass(frozen=True, slots=True)
class _Jump:
    """An instruction that goes to a label when its test holds, else to the next one."""

    code: int
    value: int
    label: str


def _program(machine: str, *, executing: bool) -> bytes:
    column, architecture = _MACHINES[machine]
    denied = [numbers[column] for numbers in (_DENIED if executing else _DENIED | _EXECUTING).values()]
    lines: list[_Jump | tuple[int, int] | str] = [
        (_LOAD, _MACHINE_AT), _Jump(_IF_EQUAL, architecture, "known"), (_RETURN, _FAIL | errno.EPERM),
        "known", (_LOAD, _NUMBER_AT),
    ]  # fmt: skip
    if machine == "x86_64":
        lines.append(_Jump(_IF_AT_LEAST, _X32, "refuse"))
    lines += [_Jump(_IF_EQUAL, number, "refuse") for number in denied if number is not None]
    # Its flags lie in memory, which no filter sees. The C library takes `clone` when the kernel has no `clone3`.
    lines.append(_Jump(_IF_EQUAL, _CLONE3[column], "absent"))
    lines += [_Jump(_IF_EQUAL, _CLONE[column], "clone"), _Jump(_IF_EQUAL, _SOCKET[column], "socket")]
    lines += [_Jump(_IF_EQUAL, numbers[column], name) for name, (numbers, _) in (_SENDING | _OF_ITSELF_AS).items()]
    lines += [_Jump(_IF_EQUAL, numbers[column], "itself") for numbers in _OF_ITSELF.values()]
    lines.append((_RETURN, _ALLOW))
    lines += ["refuse", (_RETURN, _FAIL | errno.EPERM)]
    lines += ["absent", (_RETURN, _FAIL | errno.ENOSYS)]
    for name, (_, process) in _OF_ITSELF_AS.items():
        lines += [name, _argument(0), _Jump(_IF_EQUAL, process, "whose"), (_RETURN, _FAIL | errno.EPERM)]
    lines += ["whose", _argument(1), _Jump(_IF_EQUAL, 0, "fine"), (_RETURN, _FAIL | errno.EPERM)]
    lines += ["itself", _argument(0), _Jump(_IF_EQUAL, 0, "fine"), (_RETURN, _FAIL | errno.EPERM)]
    lines += ["clone", _argument(0), _Jump(_IF_ANY_BIT, _NAMESPACES, "refuse."), (_RETURN, _ALLOW)]
    # TCP and UDP over IP, and the list of interfaces that the resolver asks for. No other family: over a Unix socket a
    # session's bus or a container's keeper would start programs outside of all this. MPTCP passes Landlock by.
    lines += [
        "socket", _argument(0), _Jump(_IF_EQUAL, _AF_INET, "internet"), _Jump(_IF_EQUAL, _AF_INET6, "internet"),
        _Jump(_IF_EQUAL, _AF_NETLINK, "netlink"), (_RETURN, _FAIL | errno.EAFNOSUPPORT),
        "internet", _argument(1), (_MASK, _SOCK_TYPE), _Jump(_IF_MORE, _SOCK_DGRAM, "refuse."),
        _argument(2), _Jump(_IF_EQUAL, 0, "fine"), _Jump(_IF_EQUAL, _TCP, "fine"), _Jump(_IF_EQUAL, _UDP, "fine"),
        (_RETURN, _FAIL | errno.EPROTONOSUPPORT),
        "netlink", _argument(2), _Jump(_IF_EQUAL, 0, "fine"),
        "refuse.", (_RETURN, _FAIL | errno.EPERM),
        "fine", (_RETURN, _ALLOW),
    ]  # fmt: skip
    # Data in the opening packet connects without `connect`, which Landlock would look at.
    for name, (_, flags) in _SENDING.items():
        lines += [name, _argument(flags), _Jump(_IF_ANY_BIT, _MSG_FASTOPEN, f"{name}."), (_RETURN, _ALLOW)]
        lines += [f"{name}.", (_RETURN, _FAIL | errno.EPERM)]
    return _assemble(lines)


def _argument(index: int) -> tuple[int, int]:
    """Loads the lower half of a call's argument; those looked at have no upper one."""
    return (_LOAD, _ARGUMENTS_AT + 8 * index)


def _assemble(lines: Sequence[_Jump | tuple[int, int] | str]) -> bytes:
    """The instructions, with each label as the distance to it; a test can go 255 of them ahead."""
    places: dict[str, int] = {}
    instructions: list[_Jump | tuple[int, int]] = []
    for line in lines:
        if isinstance(line, str):
            places[line] = len(instructions)
        else:
            instructions.append(line)
    made = bytearray()
    for place, line in enumerate(instructions):
        match line:
            case _Jump(code, value, label):
                made += struct.pack("=HBBI", code, places[label] - place - 1, 0, value)
            case (code, value):
                made += struct.pack("=HBBI", code, 0, 0, value)
    return bytes(made)
