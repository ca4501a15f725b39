"""Reports on how programs came to be, as a store keeps them: each under its program's name, and gone with it.

Knows bytes and names, not what they mean. A program's first report stays: whoever makes the same program again, with
the same scores for the same calls, has nothing else to report.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Final

from erlbridge.errors import NotFound, ValidationError
from erlbridge.limits import MAX_REPORT_BYTES
from erlbridge.store.blobs import Blob, Blobs
from erlbridge.store.register import Say
from erlbridge.wire.vocabulary import atom

DIRECTORY: Final = "reports"
PREFIX: Final = "report:"
_PROGRAM: Final = "program:"
_SUFFIX: Final = ".etf"
_NAME: Final = re.compile(r"report:[0-9a-f]{64}\Z")
_SUM_BYTES: Final = 32


def report_name(program_id: str) -> str:
    """What the report on a program is called."""
    return PREFIX + program_id.removeprefix(_PROGRAM)


def names_report(name: str) -> bool:
    """Whether a name is meant for a report."""
    return name.startswith(PREFIX)


class Reports:
    """The reports of a store, shared safely by all its nodes. Every method may raise `OSError`.

    Args:
        blobs: Where they lie, each with its sum before it.
        say: Told of what was damaged.
    """

    def __init__(self, blobs: Blobs, say: Say) -> None:
        self._blobs = blobs
        self._say = say

    def put(self, name: str, content: bytes) -> None:
        """Keeps a report, unless its program has one. Raises `ValidationError` for what is no report's name, or too
        long: a worker has sent both."""
        if not _NAME.match(name):
            raise ValidationError("expected `report:` and 64 hexadecimal digits", "report")
        if len(content) > MAX_REPORT_BYTES:
            raise ValidationError(f"a report of {len(content)} bytes, limit {MAX_REPORT_BYTES}", "report")
        file = _file(name)
        if self._read(file) is None:
            self._blobs.put(DIRECTORY, file, _sum(content) + content)

    def get(self, program_id: str) -> bytes:
        """The report on a program. Raises `NotFound`; what is damaged is set aside and not served."""
        file = _file(report_name(program_id))
        content = self._read(file)
        if content is not None:
            return content
        context: dict[str, object] = {"program_id": program_id}
        if self._blobs.has(DIRECTORY, file):
            with contextlib.suppress(OSError):
                self._blobs.set_aside(DIRECTORY, file)
            self._say(f"the report on {program_id} was damaged, and is set aside")
            context["reason"] = atom("damaged")
            raise NotFound(f"the report on {program_id} was damaged on disk, and is set aside", context=context)
        raise NotFound(
            f"no report on {program_id} is stored here; an optimization makes one with `report: true` in its config",
            context=context,
        )

    def has(self, program_id: str) -> bool:
        """Whether there is a report on a program, be it damaged."""
        return self._blobs.has(DIRECTORY, _file(report_name(program_id)))

    def file(self, program_id: str) -> bytes:
        """The bytes of the report's file, for another store to `take`. Raises `NotFound`."""
        content = self.get(program_id)
        return _sum(content) + content

    def take(self, name: str, file: bytes) -> bool:
        """Keeps what `file` gave, and gives whether there was a report already. Raises `ValidationError` when it is not
        that. Not on the disk itself yet when this returns."""
        content = file[_SUM_BYTES:]
        if file[:_SUM_BYTES] != _sum(content) or len(content) > MAX_REPORT_BYTES:
            raise ValidationError("expected a report with its sum", "report")
        known = self._read(_file(name)) is not None
        if not known:
            self._blobs.put(DIRECTORY, _file(name), file, durable=False)
        return known

    def delete(self, program_id: str) -> None:
        """Forgets the report on a program, if there is one."""
        self._blobs.delete(DIRECTORY, _file(report_name(program_id)))

    def all(self) -> Iterator[tuple[str, Blob]]:
        """Each report's program, and where it lies; nothing is read."""
        for blob in self._blobs.all(DIRECTORY):
            digits = blob.name.removesuffix(_SUFFIX)
            if blob.name.endswith(_SUFFIX) and _NAME.match(PREFIX + digits):
                yield _PROGRAM + digits, blob

    def _read(self, file: str) -> bytes | None:
        """What lies there and is whole."""
        found = self._blobs.get(DIRECTORY, file, _SUM_BYTES + MAX_REPORT_BYTES + 1)
        if found is None or len(found) > _SUM_BYTES + MAX_REPORT_BYTES:
            return None
        content = found[_SUM_BYTES:]
        return content if found[:_SUM_BYTES] == _sum(content) else None


def _file(name: str) -> str:
    return name.removeprefix(PREFIX) + _SUFFIX


def _sum(content: bytes) -> bytes:
    import hashlib  # noqa: PLC0415 - 5 ms that the node's start does not wait for

    return hashlib.sha256(content).digest()
