"""`erlbridge report …`: how an optimization went, of a stored program or of a result in a file.

A result is what Elixir wrote with `:erlang.term_to_binary/1`, or the JSON of it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from erlbridge.codec import binary_to_term, tags
from erlbridge.core.requests import read_program_id
from erlbridge.errors import ValidationError
from erlbridge.limits import MAX_OUTGOING_BYTES
from erlbridge.node.config import NodeConfig
from erlbridge.reports.record import unpack
from erlbridge.reports.term import report_term
from erlbridge.tools.json_view import as_json
from erlbridge.tools.opening import STANDARD, opened, written
from erlbridge.tools.pictures import picture
from erlbridge.wire.place import Place, nearest

Form: TypeAlias = Literal["html", "json", "svg", "png"]
FORMS: Final[tuple[Form, ...]] = ("html", "json", "svg", "png")
_PROGRAM: Final = "program:"


@dataclass(frozen=True, slots=True)
class Found:
    """A report: the text of its page, and its charts by name as JSON has them."""

    html: str
    charts: Mapping[str, object]


def stored(config: NodeConfig, program_id: str) -> Found:
    """The report on a stored program. Raises `NotFound`."""
    name = read_program_id(Place(program_id, "PROGRAM_ID"))
    with opened(config) as store:
        return _found(report_term(unpack(store.reports.get(name)), name), "the report")


def of_file(path: Path) -> Found:
    """The report in a file that holds a result. Raises `ValidationError`, `DecodeError` or `OSError`."""
    with open(path, "rb") as file:
        data = file.read(MAX_OUTGOING_BYTES + 1)
    if len(data) > MAX_OUTGOING_BYTES:
        raise ValidationError(f"expected a result of at most {MAX_OUTGOING_BYTES} bytes", str(path))
    if data[:1] == bytes((tags.VERSION_MAGIC,)):
        return _found(binary_to_term(data), str(path))
    try:
        return _found(json.loads(data), str(path))
    except (ValueError, RecursionError) as error:
        raise ValidationError(f"expected a result as JSON or as a term, got neither ({error})", str(path)) from None


def is_program(source: str) -> bool:
    """Whether what was asked for is a stored program, and no file."""
    return source.startswith(_PROGRAM)


def write(found: Found, target: str, form: Form, chart: str | None) -> int:
    """Writes a report, or one chart of it, into a file or to standard output. Raises `ValidationError`, `OSError`."""
    content = _content(found, form, chart)
    if form == "png" and target == STANDARD and sys.stdout.isatty():
        raise ValidationError("a terminal shows no PNG; name a file", "--output")
    with written(target) as out:
        out.write(content)
    return 0


def _content(found: Found, form: Form, chart: str | None) -> bytes:
    match form:
        case "html":
            if chart is not None:
                raise ValidationError("one chart is json, svg or png; html is the whole report", "--chart")
            return found.html.encode()
        case "json":
            shown = found.charts if chart is None else _chart(found, chart)
            return (json.dumps(shown, ensure_ascii=False, indent=2) + "\n").encode()
        case "svg" | "png":
            name = chart or "score"
            return picture(_chart(found, name), form, f"charts.{name}")


def _chart(found: Found, name: str) -> object:
    if name not in found.charts:
        known = ", ".join(found.charts)
        raise ValidationError(f"no chart `{name}`{nearest(name, found.charts)}; there are {known}", "--chart")
    return found.charts[name]


def _found(term: object, path: str) -> Found:
    """The report in a result, or one by itself."""
    place = Place(term, path)
    entries = place.entries()
    if "html" not in entries:
        if "report" not in entries:
            raise ValidationError("no report is in it; ask for one with `report: true` in the config", path)
        place = entries["report"]
        entries = place.entries()
    html, charts = place.required(entries, "html").text(), place.required(entries, "charts")
    return Found(html, {name: as_json(chart.term, chart.path) for name, chart in charts.entries().items()})
