"""What a host does with a node while things break. Each of these can be said again, to the same or to another node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from streams import chunks, framed, rows
from tickets import OFFLINE, SIGNATURE, TICKETS, optimization, prediction

from erlbridge.codec import Atom
from faultpoints.host import Host, plain


@dataclass(frozen=True, slots=True)
class Conversation:
    """`say` holds the conversation with a host's node, and may be called again with another."""

    name: str
    say: Callable[[Host], None]


def _fields(payload: dict[Any, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in payload.items()}


def transfers(host: Host) -> None:
    """Two datasets, one of them twice, with and without compression, and one that is given up."""
    zipped, plain = framed(rows(150, 64)), framed(rows(40, 200))
    host.send("zipped", zipped, chunks("zipped", zipped, chunk_bytes=2000))
    host.send("plain", plain, chunks("plain", plain, compression="none", chunk_bytes=3000))
    host.send("the same", zipped, chunks("the same", zipped, compression="none", chunk_bytes=9000))
    given_up = chunks("given up", framed(rows(60, 64)), chunk_bytes=1500)
    host.ask("cancel_transfer", transfer=b"given up")
    for payload in given_up[:2]:
        host.ask("data_chunk", **_fields(payload))
    host.ask("cancel_transfer", transfer=b"given up")


def jobs(host: Host) -> None:
    """An optimization on a dataset, a prediction and a training under keys; a program put, one deleted."""
    ledger = host.ledger
    stream = framed(TICKETS[:12])
    host.send("tickets", stream, chunks("tickets", stream, chunk_bytes=1000))
    dataset = (Atom("dataset"), next(name for name, found in ledger.datasets.items() if found == stream).encode())
    asked = {**optimization(optimizer=Atom("labeled_few_shot"), max_labeled_demos=2), Atom("training_data"): dataset}
    optimized = host.keyed("optimize_signature", "optimization", **_fields(asked))
    program = optimized["program"]
    if not optimized["warnings"]:  # or the disk refused it, and said so
        ledger.programs[optimized["program_id"]] = plain(program)
    for note in (b"kept", b"deleted"):
        noted = {**program, Atom("usage"): {b"note": note}}
        program_id = host.ask("put_program", program=noted)["program_id"]
        ledger.gone.discard(program_id)
        ledger.programs[program_id] = plain(host.ask("get_program", program_id=program_id)["program"])
    del ledger.programs[program_id]
    host.ask("delete_program", program_id=program_id)
    ledger.gone.add(program_id)
    host.keyed("predict", "prediction", **{**_fields(prediction()), "config": {**OFFLINE, Atom("seed"): 1}})
    trained = host.keyed(
        "train_model",
        "training",
        signature=SIGNATURE,
        training_data=TICKETS[:12],
        validation_data=TICKETS[12:14],
        config=OFFLINE,
    )
    asked = prediction({Atom("lm"): {Atom("model"): trained["model"]}})
    host.ask("predict", **_fields(asked))


TRANSFERS: Final = Conversation("transfers", transfers)
JOBS: Final = Conversation("jobs", jobs)
CONVERSATIONS: Final = (TRANSFERS, JOBS)
