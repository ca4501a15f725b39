"""What a host hears when the disk refuses."""

from __future__ import annotations

import errno
from typing import Final

from erlbridge.errors import StorageFailed
from erlbridge.wire.vocabulary import atom

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_DESCRIPTOR: Final = (errno.EMFILE, errno.ENFILE)


def storage_failed(doing: str, error: OSError) -> StorageFailed:
    """The error of a request that the disk refused."""
    full = error.errno in _FULL
    advice = "free some space and send it again" if full else "see to its directory and send it again"
    if error.errno in _NO_DESCRIPTOR:
        advice = "raise the limit on open files (ulimit -n) and send it again"
    reason = atom("disk_full" if full else "disk_refused")
    return StorageFailed(f"{doing}: {error.strerror or error}; {advice}", context={"reason": reason})
