"""The arguments of `erlbridge dataset …`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from erlbridge.tools.command import (
    EXIT_CONFIGURATION,
    Subcommands,
    printed,
    runs,
    subcommand,
    subcommands,
    takes_data,
    takes_json,
)
from erlbridge.tools.importing.rows import FORMATS

if TYPE_CHECKING:
    from erlbridge.tools.importing.shape import Shape
    from erlbridge.tools.importing.sources import Source

_IMPORTS = """
erlbridge dataset import train.jsonl
erlbridge dataset import part-*.parquet --name-map prompt=question,completion=answer
erlbridge dataset import prices.csv --types price=number,in_stock=boolean --skip-bad 10
zcat dump.gz | erlbridge dataset import - --format jsonl --data /var/lib/erlbridge

What it prints is the dataset's name, which stands in requests as {:dataset, name}. It is that of the same examples sent
from Elixir as %{"question" => "…"}: text as keys and values, JSON's null as nil, its numbers as integers and floats.
"""


def declare(parser: argparse.ArgumentParser) -> None:
    """`import`, `list`, `show`, `export` and `delete`."""
    commands = subcommands(parser)
    _declare_import(commands)
    listed = subcommand(
        commands,
        "list",
        "which datasets are there",
        examples="erlbridge dataset list\nerlbridge dataset list --json | jq -r .dataset",
    )
    takes_json(listed)
    takes_data(listed)
    runs(listed, _list)
    shown = subcommand(
        commands, "show", "a dataset and its first examples", examples="erlbridge dataset show 3f1c9a -n 10"
    )
    _takes_name(shown)
    shown.add_argument("-n", "--count", type=_count, default=3, metavar="N", help="how many examples (3)")
    takes_json(shown)
    takes_data(shown)
    runs(shown, _show)
    exported = subcommand(
        commands,
        "export",
        "a dataset as JSON lines",
        examples="erlbridge dataset export 3f1c9a --output train.jsonl\nerlbridge dataset export 3f1c9a | gzip > a.gz",
    )
    _takes_name(exported)
    exported.add_argument(
        "--output", default="-", metavar="FILE", help="where to; it is replaced when all is written (standard output)"
    )
    takes_data(exported)
    runs(exported, _export)
    deleted = subcommand(
        commands, "delete", "datasets that are no longer needed", examples="erlbridge dataset delete 3f1c9a 77b0e2"
    )
    deleted.add_argument("names", nargs="+", metavar="NAME", help="a dataset, or the first digits of one")
    takes_json(deleted)
    takes_data(deleted)
    runs(deleted, _delete)


def _declare_import(commands: Subcommands) -> None:
    parser = subcommand(commands, "import", "files of examples become one dataset", examples=_IMPORTS)
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="in this order; also packed as .gz or .zst; - is standard input"
    )
    parser.add_argument(
        "--format", choices=FORMATS, help="what the files are (by their suffixes; standard input jsonl)"
    )
    parser.add_argument(
        "--name-map",
        action="append",
        default=[],
        metavar="NAME=FIELD,…",
        help="what names of the files become; others stay",
    )
    parser.add_argument(
        "--types",
        action="append",
        default=[],
        metavar="FIELD=TYPE,…",
        help="text, integer, number, boolean or json, for which a table's empty cell is nil (a table's are text)",
    )
    parser.add_argument(
        "--delimiter", type=_delimiter, metavar="CHAR", help="between the cells of a table (, or a tab in .tsv)"
    )
    parser.add_argument(
        "--skip-bad",
        type=_count,
        default=0,
        metavar="N",
        help="how many bad rows are passed over, each with a message (0)",
    )
    takes_json(parser)
    takes_data(parser)
    runs(parser, _import)


def _takes_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a dataset, or the first digits of its name")


# What it does loads only here: the help of a command shows at once.


def _import(options: argparse.Namespace) -> int:
    from erlbridge.errors import ValidationError  # noqa: PLC0415
    from erlbridge.tools.dataset import import_files  # noqa: PLC0415
    from erlbridge.tools.failing import say_failed  # noqa: PLC0415

    try:
        sources, shape = _read(options)
    except ValidationError as error:
        say_failed(options, error)
        return EXIT_CONFIGURATION
    return printed(
        options, lambda resolved: import_files(resolved.config, sources, shape, options.skip_bad, json=options.json)
    )


def _list(options: argparse.Namespace) -> int:
    from erlbridge.tools.dataset import list_all  # noqa: PLC0415

    return printed(options, lambda resolved: list_all(resolved.config, json=options.json))


def _show(options: argparse.Namespace) -> int:
    from erlbridge.tools.dataset import show  # noqa: PLC0415

    return printed(options, lambda resolved: show(resolved.config, options.name, options.count, json=options.json))


def _export(options: argparse.Namespace) -> int:
    from erlbridge.tools.dataset import export  # noqa: PLC0415

    return printed(options, lambda resolved: export(resolved.config, options.name, options.output))


def _delete(options: argparse.Namespace) -> int:
    from erlbridge.tools.dataset import delete  # noqa: PLC0415

    return printed(options, lambda resolved: delete(resolved.config, options.names, json=options.json))


# -- the texts of arguments


def _read(options: argparse.Namespace) -> tuple[list[Source], Shape]:
    from erlbridge.errors import ValidationError  # noqa: PLC0415
    from erlbridge.tools.importing.shape import TYPES, Shape  # noqa: PLC0415
    from erlbridge.tools.importing.sources import Source  # noqa: PLC0415
    from erlbridge.wire.place import nearest  # noqa: PLC0415

    sources = [Source.named(file, options.format, options.delimiter) for file in options.files]
    names = _pairs(options.name_map, "--name-map", "NAME=FIELD")
    types = _pairs(options.types, "--types", "FIELD=TYPE")
    for field, kind in types.items():
        if kind not in TYPES:
            raise ValidationError(
                f"expected one of {', '.join(TYPES)}, got {kind!r}{nearest(kind, TYPES)}", f"--types {field}"
            )
        if field in names and field not in names.values():
            raise ValidationError(
                f"it is {names[field]!r} by --name-map, and types are those of fields", f"--types {field}"
            )
    if twice := [field for field in names.values() if list(names.values()).count(field) > 1]:
        raise ValidationError("two names become it", f"--name-map {twice[0]}")
    return sources, Shape(names, types)


def _pairs(texts: Sequence[str], argument: str, form: str) -> dict[str, str]:
    from erlbridge.errors import ValidationError  # noqa: PLC0415

    found: dict[str, str] = {}
    for part in (part for text in texts for part in text.split(",")):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and equals and value):
            raise ValidationError(f"expected {form},…, got {part!r}", argument)
        if name in found:
            raise ValidationError(f"{name!r} stands twice", argument)
        found[name] = value
    return found


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"expected a count, got {text!r}")
    return int(text)


def _delimiter(text: str) -> str:
    found = "\t" if text == "\\t" else text
    if len(found) != 1 or found in '"\r\n\0':
        raise argparse.ArgumentTypeError(f"expected one character, got {text!r}")
    return found
