"""`erlbridge optimize`: a better program, stored, and its name printed; also that of one that was cut short."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from erlbridge.codec import term_to_binary
from erlbridge.errors import BridgeError, BudgetExceeded, Cancelled, DeadlineExceeded, ValidationError
from erlbridge.node.config import NodeConfig
from erlbridge.tools.failing import error_json
from erlbridge.tools.jobs import inputs
from erlbridge.tools.jobs.running import Session, exit_code, success, with_node
from erlbridge.tools.json_view import as_json, line
from erlbridge.tools.opening import STANDARD, written
from erlbridge.tools.wording import plain
from erlbridge.wire.answers import named, text


def optimize(options: argparse.Namespace) -> int:
    """Optimizes, prints the program's id on standard output and scores and costs on standard error."""
    return with_node(options, lambda session, config: _optimize(options, session, config))


def _optimize(options: argparse.Namespace, session: Session, config: NodeConfig) -> int:
    if options.output is not None:
        check_target(options.output)
    settings = inputs.config(options)
    training = inputs.dataset(config, options.train, "--train")
    payload = {**inputs.source(options), "config": settings}
    if options.validation:
        payload["validation_data"] = inputs.dataset(config, options.validation, "--validation")
    elif options.holdout:
        seed = settings.get("seed", 0)
        training, held_out = inputs.share(training, options.holdout, seed if isinstance(seed, int) else 0)
        payload["validation_data"] = held_out
    payload["training_data"] = training
    try:
        result = session.ask("optimize_signature", payload, inputs.meta(options))
    except (Cancelled, DeadlineExceeded, BudgetExceeded) as error:
        return _cut_short(options, session, error)
    if options.json:
        print(line(success(result)))
    else:
        print(text(result["program_id"]))
        said(result)
    if options.output is not None:  # last: what was paid for is named by then, whatever the disk says
        write_program(options.output, result["program"])
    return 0


def _cut_short(options: argparse.Namespace, session: Session, error: BridgeError) -> int:
    """Keeps what the job had found when it was told to end: it was paid for."""
    code = session.interrupted or exit_code(error)
    if "result" in error.context:  # it had just ended by itself
        result = named(error.context["result"])
        program, program_id, score = result.get("program"), result.get("program_id"), None
    else:
        program, score = error.context.get("best_program"), error.context.get("best_score")
        program_id = None if program is None else session.ask("put_program", {"program": program})["program_id"]
    found = None if program_id is None else text(program_id)
    if options.json:
        print(line({"status": error.error_type, "program_id": found, "best_score": score, "error": error_json(error)}))
    else:
        sys.stderr.write(f"{options.command}: {error.error_type}: {plain(error.message)}\n")
        if found is None:
            sys.stderr.write("no program had been found by then\n")
        else:
            print(found)
            best = f", score {score:.3f}" if isinstance(score, int | float) else ""
            sys.stderr.write(f"the best program until then is stored{best}\n")
    if program is not None and options.output is not None:
        write_program(options.output, program)
    return code


def said(result: Mapping[str, object]) -> None:
    """What an optimization has brought and cost, and its warnings, on standard error."""
    metrics = named(result.get("optimization_metrics"))
    before, after = metrics.get("score_before"), metrics.get("score_after")
    if isinstance(before, int | float) and isinstance(after, int | float):
        sys.stderr.write(f"score {before:.3f} before, {after:.3f} after; {costs(metrics)}\n")
    warned(result)


def warned(result: Mapping[str, object]) -> None:
    """The warnings of a result, on standard error."""
    warnings = result.get("warnings")
    for warning in warnings if isinstance(warnings, list) else ():
        sys.stderr.write(f"warning: {plain(text(warning))}\n")


def costs(metrics: Mapping[str, object]) -> str:
    """What a job has spent.

    >>> costs({"lm_calls": 12, "cached_calls": 2, "trials": 0, "duration_ms": 1500, "cost_usd": 0.0125})
    '12 model calls (2 from the cache), 1.5 s, $0.0125'
    """
    calls, cached, trials = (metrics.get(name) or 0 for name in ("lm_calls", "cached_calls", "trials"))
    spent, duration = metrics.get("cost_usd"), metrics.get("duration_ms")
    return ", ".join(
        [
            f"{calls} model calls" + (f" ({cached} from the cache)" if cached else ""),
            *([f"{trials} trials"] if trials else []),
            *([f"{duration / 1000:.1f} s"] if isinstance(duration, int) else []),
            *([f"${spent:.4f}"] if isinstance(spent, int | float) and spent else []),
            *(["an answer that was stored"] if metrics.get("cached") is True else []),
        ]
    )


def check_target(target: str) -> None:
    """Refuses what no program can be written to, before anything is paid for. Raises `ValidationError`."""
    if target == STANDARD:
        return
    if not target.endswith((".etf", ".json")):
        raise ValidationError("expected a file that ends in .etf or .json", target)
    if not Path(target).absolute().parent.is_dir():
        raise ValidationError("there is no such directory", target)


def write_program(target: str, program: object) -> None:
    """A program as a file: `.json` for people; `.etf` is the term itself, which keeps the program's id.

    Raises `OSError`, `ValidationError`.
    """
    check_target(target)
    with written(target) as file:
        if target.endswith(".etf"):
            file.write(term_to_binary(program))
        else:
            file.write(f"{line(as_json(program, 'program'))}\n".encode())
