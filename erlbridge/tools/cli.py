"""The `erlbridge` command. Reads arguments; what it starts lives in the other rooms and loads only when asked for."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from erlbridge import __version__

if TYPE_CHECKING:
    from erlbridge.node.config import NodeConfig
    from erlbridge.node.config_sources import Resolved

EXIT_CONFIGURATION: Final = 2
"""Arguments or settings that cannot be used, the same as argparse's own."""
EXIT_UNREAD: Final = 141
"""What was printed was not read to its end: the code of a program that SIGPIPE ended, as shells know it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit code: 0 done, 2 wrong arguments or settings, else what `serve` ended with."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["serve"]:
        from erlbridge.node.guardian import guard  # noqa: PLC0415

        # Before anything else is loaded, since the guardian keeps whatever is.
        guard(*_wire(arguments))
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest:
        from erlbridge.node.config import settings  # noqa: PLC0415
        from erlbridge.wire.place import nearest  # noqa: PLC0415

        name = rest[0].partition("=")[0]
        parser.error(
            f"unrecognized arguments: {' '.join(rest)}"
            + nearest(name, [entry.argument for entry in settings().values()])
        )
    match options.command:
        case "serve":
            return _serve(options)
        case "config":
            from erlbridge.tools.config import show  # noqa: PLC0415

            return _printed(options, lambda resolved: show(resolved, json=options.json))
        case "audit":
            from erlbridge.tools.audit import verify  # noqa: PLC0415

            if options.paths:
                return _whole(lambda: verify(options.paths, options.head, json=options.json))
            return _printed(
                options, lambda resolved: verify([resolved.config.data / "audit"], options.head, json=options.json)
            )
        case "doctor":
            from erlbridge.tools.doctor import doctor  # noqa: PLC0415

            return _printed(options, lambda resolved: doctor(resolved.config, json=options.json))
        case _:
            from erlbridge.tools.vocabulary import elixir_module  # noqa: PLC0415

            def show_vocabulary() -> int:
                sys.stdout.write(elixir_module())
                return 0

            return _whole(show_vocabulary)


def _configured(options: argparse.Namespace, run: Callable[[Resolved], int]) -> int:
    """Runs with the configuration in force, or says what is wrong with it."""
    from erlbridge.errors import ValidationError  # noqa: PLC0415
    from erlbridge.node.config import settings  # noqa: PLC0415
    from erlbridge.node.config_sources import resolve  # noqa: PLC0415

    given = {name: getattr(options, name, None) for name in settings()}  # a command may take only some of them
    try:
        resolved = resolve({name: text for name, text in given.items() if text is not None}, os.environ, options.config)
    except ValidationError as error:
        sys.stderr.write(f"erlbridge {options.command}: {error}\n")
        return EXIT_CONFIGURATION
    return run(resolved)


def _printed(options: argparse.Namespace, run: Callable[[Resolved], int]) -> int:
    """The same for what prints its answer."""
    return _configured(options, lambda resolved: _whole(lambda: run(resolved)))


def _whole(run: Callable[[], int]) -> int:
    """Runs what prints. A reader that has seen enough, as `head` has, is no fault."""
    try:
        code = run()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter's own flush fails as well
        return EXIT_UNREAD
    return code


def _serve(options: argparse.Namespace) -> int:
    return _configured(options, lambda resolved: _serve_wire(options.fds, resolved.config))


def _serve_wire(descriptors: tuple[int, int], config: NodeConfig) -> int:
    # The wire is taken before anything is imported that might print.
    from erlbridge.node.descriptors import take_wire  # noqa: PLC0415

    try:
        wire = take_wire(*descriptors)
    except OSError as error:
        sys.stderr.write(f"erlbridge serve: the wire's descriptors {descriptors} cannot be used: {error}\n")
        return EXIT_CONFIGURATION
    from erlbridge.node.about import About  # noqa: PLC0415

    about = About(config)
    about.announce(wire[1])
    from erlbridge.node.node import serve  # noqa: PLC0415 - half of the start's time, which the host need not wait for

    return serve(config, about, wire)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="erlbridge", description="Drive DSPy from Elixir over a Port.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"erlbridge {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser(
        "serve", help="serve the wire on standard input and output, as a Port's program", allow_abbrev=False
    )
    serve.add_argument(
        "--fds", type=_descriptors, default=(0, 1), metavar="IN,OUT", help="3,4 for a Port's :nouse_stdio"
    )
    _add_settings(serve)
    config = commands.add_parser("config", help="the settings of a node")
    config_commands = config.add_subparsers(dest="what", required=True)
    show = config_commands.add_parser(
        "show", help="what is in force, and where each value came from", allow_abbrev=False
    )
    show.add_argument("--json", action="store_true", help="the same for programs")
    _add_settings(show)
    audit = commands.add_parser("audit", help="the log of requests and their outcomes")
    audit_commands = audit.add_subparsers(dest="what", required=True)
    verify = audit_commands.add_parser(
        "verify", help="whether the log is what was written; exits with 1 when it is not", allow_abbrev=False
    )
    verify.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help="directories or files of a log (the data directory's)"
    )
    verify.add_argument(
        "--head",
        action="append",
        default=[],
        metavar="SHA256",
        help="a `head` that health_check told, noted elsewhere: everything up to it must be there unchanged",
    )
    verify.add_argument("--json", action="store_true", help="the same for programs")
    verify.add_argument("--config", type=Path, metavar="FILE", help="the node's settings; $ERLBRIDGE_CONFIG")
    verify.add_argument("--data", metavar="VALUE", help="the node's data directory")
    doctor = commands.add_parser(
        "doctor", help="whether a node would run well here, and what to do where not", allow_abbrev=False
    )
    doctor.add_argument("--json", action="store_true", help="the same for programs")
    _add_settings(doctor)
    commands.add_parser("vocabulary", help="print the Elixir module of the atoms that the node may emit")
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """An argument for each setting. Their texts are read where those of files and the environment are."""
    from erlbridge.node.config import settings  # noqa: PLC0415

    parser.add_argument("--config", type=Path, metavar="FILE", help="settings as TOML or YAML; $ERLBRIDGE_CONFIG")
    group = parser.add_argument_group("settings", "each is also a key of the file and a variable ERLBRIDGE_NAME")
    for setting in settings().values():
        default = setting.kind.shown(setting.default)
        about = f"{setting.about} ({default})" if default else setting.about
        group.add_argument(setting.argument, metavar="VALUE", help=about.replace("%", "%%"))


def _wire(arguments: Sequence[str]) -> tuple[int, int]:
    """The wire's descriptors, found before there is a parser, which refuses what is passed over here."""
    given = (0, 1)
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, text = argument.partition("=")
        if name == "--fds":
            with contextlib.suppress(argparse.ArgumentTypeError):
                given = _descriptors(text if equals else following)
    return given


def _descriptors(text: str) -> tuple[int, int]:
    try:
        incoming, outgoing = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected two descriptors such as 3,4, got {text!r}") from None
    return incoming, outgoing
