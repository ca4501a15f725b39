"""Interpreters inside this process, through the module that CPython has for it under another name since 3.13.

Meant for a process of its own: an extension that is wrong here takes the process down.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NEW = sys.version_info >= (3, 13)

_interpreters: Any = importlib.import_module("_interpreters" if NEW else "_xxsubinterpreters")

PATH = f"import sys; sys.path[:] = {sys.path!r}\n"


@contextmanager
def interpreter() -> Iterator[Any]:
    """A new interpreter, as isolated as this Python can make it: since 3.12 it has a lock of its own."""
    name = _interpreters.create()
    try:
        yield name
    finally:
        _interpreters.destroy(name)


def run(name: Any, code: str) -> None:
    """Runs the code there, with the modules that are found here; its exception becomes one here."""
    failure = _interpreters.run_string(name, PATH + code)
    if failure is not None:  # 3.13 returns what earlier ones raise
        raise RuntimeError(failure.formatted)


def lock_of(name: Any) -> str:
    """`own` or `shared`; tells it since 3.13."""
    gil: str = _interpreters.get_config(name).gil
    return gil
