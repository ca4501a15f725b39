"""What the node says of the programs that it keeps: lists, gives and deletes them, without a worker.

Reads stored bytes as data only: no program is built, and DSPy is not there. Knows the store and the envelope's names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from erlbridge.codec import binary_to_term, tags
from erlbridge.core.requests import parse_list_programs, parse_program_id
from erlbridge.errors import DecodeError, NotFound
from erlbridge.limits import PROGRAM_HEADER_BYTES
from erlbridge.store.programs import ProgramStore, Stored
from erlbridge.wire.messages import Term
from erlbridge.wire.vocabulary import atom, atom_keys, published

_LISTED: Final[dict[object, str]] = {
    key: name
    for name in ("signature", "pipeline", "module", "optimizer", "scores")
    for key in (atom(name), name.encode())
}
"""What is listed of an envelope, by its keys as a host may have written them. A pipeline has no signature."""
_BEHIND: Final = (atom("state"), b"state")
"""Keys are in order, so behind this one nothing is listed; and it is the one that can be large."""
_VERSION: Final = bytes((tags.VERSION_MAGIC,))
_MAP: Final = bytes((tags.VERSION_MAGIC, tags.MAP_EXT))


def list_programs(store: ProgramStore, payload: Term) -> Term:
    """One page of the stored programs, newest first. `next` is what to send as `after` for the one behind it."""
    wanted = parse_list_programs(payload)
    found = store.newest(wanted.limit + 1, wanted.after)
    page = found[: wanted.limit]
    return atom_keys(
        {
            "status": atom("success"),
            "programs": [summary for stored in page if (summary := _summary(store, stored)) is not None],
            "next": str(page[-1].cursor) if len(found) > len(page) else None,
        }
    )


def get_program(store: ProgramStore, payload: Term) -> Term:
    """A program as the optimization gave it, or `put_program` took it."""
    program_id = parse_program_id(payload)
    program = published(binary_to_term(store.get(program_id)))
    return atom_keys({"status": atom("success"), "program_id": program_id, "program": program})


def delete_program(store: ProgramStore, payload: Term) -> Term:
    """Forgets a program; jobs that were sent with it keep their copy."""
    program_id = parse_program_id(payload)
    store.delete(program_id)
    return atom_keys({"status": atom("success"), "program_id": program_id})


ANSWERS: Final[dict[str, Callable[[ProgramStore, Term], Term]]] = {
    "list_programs": list_programs,
    "get_program": get_program,
    "delete_program": delete_program,
}
"""The verbs of the store by name. Each raises the `BridgeError` that is its request's answer, or `OSError`."""


def _summary(store: ProgramStore, stored: Stored) -> Term:
    """A program in the list, None when it was deleted meanwhile or is damaged, which sets it aside."""
    try:
        found = _entries(store.head(stored.program_id, PROGRAM_HEADER_BYTES) or b"")
    except DecodeError:
        try:
            found = _entries(store.get(stored.program_id))
        except (NotFound, DecodeError, OSError):
            return None
    return atom_keys(
        {
            "program_id": stored.program_id,
            "name": _name(found.get("signature", found.get("pipeline"))),
            "module": found.get("module"),
            "optimizer": found.get("optimizer"),
            "scores": found.get("scores"),
            "bytes": stored.size_bytes,
            "stored_at_ms": stored.stored_at_ns // 1_000_000,
        }
    )


def _name(signature: Term) -> Term:
    if not isinstance(signature, Mapping):
        return None
    return signature.get(atom("name"), signature.get(b"name"))


def _entries(data: bytes) -> dict[str, Term]:
    """What is listed of an envelope, taken from the beginning of its bytes without building the rest.

    Raises `DecodeError` when the data end before the last of it: envelopes are written with their keys in order, and
    only what `put_program` took may lack one.
    """
    from erlbridge.codec import skip  # noqa: PLC0415 - the node's start does not wait for it

    if data[:2] != _MAP:
        raise DecodeError("expected a map", 0)
    found: dict[str, Term] = {}
    at = len(_MAP) + 4
    for _ in range(int.from_bytes(data[len(_MAP) : at])):
        key_end = skip(data, at)
        key = binary_to_term(_VERSION + data[at:key_end])
        if key in _BEHIND:
            break
        end = skip(data, key_end)
        if (name := _LISTED.get(key)) is not None:
            found[name] = published(binary_to_term(_VERSION + data[key_end:end]))
        at = end
    return found
