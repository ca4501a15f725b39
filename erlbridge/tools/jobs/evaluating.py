"""`erlbridge evaluate`: a program's score on examples, and each of its answers where they are wanted."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from erlbridge.node.config import NodeConfig
from erlbridge.tools.jobs import inputs
from erlbridge.tools.jobs.optimizing import costs, warned
from erlbridge.tools.jobs.running import Session, success, with_node
from erlbridge.tools.json_view import as_json, line
from erlbridge.tools.opening import written
from erlbridge.wire.answers import named


def evaluate(options: argparse.Namespace) -> int:
    """Prints the score with its interval; writes the answers to a file where one is named."""
    return with_node(options, lambda session, config: _evaluate(options, session, config))


def _evaluate(options: argparse.Namespace, session: Session, config: NodeConfig) -> int:
    payload = {
        "config": inputs.config(options),
        **inputs.source(options),
        "data": inputs.dataset(config, options.examples, "--examples"),
    }
    result = session.ask("evaluate_pipeline", payload, inputs.meta(options))
    if options.output is not None:
        with written(options.output) as file:
            rows = result.get("results")
            for index, row in enumerate(rows if isinstance(rows, list) else ()):
                file.write(f"{line(as_json(row, f'results[{index}]', lenient=True))}\n".encode())
    if options.json:
        print(line(success(result)))
        return 0
    print(_score(result))
    warned(result)
    return 0


def _score(result: Mapping[str, object]) -> str:
    interval = result.get("confidence_interval")
    between = f" ({interval[0]:.3f} to {interval[1]:.3f})" if isinstance(interval, list) and len(interval) == 2 else ""
    failed = f", {result['failures']} of them failed" if result.get("failures") else ""
    spent = costs(named(result.get("metrics")))
    return f"score {result['score']:.3f}{between} on {result['count']} examples{failed}; {spent}"
