"""The name of training data, by which a program says what it has learned from."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import Final

from erlbridge.codec import tags, term_to_binary

_LIST: Final = struct.Struct(">BBI")
"""How the term of a list begins: the format's version, the list's tag, and how many elements it has."""


class DatasetSum:
    """Names training data by its content: what was read, however the host spelled it. It is the SHA-256 of a list of
    the examples as a term, which is never built.

    >>> summed = DatasetSum(1)
    >>> summed.add({"a": 1})
    >>> summed.hexdigest() == hashlib.sha256(term_to_binary([{"a": 1}])).hexdigest()
    True
    """

    def __init__(self, examples: int) -> None:
        self._sum = hashlib.sha256(_LIST.pack(tags.VERSION_MAGIC, tags.LIST_EXT, examples))

    def add(self, example: Mapping[str, object]) -> None:
        """The next example."""
        self._sum.update(term_to_binary(dict(example), deterministic=True)[1:])

    def hexdigest(self) -> str:
        """The digits, once all examples have been added."""
        whole = self._sum.copy()
        whole.update(bytes((tags.NIL_EXT,)))
        return whole.hexdigest()
