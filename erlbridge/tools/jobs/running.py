"""A command's own node, and what it is asked: requests that Ctrl-C cancels, and exit codes that say how they ended."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from typing import Final

from erlbridge.errors import (
    BridgeError,
    BudgetExceeded,
    Cancelled,
    DeadlineExceeded,
    UnknownVerb,
    ValidationError,
)
from erlbridge.node.config import NodeConfig
from erlbridge.tools.client import Client, NodeGone
from erlbridge.tools.command import EXIT_CONFIGURATION, EXIT_FAILED, EXIT_INTERRUPTED, printed
from erlbridge.tools.failing import say_failed, typed
from erlbridge.tools.importing.run import ended_by_signals
from erlbridge.tools.jobs.inputs import node_settings
from erlbridge.tools.jobs.interrupts import Interrupts
from erlbridge.tools.jobs.watching import Watching
from erlbridge.tools.json_view import as_json
from erlbridge.tools.wording import plain
from erlbridge.wire.answers import named

EXIT_PARTIAL: Final = 3
"""A job ended by its deadline or budget; what it had found by then is there."""
EXIT_NODE: Final = 70
"""The node ended before it answered: EX_SOFTWARE of sysexits.h, as the node's own code for its own fault."""
EXIT_LATER: Final = 75
"""The same may succeed later: EX_TEMPFAIL of sysexits.h."""

_TICK_S: Final = 1.0
_ALONE: Final = {"workers": "1", "spare_workers": "0"}
"""One command asks for one thing at a time. Who wants more says so with `--node`."""


class Session:
    """A node that answers this command's requests, and a person who may end them.

    Attributes:
        interrupted: The exit code of who was ended by a signal, once one has cancelled a request; else 0.
    """

    def __init__(self, client: Client, watching: Watching) -> None:
        self.client = client
        self.watching = watching
        self.interrupted = 0

    def ask(self, verb: str, payload: object, meta: Mapping[str, object] | None = None) -> dict[str, object]:
        """A request's result, by name. The first Ctrl-C cancels it, and the answer is waited for; the second leaves.

        Raises as `Client.ask` and as `Interrupts`.
        """
        number = self.client.request(verb, payload, **(meta or {}))  # Ctrl-C before it is sent whole leaves at once
        with Interrupts(spent=bool(self.interrupted)) as interrupts:
            while not self.client.answered(number):
                self.client.step(_TICK_S, interrupts.fd)
                self.watching.tick()
                if interrupts.heard():
                    self.interrupted = interrupts.code
                    self.watching.say("cancelling, which keeps the best so far; once more leaves without it")
                    self.client.cancel(number)
        self.watching.over()
        return named(self.client.answer(number))


def with_node(
    options: argparse.Namespace,
    work: Callable[[Session, NodeConfig], int],
    on_chunk: Callable[[str, str], None] | None = None,
) -> int:
    """Carries out a command with a node of its own and gives the exit code; see `arguments.EXITS`.

    Args:
        options: With what `takes_node` and `takes_json` declare.
        on_chunk: As `Watching` has it.
    """
    try:
        settings = node_settings(options)
    except ValidationError as error:
        return _said(options, error)
    for name, value in settings.items():
        setattr(options, name, value)  # where the settings of every command are looked for
    verbose = getattr(options, "verbose", False)

    def run(config: NodeConfig) -> int:
        watching = Watching(verbose=verbose, on_chunk=on_chunk)
        interrupted = 0
        try:
            with ended_by_signals(), Client.start(*_arguments(options, settings), on_event=watching) as client:
                session = Session(client, watching)
                try:
                    return work(session, config)
                finally:
                    interrupted = session.interrupted
        except BrokenPipeError:
            raise
        except (BridgeError, OSError) as error:
            code = _said(options, typed(error))
            return interrupted or code
        finally:
            watching.over()

    return printed(options, lambda resolved: run(resolved.config))


def exit_code(error: BridgeError) -> int:
    """How a command ends that failed so."""
    match error:
        case ValidationError() | UnknownVerb():
            return EXIT_CONFIGURATION
        case Cancelled():
            return EXIT_INTERRUPTED
        case BudgetExceeded() | DeadlineExceeded():
            return EXIT_PARTIAL
        case NodeGone():
            return EXIT_NODE
        case _:
            return EXIT_LATER if error.retryable else EXIT_FAILED


def _arguments(options: argparse.Namespace, settings: Mapping[str, str]) -> list[str]:
    given = {**_ALONE, **settings}
    named_file = [] if options.config is None else ["--config", str(options.config)]
    return [*named_file, *(f"--{name.replace('_', '-')}={value}" for name, value in given.items())]


def _said(options: argparse.Namespace, error: BridgeError) -> int:
    if options.json:
        say_failed(options, error)
    else:
        if error.traceback and getattr(options, "verbose", False):
            sys.stderr.write(plain(error.traceback.rstrip()) + "\n")
        wait = f"; try again in {error.retry_after_ms / 1000:.0f} s" if error.retry_after_ms else ""
        sys.stderr.write(f"{options.command}: {error.error_type or 'node_gone'}: {plain(error.message)}{wait}\n")
    return exit_code(error)


def success(result: Mapping[str, object]) -> Mapping[str, object]:
    """A result as JSON, by name."""
    return {name: as_json(value, name, lenient=True) for name, value in result.items()}
