"""The `erlbridge` command: finds the family of commands that is asked for, and loads only that."""

from __future__ import annotations

import argparse
import codecs
import io
import os
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Final

from erlbridge import __version__
from erlbridge.tools.command import EXIT_CONFIGURATION, EXIT_INTERRUPTED

FAMILIES: Final = {
    "serve": "serve the wire on standard input and output, as a Port's program",
    "optimize": "a better program from examples: the main job, from the shell",
    "evaluate": "score a program on examples",
    "predict": "ask a program",
    "run": "run a workflow, or check one",
    "programs": "what was optimized: list, show, get, put, delete",
    "ask": "any other request of the wire, as JSON",
    "demo": "the main job offline, to see it work",
    "bench": "measure it on this machine, where its sources are",
    "completion": "what completes these commands in a shell",
    "config": "the settings of a node",
    "dataset": "examples on disk: import files, list, show, export, delete",
    "store": "what lasts: shown, verified, cleared up, and moved in one file",
    "report": "how an optimization went: one HTML file, charts as Vega-Lite, SVG or PNG",
    "audit": "the log of requests and their outcomes",
    "repl": "what was said on the wires: look, compare, change, send again",
    "doctor": "whether a node would run well here, and what to do where not",
    "decode": "bytes as terms, in Elixir's, Erlang's or Python's notation, or byte by byte",
    "encode": "a term in Elixir's or Erlang's notation as bytes",
    "vocabulary": "print the Elixir module of the atoms that the node may emit",
}
"""Each a module of `commands/`, with what the help says of it: the help of all loads none of them."""


_ESCAPED: Final = "erlbridge.escaped"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and gives its exit code: 0 done, 2 wrong arguments or settings; others are the command's own."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["serve"]:
        from erlbridge.node.guardian import guard  # noqa: PLC0415
        from erlbridge.tools.commands.serve import wire  # noqa: PLC0415

        # Before anything else is loaded, since the guardian keeps whatever is.
        guard(*wire(arguments))
    else:
        _open_what_is_closed()
        _escape_what_no_terminal_shows()
    try:
        options, unknown = _parser(_asked(arguments)).parse_known_args(arguments)
        if unknown:
            return _refused(options, unknown)
        code = options.run(options)
    except KeyboardInterrupt:  # while it was loaded: what runs says so itself
        sys.stderr.write("erlbridge: interrupted\n")
        return EXIT_INTERRUPTED
    assert isinstance(code, int)  # noqa: S101 - argparse's values have no types; `runs` has seen to it
    return code


def whole_parser() -> argparse.ArgumentParser:
    """The parser with every command declared."""
    return _parser(FAMILIES)


def _asked(arguments: Sequence[str]) -> tuple[str, ...]:
    return tuple(argument for argument in arguments if not argument.startswith("-"))[:1]


def _parser(declared: Iterable[str]) -> argparse.ArgumentParser:
    """The parser; of the families that are not `declared` it knows the names alone."""
    parser = argparse.ArgumentParser(
        prog="erlbridge", description="Drive DSPy from Elixir over a Port, or from here.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"erlbridge {__version__}")
    families = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, about in FAMILIES.items():
        family = families.add_parser(name, help=about, description=about, allow_abbrev=False)
        if name in declared:
            import_module(f"erlbridge.tools.commands.{name}").declare(family)
    return parser


def _open_what_is_closed() -> None:
    """Whoever started this may have closed a standard stream (`>&-`): nothing that is opened later shall take its
    number and get what is printed."""
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(null, True)
    os.close(null)
    sys.stdin, sys.stdout, sys.stderr = (
        stream or open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the process
        for stream, number, mode in ((sys.stdin, 0, "r"), (sys.stdout, 1, "w"), (sys.stderr, 2, "w"))
    )


def _escape_what_no_terminal_shows() -> None:
    """Has standard output take any text, also of ASCII alone: as JSON escapes it, which is JSON then, too."""
    codecs.register_error(_ESCAPED, _escape)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_ESCAPED)


def _escape(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)  # noqa: S101 - nothing is read
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)), error.end


def _refused(options: argparse.Namespace, unknown: Sequence[str]) -> int:
    import re  # noqa: PLC0415 - what a start that goes well does without

    from erlbridge.wire.place import nearest  # noqa: PLC0415

    known = re.findall(r"--[a-z-]+", options.usage())
    meant = nearest(unknown[0].partition("=")[0], known)
    sys.stderr.write(f"{options.command}: unrecognized arguments: {' '.join(unknown)}{meant}; see --help\n")
    return EXIT_CONFIGURATION
