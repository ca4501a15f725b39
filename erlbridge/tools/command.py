"""What every command shares: how its arguments are declared, how its settings are found and its printing ends.

A family of commands is a module of `commands/`: its `declare(parser)` says which arguments there are and, with
`runs`, which function carries them out.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from erlbridge.node.config_sources import Resolved

EXIT_FAILED: Final = 1
"""The command could not do what it was asked for, or what it looked at is not as it should be."""
EXIT_CONFIGURATION: Final = 2
"""Arguments or settings that cannot be used, the same as argparse's own."""
EXIT_INTERRUPTED: Final = 130
"""Somebody pressed Ctrl-C: the code of a program that SIGINT ended, as shells know it."""
EXIT_UNREAD: Final = 141
"""What was printed was not read to its end: the code of a program that SIGPIPE ended, as shells know it."""

Run: TypeAlias = Callable[[argparse.Namespace], int]
"""Carries a command out, with its arguments; gives its exit code."""
Subcommands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def subcommands(parser: argparse.ArgumentParser) -> Subcommands:
    """The place for the commands of a family, one of which must be given."""
    return parser.add_subparsers(dest="what", required=True)


def subcommand(commands: Subcommands, name: str, about: str, *, examples: str = "") -> argparse.ArgumentParser:
    """A command of a family. `about` stands in the family's help, `examples` at the end of its own."""
    parser = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
    show_examples(parser, examples)
    return parser


def show_examples(parser: argparse.ArgumentParser, examples: str) -> None:
    """Lines for the end of a command's help, as they stand."""
    if examples:
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        lines = "\n".join(f"  {line}".rstrip() for line in examples.strip().splitlines())
        parser.epilog = f"examples:\n{lines}"


def runs(parser: argparse.ArgumentParser, run: Run) -> None:
    """Says what carries the command out. `options.command` is its whole name, for messages, and `options.usage` what
    it takes."""
    parser.set_defaults(run=run, command=parser.prog, usage=parser.format_usage)


# -- arguments that several commands take


def takes_json(parser: argparse.ArgumentParser) -> None:
    """`--json`, read as `options.json`."""
    parser.add_argument("--json", action="store_true", help="the same for programs")


def takes_data(parser: argparse.ArgumentParser) -> None:
    """Where the data directory is, for commands that need no other setting."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="the node's settings; $ERLBRIDGE_CONFIG")
    parser.add_argument("--data", metavar="VALUE", help="the node's data directory")


def takes_settings(parser: argparse.ArgumentParser) -> None:
    """An argument for each setting. Their texts are read where those of files and the environment are."""
    from erlbridge.node.config import settings  # noqa: PLC0415 - not before the guardian has forked

    parser.add_argument("--config", type=Path, metavar="FILE", help="settings as TOML or YAML; $ERLBRIDGE_CONFIG")
    group = parser.add_argument_group("settings", "each is also a key of the file and a variable ERLBRIDGE_NAME")
    for setting in settings().values():
        default = setting.kind.shown(setting.default)
        about = f"{setting.about} ({default})" if default else setting.about
        group.add_argument(setting.argument, metavar="VALUE", help=about.replace("%", "%%"))


# -- running


def configured(options: argparse.Namespace, run: Callable[[Resolved], int]) -> int:
    """Runs with the configuration in force, or says what is wrong with it."""
    from erlbridge.errors import ValidationError  # noqa: PLC0415 - not before the guardian has forked
    from erlbridge.node.config import settings  # noqa: PLC0415
    from erlbridge.node.config_sources import resolve  # noqa: PLC0415

    given = {name: getattr(options, name, None) for name in settings()}  # a command may take only some of them
    try:
        resolved = resolve({name: text for name, text in given.items() if text is not None}, os.environ, options.config)
    except ValidationError as error:
        from erlbridge.tools.failing import say_failed  # noqa: PLC0415 - what goes well does without

        say_failed(options, error)
        return EXIT_CONFIGURATION
    return run(resolved)


def printed(options: argparse.Namespace, run: Callable[[Resolved], int]) -> int:
    """The same for what prints its answer."""
    return configured(options, lambda resolved: whole(options, lambda: run(resolved)))


def whole(options: argparse.Namespace, run: Callable[[], int]) -> int:
    """Runs what prints, and says in one line what kept it from its end. A reader that has seen enough, as `head` has,
    is no fault."""
    from erlbridge.errors import BridgeError  # noqa: PLC0415 - not before the guardian has forked

    try:
        try:
            code = run()
        except BrokenPipeError:
            raise
        except (BridgeError, OSError) as error:
            from erlbridge.tools.failing import say_failed  # noqa: PLC0415 - what goes well does without

            say_failed(options, error)
            code = EXIT_FAILED
        sys.stdout.flush()
    except OSError as error:  # of standard output: nobody reads it any more, or it is a file on a full disk
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter's own flush fails as well
        if isinstance(error, BrokenPipeError):
            return EXIT_UNREAD
        sys.stderr.write(f"{options.command}: {error}\n")
        return EXIT_FAILED
    except KeyboardInterrupt:
        sys.stderr.write(f"{options.command}: interrupted\n")
        return EXIT_INTERRUPTED
    return code
