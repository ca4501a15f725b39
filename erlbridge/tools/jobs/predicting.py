"""`erlbridge predict`: what a program answers to one input, or to each row of files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from erlbridge.errors import ValidationError
from erlbridge.tools.jobs import inputs
from erlbridge.tools.jobs.optimizing import warned
from erlbridge.tools.jobs.running import Session, success, with_node
from erlbridge.tools.json_view import as_json, line
from erlbridge.tools.opening import STANDARD, written
from erlbridge.tools.wording import plain
from erlbridge.wire.answers import named


def predict(options: argparse.Namespace) -> int:
    """Prints the outputs of one input by name; those of rows of files as JSON lines, in order."""
    pieces = _Pieces()
    shown = pieces if options.stream and not options.json else None
    return with_node(options, lambda session, _: _predict(options, session, pieces), shown)


def _predict(options: argparse.Namespace, session: Session, pieces: _Pieces) -> int:
    payload: dict[str, object] = {"config": inputs.config(options), **inputs.source(options)}
    if options.inputs:
        if options.stream:
            raise ValidationError("what is streamed is one --input", "--stream")
        payload["inputs"] = inputs.rows(options.inputs)
    else:
        if options.output is not None:
            raise ValidationError("it is for the answers to --inputs", "--output")
        payload["input"] = inputs.entries(options.input, "--input")
        if options.stream:
            payload["stream"] = True
    result = session.ask("predict", payload, inputs.meta(options))
    if options.inputs and (options.output is not None or not options.json):
        predictions = result.get("predictions")
        with written(options.output or STANDARD) as file:
            for index, row in enumerate(predictions if isinstance(predictions, list) else ()):
                file.write(f"{line(as_json(row, f'predictions[{index}]', lenient=True))}\n".encode())
    if options.json:
        print(line(success(result)))
        return 0
    if not options.inputs:
        pieces.end()
        _print_fields({name: value for name, value in named(result["prediction"]).items() if name not in pieces.told})
    warned(result)
    return 0


def _print_fields(fields: Mapping[str, object]) -> None:
    for name, value in fields.items():
        shown = as_json(value, name, lenient=True)
        print(f"{name}: {plain(shown if isinstance(shown, str) else line(shown))}")


class _Pieces:
    """Prints a streamed text as it comes, each field behind its name."""

    def __init__(self) -> None:
        self.told: dict[str, None] = {}

    def __call__(self, field: str, text: str) -> None:
        if field not in self.told:
            self.end()
            self.told[field] = None
            sys.stdout.write(f"{field}: ")
        sys.stdout.write(plain(text))
        sys.stdout.flush()

    def end(self) -> None:
        """The line's end, where one has begun."""
        if self.told:
            sys.stdout.write("\n")
