"""`erlbridge serve`: the program of a Port. What it loads, and when, decides how soon the host hears from it."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from erlbridge.tools.command import EXIT_CONFIGURATION, configured, runs, show_examples, takes_settings

if TYPE_CHECKING:
    from erlbridge.node.config import NodeConfig


_EXAMPLES = """
erlbridge serve --workers 4 --data /var/lib/erlbridge
erlbridge serve --config node.toml --http 127.0.0.1:9464 --capture bridge.ecap
erlbridge serve --fds 3,4

A host starts it, and speaks the wire with it (docs/wire.md); nothing here is meant for a terminal.
"""


def declare(parser: argparse.ArgumentParser) -> None:
    """Its arguments: the descriptors of the wire, and every setting."""
    parser.add_argument(
        "--fds", type=_descriptors, default=(0, 1), metavar="IN,OUT", help="3,4 for a Port's :nouse_stdio"
    )
    takes_settings(parser)
    show_examples(parser, _EXAMPLES)
    runs(parser, _serve)


def wire(arguments: Sequence[str]) -> tuple[int, int]:
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


def _serve(options: argparse.Namespace) -> int:
    return configured(options, lambda resolved: _serve_wire(options.fds, resolved.config))


def _serve_wire(descriptors: tuple[int, int], config: NodeConfig) -> int:
    # The wire is taken before anything is imported that might print.
    from erlbridge.node.descriptors import take_wire  # noqa: PLC0415

    try:
        taken = take_wire(*descriptors)
    except OSError as error:
        sys.stderr.write(f"erlbridge serve: the wire's descriptors {descriptors} cannot be used: {error}\n")
        return EXIT_CONFIGURATION
    from erlbridge.errors import ValidationError  # noqa: PLC0415
    from erlbridge.node.about import About  # noqa: PLC0415

    listening = None
    if config.http:
        from erlbridge.node.http.admission import Admission  # noqa: PLC0415 - for those who set it
        from erlbridge.node.http.listening import listen, name_of  # noqa: PLC0415

        try:
            Admission.of(config)
        except ValidationError as error:
            sys.stderr.write(f"erlbridge serve: {error}\n")
            return EXIT_CONFIGURATION
        with contextlib.suppress(OSError):  # somebody else has it; the node serves without, and tries again
            listening = listen(config.http)
    about = About(config, http=None if listening is None else name_of(listening))
    about.announce(taken[1])
    from erlbridge.node.node import serve  # noqa: PLC0415 - half of the start's time, which the host need not wait for

    return serve(config, about, taken, listening)
