"""The verb `put_program`: a program that the host brings back, checked before the node keeps it."""

from __future__ import annotations

from erlbridge.core.jobs import Outcome, PutProgram
from erlbridge.programs.envelopes import pack, read_envelope
from erlbridge.wire.vocabulary import atom, atom_keys, published


def put_program(job: PutProgram) -> Outcome:
    """Reads a program with the strict allow-list, builds it once, and hands over its bytes.

    A program that comes back as the node gave it keeps its id. Atoms that are not the node's own become binaries: who
    asks for the program later may not know them.
    """
    read_envelope(job.place).build()
    program_id, data = pack(published(job.place.term))
    return Outcome(atom_keys({"status": atom("success"), "program_id": program_id}), program_id, data)
