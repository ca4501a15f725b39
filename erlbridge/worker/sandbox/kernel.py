"""System calls that Python has no function for. Linux only.

Through ctypes and no library: those for Landlock on the package index are months old and have one keeper each, the one
for seccomp needs libseccomp, which small images leave out. What is called here is a few stable numbers.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)

_PR_SET_DUMPABLE: Final = 4
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_MODE_FILTER: Final = 2

_CAPABILITIES_VERSION: Final = 0x20080522
_CAPABILITIES_OVER_FILES: Final = 0b1110
"""To pass over a file's mode, to search directories, to act as a file's owner: a root user's data directory may belong
to somebody else, as those that are mounted into containers do. Landlock has the last word on files."""


def syscall(number: int, *arguments: int | ctypes.Array[ctypes.c_char] | None) -> int:
    """Calls the kernel by number; raises `OSError`. Numbers go as longs, buffers by address."""
    given = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return _checked(_LIBC.syscall(ctypes.c_long(number), *given))


def forbid_new_privileges() -> None:
    """From here on no program that is executed gains rights by its file: no setuid, no capabilities. Those that root
    has are given up, but for files: one of them is to read other processes' memory, in spite of Landlock."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITIES_VERSION, 0))
    held = ctypes.create_string_buffer(24)
    _checked(_LIBC.capget(header, held))
    # Each half of the set: effective, permitted, inheritable.
    _, permitted, *_rest = struct.unpack("=6I", held.raw[:24])
    kept = permitted & _CAPABILITIES_OVER_FILES
    _checked(_LIBC.capset(header, struct.pack("=6I", kept, kept, 0, 0, 0, 0)))


def keep_memory_private() -> None:
    """Other processes of the same user may not read this one's memory, environment or descriptors; root may. The
    process writes no core. Its `/proc/PID/stat` and `statm` stay readable for all."""
    _prctl(_PR_SET_DUMPABLE, 0)


def filter_syscalls(program: bytes) -> None:
    """Puts a filter of classic BPF instructions, of eight bytes each, on this thread and those that it starts."""

    class Filter(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))

    filter_ = Filter(len(program) // 8, program)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(filter_))


def _prctl(option: int, *arguments: int) -> int:
    padded = [*arguments, 0, 0, 0, 0][:4]
    return _checked(_LIBC.prctl(option, *map(ctypes.c_ulong, padded)))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
