"""What pure functions of texts gave, remembered within bounds that count bytes: a worker lives for many jobs, and a
text may have megabytes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, TypeVar, cast

_Function = TypeVar("_Function", bound=Callable[[Any], object])


def remembered(most_bytes: int, count: Callable[[Any, Any], int]) -> Callable[[_Function], _Function]:
    """Remembers what a function of one hashable argument gave, which is not None, for any thread.

    Args:
        most_bytes: What is remembered takes together; with more all of it is forgotten, which is cheaper than to know
            what was asked for last. What alone takes more is not remembered.
        count: About how many an argument and what it gave take.

    >>> @remembered(1000, lambda text, found: len(text) + len(found))
    ... def backwards(text):
    ...     return text[::-1]
    >>> backwards("abc") is backwards("abc")
    True
    >>> backwards("abc" * 400) is backwards("abc" * 400)
    False
    """

    def decorate(function: _Function) -> _Function:
        known: dict[Hashable, object] = {}
        lock = threading.Lock()
        left = most_bytes

        @wraps(function)
        def ask(argument: Any) -> object:
            nonlocal left
            if (found := known.get(argument)) is not None:
                return found
            found = function(argument)
            size = count(argument, found)
            if size <= most_bytes:
                with lock:
                    if argument not in known:
                        if size > left:
                            known.clear()
                            left = most_bytes
                        left -= size
                        known[argument] = found
            return found

        return cast("_Function", ask)

    return decorate
