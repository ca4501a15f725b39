"""The shipped tickets as a host would send them, and the payloads that the tests of the node vary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from erlbridge.codec import Atom

_FILE = Path(__file__).resolve().parents[2] / "erlbridge" / "data" / "support_tickets.tsv"


def tickets() -> list[dict[Any, Any]]:
    """Every ticket as a map with atom keys and binary values."""
    header, *rows = (line.split("\t") for line in _FILE.read_text().splitlines())
    return [{Atom(name): value.encode() for name, value in zip(header, row, strict=True)} for row in rows]


TICKETS = tickets()
KNOWN, HELD_OUT = TICKETS[:64], TICKETS[64:]
LABELS = sorted({ticket[Atom("category")] for ticket in TICKETS})
SIGNATURE = {
    Atom("name"): b"TicketTriage",
    Atom("instructions"): b"Route the support ticket to the team that can solve it.",
    Atom("input_fields"): [Atom("subject"), Atom("body")],
    Atom("output_fields"): [{Atom("name"): Atom("category"), Atom("enum"): LABELS}],
}
OFFLINE = {Atom("lm"): Atom("offline")}


def slow(latency_ms: int) -> dict[Any, Any]:
    """A config whose every model call takes so long."""
    return {Atom("lm"): {Atom("model"): Atom("offline"), Atom("latency_ms"): latency_ms}}


def optimization(count: int = 24, **config: object) -> dict[Any, Any]:
    """A payload of optimize_signature on the first tickets; keywords go into its config."""
    return {
        Atom("signature"): SIGNATURE,
        Atom("training_data"): TICKETS[:count],
        Atom("config"): {**OFFLINE, **{Atom(name): value for name, value in config.items()}},
    }


def prediction(config: dict[Any, Any] | None = None) -> dict[Any, Any]:
    """A payload of predict with the unoptimized signature."""
    ticket = {key: value for key, value in TICKETS[0].items() if key != Atom("category")}
    return {Atom("signature"): SIGNATURE, Atom("input"): ticket, Atom("config"): config or OFFLINE}
