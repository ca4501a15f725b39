"""Arguments that commands for jobs share: which program, how it runs, and the node that runs it."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Final

from erlbridge.tools.command import takes_data, takes_json

EXITS: Final = """
exit codes:
  0    done
  1    the node answered with an error that asking again does not mend
  2    what was asked for cannot be: arguments, settings, data, configuration
  3    ended by its deadline or its budget; the best program until then is printed and stored
  70   the node ended before it answered
  75   failed for now: the same command may succeed later
  130  cancelled by Ctrl-C (143 by SIGTERM); the best program until then is printed and stored
  141  what was printed was not read to its end
"""

_UNITS: Final = {"ms": 1, "": 1000, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SPAN: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|[smhd]?)\Z")


def show_exits(parser: argparse.ArgumentParser) -> None:
    """What a command for jobs exits with, at the end of its help."""
    parser.epilog = f"{parser.epilog or ''}\n{EXITS}"


def takes_source(parser: argparse.ArgumentParser) -> None:
    """One program: a signature, a pipeline, or one that was made before."""
    sources = parser.add_argument_group("the program").add_mutually_exclusive_group(required=True)
    sources.add_argument(
        "--signature",
        metavar="TEXT|FILE",
        help="fields such as 'question -> answer: float', or a JSON, YAML or TOML file with a signature's map",
    )
    sources.add_argument("--pipeline", type=Path, metavar="FILE", help="a JSON, YAML or TOML file of a pipeline")
    sources.add_argument(
        "--program", metavar="ID|FILE", help="a stored program, or a file that `programs get` has written"
    )
    parser.add_argument("--instructions", metavar="TEXT", help="of a signature: what is to be done")


def takes_config(parser: argparse.ArgumentParser, *, optimizer: bool = False) -> None:
    """How the job runs."""
    group = parser.add_argument_group("how it runs", "what is said here wins over the file")
    group.add_argument(
        "--job", type=Path, metavar="FILE", help="a request's `config` as JSON, YAML or TOML (docs/wire/verbs.md)"
    )
    group.add_argument("--lm", metavar="MODEL", help="such as openai/gpt-4o-mini; offline needs no key and no network")
    group.add_argument("--api-base", metavar="URL", help="where the model is asked, for other endpoints than its own")
    group.add_argument("--api-key-env", metavar="NAME", help="the environment variable that holds its key")
    if optimizer:
        group.add_argument("--optimizer", metavar="NAME", help="such as mipro_v2 (docs/optimizers.md)")
    group.add_argument("--module", metavar="NAME", help="predict, chain_of_thought … (docs/programs.md)")
    group.add_argument("--metric", metavar="NAME", help="exact_match, f1, contains … (docs/wire/verbs.md)")
    group.add_argument("--seed", type=int, metavar="N", help="what is drawn at random (0)")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="anything else, such as options.num_trials=10 or budget.max_cost_usd=2.5; a value is JSON, else text",
    )


def takes_meta(parser: argparse.ArgumentParser) -> None:
    """About the request, and what is shown meanwhile."""
    parser.add_argument("--deadline", type=_span_ms, metavar="SPAN", help="end it after so long, such as 90s or 2h")
    parser.add_argument(
        "--key", metavar="TEXT", help="name of this piece of work: asked again, the stored result is the answer"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="what it logs, on standard error")
    takes_json(parser)


def takes_node(parser: argparse.ArgumentParser) -> None:
    """The settings of the node that is started for the command."""
    takes_data(parser)
    parser.add_argument(
        "--node",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other setting of the node, such as workers=2 (`erlbridge config show` lists them)",
    )


def _span_ms(text: str) -> int:
    """A span in milliseconds.

    >>> _span_ms("90s"), _span_ms("1.5m"), _span_ms("250ms"), _span_ms("10")
    (90000, 90000, 250, 10000)
    """
    found = _SPAN.match(text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"expected a span such as 500ms, 90s, 10m or 2h, got {text!r}")
    return round(float(found[1]) * _UNITS[found[2]])
