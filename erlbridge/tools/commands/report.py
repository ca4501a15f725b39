"""The command that shows how an optimization went. What it does is in `tools.report`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from erlbridge.tools.command import printed, runs, show_examples, takes_data, whole
from erlbridge.tools.opening import STANDARD

if TYPE_CHECKING:
    from erlbridge.tools.report import Form

_EXAMPLES = """
erlbridge report program:4f1c… -o report.html       the report on a stored program, one file for any browser
erlbridge report result.etf -o report.html          of a result: a term, or JSON
erlbridge report program:4f1c… -o score.png         a chart as a picture: needs erlbridge[charts]
erlbridge report result.json --chart calls --format svg > calls.svg
erlbridge report program:4f1c… --format json        all charts as Vega-Lite
"""


def declare(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("source", metavar="PROGRAM_ID|FILE", help="a stored program, or a file with a result")
    parser.add_argument("-o", "--output", default=STANDARD, metavar="FILE", help="where to; standard output")
    parser.add_argument("--format", choices=("html", "json", "svg", "png"), help="by the file's name, else html")
    parser.add_argument("--json", dest="format", action="store_const", const="json", help="the same as --format json")
    parser.add_argument(
        "--chart", metavar="NAME", help="score (of which a picture is else), examples, calls, tokens or cost"
    )
    takes_data(parser)
    show_examples(parser, _EXAMPLES)
    runs(parser, _report)


def _report(options: argparse.Namespace) -> int:
    from erlbridge.tools import report  # noqa: PLC0415 - what a help does without

    options.json = options.format == "json"  # errors too
    named = (form for form in report.FORMS if options.output.endswith(f".{form}"))
    form: Form = next(named, "html") if options.format is None else options.format

    def write(found: report.Found) -> int:
        return report.write(found, options.output, form, options.chart)

    if report.is_program(options.source):
        return printed(options, lambda resolved: write(report.stored(resolved.config, options.source)))
    return whole(options, lambda: write(report.of_file(Path(options.source))))
