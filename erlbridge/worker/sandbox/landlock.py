"""Landlock: the kernel's own refusal of files, TCP ports and signals, for a process that asks for it (`landlock(7)`).

Each kernel speaks a version of the interface; rules use what is there. Knows paths and ports; knows no worker.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from enum import IntFlag
from pathlib import Path
from typing import Final

from erlbridge.worker.sandbox.kernel import syscall

TCP_SINCE: Final = 4
"""Version that can refuse to bind and to connect TCP sockets: Linux 6.7."""

TRUNCATE_SINCE: Final = 3
"""Version that can refuse to cut files, without which one that may not be written may be emptied: Linux 6.2."""

SIGNALS_SINCE: Final = 6
"""Version that can keep signals, and connections to abstract Unix sockets, from leaving: Linux 6.12."""

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_ASK_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_NET_PORT: Final = 2
_BIND_TCP: Final = 1
_CONNECT_TCP: Final = 2
_ABSTRACT_UNIX_SOCKETS: Final = 1
_SIGNALS: Final = 2


class Access(IntFlag):
    """What may be done with a file or beneath a directory."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


READ: Final = Access.READ_FILE | Access.READ_DIR
WRITE: Final = (
    READ
    | Access.WRITE_FILE
    | Access.TRUNCATE
    | Access.MAKE_REG
    | Access.MAKE_DIR
    | Access.MAKE_SYM
    | Access.MAKE_FIFO
    | Access.MAKE_SOCK
    | Access.REMOVE_FILE
    | Access.REMOVE_DIR
    | Access.REFER
)
_ON_FILES: Final = Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE | Access.IOCTL_DEV


def version() -> int:
    """The version of the interface that the kernel speaks, 0 when it has none or does not use it."""
    try:
        return syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)
    except OSError:
        return 0


class Ruleset:
    """What will be allowed; all else that this version knows of is refused once `enforce` is called.

    Args:
        known: The version to use, at most the kernel's.
        ports: Where TCP may connect to; with none, anywhere. Binding is refused everywhere.
    """

    def __init__(self, known: int, ports: Iterable[int] = ()) -> None:
        self._handled = _known_to(known)
        ports = tuple(ports)
        attributes = struct.pack("=Q", self._handled)
        if known >= TCP_SINCE:
            attributes += struct.pack("=Q", _BIND_TCP | (_CONNECT_TCP if ports else 0))
        if known >= SIGNALS_SINCE:
            attributes += struct.pack("=Q", _ABSTRACT_UNIX_SOCKETS | _SIGNALS)
        buffer = ctypes.create_string_buffer(attributes, len(attributes))
        self._descriptor = syscall(_CREATE_RULESET, buffer, len(attributes), 0)
        if known >= TCP_SINCE:
            for port in ports:
                self._add(_NET_PORT, struct.pack("=QQ", _CONNECT_TCP, port))

    def allow(self, paths: Iterable[Path | str], access: Access) -> None:
        """Allows this with files, and beneath directories; a path that is not there is left out."""
        for path in paths:
            try:
                descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
                allowed = access & self._handled if is_directory else access & self._handled & _ON_FILES
                if allowed:
                    self._add(_PATH_BENEATH, struct.pack("=Qi", allowed, descriptor))
            finally:
                os.close(descriptor)

    def enforce(self) -> None:
        """From here on the calling thread, and all that it starts, is held to this; nothing takes it back."""
        syscall(_RESTRICT_SELF, self._descriptor, 0)

    def close(self) -> None:
        """Lets go of the ruleset; one that is enforced stays so."""
        os.close(self._descriptor)

    def _add(self, kind: int, rule: bytes) -> None:
        syscall(_ADD_RULE, self._descriptor, kind, ctypes.create_string_buffer(rule, len(rule)), 0)


def _known_to(known: int) -> Access:
    """The rights that a version of the interface can refuse."""
    rights = Access(0)
    for right in Access:
        since = {Access.REFER: 2, Access.TRUNCATE: TRUNCATE_SINCE, Access.IOCTL_DEV: 5}.get(right, 1)
        if known >= since:
            rights |= right
    return rights
