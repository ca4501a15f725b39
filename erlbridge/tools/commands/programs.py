"""The arguments of `erlbridge programs …`."""

from __future__ import annotations

import argparse
from typing import Final

from erlbridge.tools.command import runs, subcommand, subcommands, takes_json
from erlbridge.tools.jobs.arguments import takes_node

_COMMANDS: Final = {
    "list": ("which programs are there", "erlbridge programs list\nerlbridge programs list --json | jq -r .program_id"),
    "show": ("what a program is: fields, instructions, demos, scores", "erlbridge programs show 9f86d0"),
    "get": (
        "a program as a file, or as JSON",
        "erlbridge programs get 9f86d0 -o triage.etf\nerlbridge programs get 9f86d0 | jq .state",
    ),
    "put": (
        "store the programs of files, checked against the allow-list",
        "erlbridge programs put triage.etf\nerlbridge programs put a.json b.json --data /var/lib/erlbridge",
    ),
    "delete": ("programs that are no longer needed", "erlbridge programs delete 9f86d0 77b0e2"),
}


def declare(parser: argparse.ArgumentParser) -> None:
    """`list`, `show`, `get`, `put` and `delete`."""
    commands = subcommands(parser)
    for name, (about, examples) in _COMMANDS.items():
        command = subcommand(commands, name, about, examples=examples)
        match name:
            case "show" | "get":
                command.add_argument("name", metavar="ID", help="a program, or the first digits of its id")
            case "put":
                command.add_argument("files", nargs="+", metavar="FILE", help="as `programs get` has written them")
            case "delete":
                command.add_argument("names", nargs="+", metavar="ID", help="a program, or the first digits of one")
        if name == "get":
            command.add_argument(
                "-o",
                "--output",
                default="-",
                metavar="FILE",
                help=".etf keeps the program's id, .json is for people (standard output, as JSON)",
            )
        takes_json(command)
        takes_node(command)
        runs(command, _run)


def _run(options: argparse.Namespace) -> int:
    from erlbridge.tools.jobs import programs  # noqa: PLC0415 - what the help does without

    match options.what:
        case "list":
            return programs.list_all(options)
        case "show":
            return programs.show(options)
        case "get":
            return programs.get(options)
        case "put":
            return programs.put(options)
        case _:
            return programs.delete(options)
