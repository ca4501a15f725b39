"""What the node says of the programs that it keeps: lists, gives and deletes them, without a worker.

Reads stored bytes as data only: no program is built, and DSPy is not there. Knows the store and its answers' names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from erlbridge.codec import binary_to_term
from erlbridge.core.paging import Cursor
from erlbridge.core.requests import parse_list_programs, parse_program_id
from erlbridge.core.summaries import summary
from erlbridge.limits import PROGRAM_HEADER_BYTES
from erlbridge.store.contents import Contents
from erlbridge.store.index import Entry
from erlbridge.store.store import Store
from erlbridge.wire.messages import Term
from erlbridge.wire.vocabulary import atom, atom_keys, published


def list_programs(store: Store, payload: Term) -> Term:
    """One page of the stored programs, newest first. `next` is what to send as `after` for the one behind it."""
    wanted = parse_list_programs(payload)
    found = store.programs.newest(wanted.limit + 1, wanted.after)
    page = found[: wanted.limit]
    return atom_keys(
        {
            "status": atom("success"),
            "programs": [summary for stored in page if (summary := _summary(store.programs, stored)) is not None],
            "next": str(Cursor(page[-1].stored_at_ns, page[-1].name)) if len(found) > len(page) else None,
        }
    )


def get_program(store: Store, payload: Term) -> Term:
    """A program as the optimization gave it, or `put_program` took it."""
    program_id = parse_program_id(payload)
    program = published(binary_to_term(store.programs.get(program_id)))
    return atom_keys({"status": atom("success"), "program_id": program_id, "program": program})


def get_report(store: Store, payload: Term) -> Term:
    """How a program came to be, as the optimization reported it: drawn anew from what is kept."""
    from erlbridge.reports.record import unpack  # noqa: PLC0415 - seldom asked for, and the node's start waits for none
    from erlbridge.reports.term import report_term  # noqa: PLC0415

    program_id = parse_program_id(payload)
    report = report_term(unpack(store.reports.get(program_id)), program_id)
    return atom_keys({"status": atom("success"), "program_id": program_id, "report": report})


def delete_program(store: Store, payload: Term) -> Term:
    """Forgets a program, and the report on it; jobs that were sent with it keep their copy."""
    program_id = parse_program_id(payload)
    store.programs.delete(program_id)
    return atom_keys({"status": atom("success"), "program_id": program_id})


ANSWERS: Final[dict[str, Callable[[Store, Term], Term]]] = {
    "list_programs": list_programs,
    "get_program": get_program,
    "get_report": get_report,
    "delete_program": delete_program,
}
"""The verbs of the store by name. Each raises the `BridgeError` that is its request's answer, or `OSError`."""


def _summary(store: Contents, stored: Entry) -> Term:
    """A program in the list, None when it was deleted meanwhile or is damaged, which sets it aside."""
    about = store.about(stored, PROGRAM_HEADER_BYTES)
    if about is None:
        return None
    return atom_keys(
        {
            "program_id": stored.name,
            **{name: published(value) for name, value in summary(about).items()},
            "bytes": stored.size_bytes,
            "stored_at_ms": stored.stored_at_ns // 1_000_000,
        }
    )
