"""`erlbridge demo`: the main job with what is shipped: tickets, the offline LM, a node whose directory goes again."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Final

from erlbridge.tools.jobs.running import Session, with_node
from erlbridge.wire.answers import named, text

_LEARNED: Final = 64
"""Tickets that optimizers may see; the others are held out for the scores before and after."""
_TRAIN: Final = 44
"""Of those, what one learns from that chooses between programs by the rest."""
_CHOOSE_NOTHING: Final = ("labeled_few_shot", "bootstrap_few_shot")
"""They make one program, have nothing to choose, and learn from all."""
_NEW: Final = {
    "subject": "Where is my parcel?",
    "body": "I ordered a lamp two weeks ago. The tracking number shows nothing and the courier has not delivered it.",
}


@dataclass(frozen=True, slots=True)
class Row:
    """What an optimizer brought; scores are those of the held-out tickets, 0.0 to 1.0."""

    optimizer: str
    score_before: float
    score_after: float
    lm_calls: object
    duration_ms: object
    prediction: str


def demo(options: argparse.Namespace) -> int:
    """Scores the plain signature, optimizes it, scores and asks what was found; gives 1 if a score did not rise."""
    with tempfile.TemporaryDirectory(prefix="erlbridge-demo-") as directory:
        options.data = directory
        return with_node(options, lambda session, _: _demo(options, session))


def _demo(options: argparse.Namespace, session: Session) -> int:
    tickets = _tickets()
    teams = sorted({ticket["category"] for ticket in tickets})
    signature = _signature(teams)
    lm = {"model": "offline", "latency_ms": options.latency} if options.latency else "offline"
    config = {"lm": lm, "metric": "exact_match", "seed": options.seed}
    info = session.client.info
    _say(
        options, f"node      erlbridge {text(info['version'])}, DSPy {text(info['dspy'])}, {text(info['codec'])} codec"
    )
    _say(options, f"task      subject, body -> category, one of {', '.join(teams)}")
    _say(options, f"tickets   {_LEARNED} to learn from, {len(tickets) - _LEARNED} held out")
    _say(options, "model     the offline LM that comes with erlbridge: no key, no network\n")
    held_out = tickets[_LEARNED:]
    before = _score(session, {"signature": signature}, held_out, config)
    rows = []
    for optimizer in options.optimizers:
        row = _optimize(session, signature, tickets, {**config, "optimizer": optimizer}, before)
        rows.append(row)
        calls, took = row.lm_calls, row.duration_ms
        spent = f"{calls} model calls, {took / 1000 if isinstance(took, int) else 0:.1f} s"
        scores = f"{row.score_before:.1%} before, {row.score_after:.1%} after"
        _say(options, f"{optimizer}: {scores}; {spent}; {_NEW['subject']!r} is {row.prediction}")
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))
    same = [row.optimizer for row in rows if row.score_after <= row.score_before]
    if same:
        sys.stderr.write(f"{options.command}: the score did not rise with {', '.join(same)}\n")
        return 1
    _say(options, "\nEvery score rose. No key was read and no network was used.")
    return 0


def _optimize(
    session: Session, signature: object, tickets: Sequence[object], config: Mapping[str, object], before: float
) -> Row:
    optimizer = text(config["optimizer"])
    chooses = optimizer not in _CHOOSE_NOTHING
    split = _TRAIN if chooses else _LEARNED
    payload = {
        "signature": signature,
        "training_data": list(tickets[:split]),
        "config": config,
        **({"validation_data": list(tickets[split:_LEARNED])} if chooses else {}),
    }
    result = session.ask("optimize_signature", payload)
    program = {"program": result["program_id"]}
    metrics = named(result["optimization_metrics"])
    after = _score(session, program, tickets[_LEARNED:], config)
    answer = session.ask("predict", {**program, "input": _NEW, "config": config})["prediction"]
    category = text(named(answer)["category"])
    return Row(optimizer, before, after, metrics["lm_calls"], metrics["duration_ms"], category)


def _score(
    session: Session, source: Mapping[str, object], data: Sequence[object], config: Mapping[str, object]
) -> float:
    score = session.ask("evaluate_pipeline", {**source, "data": list(data), "config": config})["score"]
    assert isinstance(score, float)  # noqa: S101 - the node's own
    return score


def _tickets() -> list[dict[str, str]]:
    lines = (files("erlbridge") / "data" / "support_tickets.tsv").read_text(encoding="utf-8").splitlines()
    header, *rows = (line.split("\t") for line in lines)
    return [dict(zip(header, row, strict=True)) for row in rows]


def _signature(teams: Sequence[str]) -> dict[str, object]:
    return {
        "name": "SupportTicket",
        "instructions": "Read a customer's support ticket and choose the team that it belongs to.",
        "input_fields": [
            {"name": "subject", "description": "the ticket's subject line"},
            {"name": "body", "description": "what the customer wrote"},
        ],
        "output_fields": [{"name": "category", "enum": teams, "description": "the team"}],
    }


def _say(options: argparse.Namespace, line: str) -> None:
    if not options.json:
        print(line, flush=True)
