"""How the loop waits: asleep, or where requests follow one another at once, by looking for a moment.

To fall asleep and be woken takes a process longer than many a request, and what runs next runs at a fraction of its
speed. A BEAM's schedulers wait in the same two ways.
"""

from __future__ import annotations

import selectors
import time
from typing import Final, TypeAlias

_SHORT_WAITS: Final = 4
"""So many in a row, and the next is taken to be short as well. One that is not ends that."""

Ready: TypeAlias = list[tuple[selectors.SelectorKey, int]]


def selector_for(*descriptors: int) -> selectors.BaseSelector:
    """A selector that takes these. It is epoll, whose waiting costs the same however many workers there are; poll where
    one is a file, which epoll refuses and a wire that is replayed is read from."""
    selector = selectors.EpollSelector()
    try:
        for descriptor in set(descriptors):
            selector.register(descriptor, selectors.EVENT_READ)
            selector.unregister(descriptor)
    except PermissionError:
        selector.close()
        return selectors.PollSelector()
    return selector


class Waiting:
    """Waits on `selector`; looks for at most `look_s` before it sleeps, and never if that is 0."""

    def __init__(self, selector: selectors.BaseSelector, look_s: float) -> None:
        self._selector = selector
        self._look_s = look_s
        self._short = 0

    def select(self, within_s: float, *, alone: bool) -> Ready:
        """What is ready, within so many seconds. `alone` is whether nobody else is at work, whom looking keeps from the
        processor: what is waited for is the host's next request."""
        if within_s <= 0 or not alone or not self._look_s:
            return self._selector.select(within_s)
        began = time.monotonic()
        if self._short >= _SHORT_WAITS:
            look_until = began + min(self._look_s, within_s)
            while not (ready := self._selector.select(0)):
                if time.monotonic() >= look_until:
                    self._short = 0
                    return self._selector.select(within_s)
            return ready
        ready = self._selector.select(within_s)
        # To be woken takes its time, which looking does not.
        self._short = self._short + 1 if ready and time.monotonic() - began <= 2 * self._look_s else 0
        return ready
