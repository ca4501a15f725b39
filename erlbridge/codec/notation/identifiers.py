"""Whose a process, port or reference is, as both notations write it: `0` for a node without a name, else its name."""

from __future__ import annotations

import re

NAMELESS = "nonode@nohost"
_PLAIN_NODE = re.compile(r"[A-Za-z_][A-Za-z0-9_@.-]*")


def owner(node: str, creation: int) -> str:
    """`0` for what belongs to a node that has no name, else the name and creation: `a@b/5`."""
    if node == NAMELESS and creation == 0:
        return "0"
    name = node if _PLAIN_NODE.fullmatch(node) else "%" + node.encode().hex()
    return f"{name}/{creation}"
