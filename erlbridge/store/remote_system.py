"""A file system elsewhere, and how long it is waited for. The one door to fsspec.

An error of whatever class is an `OSError`, an answer that never comes is not waited for, and a connection that was cut
is made again. Knows no blob.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeVar

from erlbridge.core.addresses import Address, parse_address, redacted
from erlbridge.core.backoff import delay_s

Result = TypeVar("Result")
_Outcome: TypeAlias = tuple[Any, BaseException | None]

_PATIENCE_S: Final = 30.0
"""How long any answer may take; packages try again by themselves meanwhile."""
_SLOWEST_BYTES_PER_S: Final = 2**20
_AWAY_S: Final = 5.0
"""How long a system that did not answer is left alone; meanwhile it refuses at once."""
_LONGEST_AWAY_S: Final = 300.0
"""The same, after it has not answered again and again: each time a thread is left to wait for it, perhaps for ever."""


class BlobsRefused(OSError):
    """The blobs cannot be reached now; what was asked for may be asked for again."""


class RemoteSystem:
    """What lies under an address such as `s3://bucket/erlbridge`.

    Args:
        address: As fsspec knows it. Nothing is reached, and fsspec not imported, before the first use.
        clock: Seconds that only go up.
    """

    def __init__(self, address: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = address
        self._address = parse_address(address) or Address("", "store_blobs", (address,))
        self._clock = clock
        self._opened: tuple[Any, str] | None = None
        self._in_vain = 0
        self._away_until = 0.0

    @property
    def shown(self) -> str:
        """The address, without what is secret of it."""
        return self._address.shown

    def call(self, work: Callable[[Any, str], Result], size_bytes: int = 0) -> Result:
        """What `work` gives with the system and the path of its root; it may be called twice. Raises `BlobsRefused`.

        Args:
            size_bytes: What it moves, for which it gets more time.
        """
        if self._clock() < self._away_until:
            raise BlobsRefused(f"{self.shown} did not answer a moment ago")
        seconds = _PATIENCE_S + size_bytes / _SLOWEST_BYTES_PER_S
        was_open = self._opened is not None
        try:
            try:
                return self._answer(work, seconds)
            except (BlobsRefused, TimeoutError):
                raise
            except Exception:  # a connection that was kept may have been cut meanwhile
                self._opened = None
                if not was_open:
                    raise
                return self._answer(work, seconds)
        except BlobsRefused:
            raise
        except TimeoutError as error:
            self._opened = None
            self._in_vain += 1
            self._away_until = self._clock() + delay_s(self._in_vain, first_s=_AWAY_S, most_s=_LONGEST_AWAY_S)
            raise BlobsRefused(f"{self.shown} does not answer: {error}") from None
        except ImportError as error:
            raise BlobsRefused(
                f"a package for {self.shown} is missing: {error}; install it, or unset store_blobs"
            ) from None
        except Exception as error:  # noqa: BLE001 - as above
            said = redacted(f"{type(error).__name__}: {error}", self._address)
            text = f"{self.shown}: {said}"
            number = error.errno if isinstance(error, OSError) else None
            raise (BlobsRefused(number, text) if number else BlobsRefused(text)) from None

    def _answer(self, work: Callable[[Any, str], Result], seconds: float) -> Result:
        result = _within(seconds, lambda: work(*self._open()), self._is_back)
        self._in_vain = 0
        return result

    def _is_back(self) -> None:
        """An answer came that nobody waits for any more, so the next one may be asked for."""
        self._in_vain = 0
        self._away_until = 0.0

    def _open(self) -> tuple[Any, str]:
        opened = self._opened
        if opened is None:
            from fsspec.core import url_to_fs  # type: ignore[import-untyped]  # noqa: PLC0415 - for those who use it

            # What another node has put or deleted is asked for each time; and of a system with a connection, fsspec
            # would give the one that was cut.
            system, root = url_to_fs(self._url, use_listings_cache=False, skip_instance_cache=True)
            opened = self._opened = system, str(root).rstrip("/")
        return opened


def _within(seconds: float, work: Callable[[], Result], late: Callable[[], None]) -> Result:
    """What `work` gives, done by a thread that is left to itself when it takes longer: then raises `TimeoutError`, and
    calls `late` in that thread if it gives something in the end."""
    done: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
    left_alone = threading.Event()

    def run() -> None:
        try:
            outcome: _Outcome = work(), None
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits
            outcome = None, error
        done.put(outcome)
        if left_alone.is_set() and outcome[1] is None:
            late()

    threading.Thread(target=run, name="erlbridge-blobs", daemon=True).start()
    try:
        result, error = done.get(timeout=seconds)
    except queue.Empty:
        left_alone.set()
        raise TimeoutError(f"nothing within {seconds:.0f} s") from None
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]  # what the work gave
