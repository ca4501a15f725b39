"""Processes, ports and references as text, the same in both notations.

Whose one is stands first: `0` for a node without a name, else the name and the creation that tells it from an earlier
node of that name, as in `#PID<a@b/5.7.8>`. A name that holds what these forms need is in hexadecimal behind a `%`.
"""

from __future__ import annotations

import re

from erlbridge.codec.atoms import Atom
from erlbridge.codec.terms import Local, Pid, Port, Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from erlbridge.codec.notation.reader import Cursor

_NAMELESS = "nonode@nohost"
_PLAIN_NODE = re.compile(r"[A-Za-z_][A-Za-z0-9_@.-]*")
_IDENTIFIER = re.compile(
    r"(#PID|#Port|#Reference|#Ref|)<(?:0|(%?[A-Za-z0-9_@.-]+)/([0-9]{1,10}))((?:\.[0-9]{1,20}){1,5})>"
)
_LOCAL = re.compile(r"#Local<([0-9a-f]*)>")


def owner(node: str, creation: int) -> str:
    """`0` for what belongs to a node that has no name, else the name and creation: `a@b/5`."""
    if node == _NAMELESS and creation == 0:
        return "0"
    name = node if _PLAIN_NODE.fullmatch(node) else "%" + node.encode().hex()
    return f"{name}/{creation}"


def read_identifier(cursor: Cursor) -> Pid | Port | Reference | Local:
    """The process, port or reference that stands here."""
    start = cursor.pos
    local = cursor.match(_LOCAL)
    if local is not None and not len(local[1]) % 2:
        return Local(bytes.fromhex(local[1]))
    found = cursor.match(_IDENTIFIER)
    if found is None:
        if cursor.text.startswith(("#Fun<", "#Function<"), start):
            cursor.fail("a function cannot be read back: its text does not tell what it holds", start)
        cursor.expected("a process, port or reference such as `<0.7.8>` or `<a@b/5.7.8>`, 5 being its node's creation")
    numbers = [int(number) for number in found[4][1:].split(".")]
    try:
        return _identifier(found[1], Atom(_node_name(found[2])), int(found[3] or 0), numbers)
    except ValueError as error:
        cursor.fail(str(error), start)


def _identifier(kind: str, node: Atom, creation: int, numbers: list[int]) -> Pid | Port | Reference:
    if kind in ("#Ref", "#Reference"):
        return Reference(node, creation, reversed(numbers))
    if len(numbers) != (1 if kind == "#Port" else 2):
        raise ValueError(f"a port has one number behind its node and a process two, got {len(numbers)}")
    return Port(node, numbers[0], creation) if kind == "#Port" else Pid(node, numbers[0], numbers[1], creation)


def _node_name(shown: str | None) -> str:
    if shown is None:
        return _NAMELESS
    return bytes.fromhex(shown[1:]).decode() if shown.startswith("%") else shown
