"""How a command says why it failed: in a line on standard error, or with `--json` as JSON in a result's place."""

from __future__ import annotations

import argparse
import sys

from erlbridge.errors import BridgeError, StorageFailed, ValidationError
from erlbridge.tools.json_view import as_json, line


def typed(error: BridgeError | OSError) -> BridgeError:
    """What the system says of a file as an error of the bridge: one that is not there, or not for us, was asked for
    wrongly; all else is the disk's."""
    match error:
        case BridgeError():
            return error
        case FileNotFoundError() | PermissionError() | IsADirectoryError() | NotADirectoryError() if error.filename:
            return ValidationError(error.strerror or str(error), str(error.filename))
        case _:
            return StorageFailed(str(error))


def error_json(error: BridgeError) -> dict[str, object]:
    """An error as JSON: the map of the wire, without the program that may be in it."""
    context = {name: value for name, value in error.context.items() if name not in ("best_program", "result")}
    return {
        "error_type": error.error_type or "node_gone",
        "message": error.message,
        "context": as_json(context, "context", lenient=True),
        "recovery_strategy": error.recovery_strategy,
        "retryable": error.retryable,
        "retry_after_ms": error.retry_after_ms,
        "traceback": error.traceback,
    }


def say_failed(options: argparse.Namespace, error: BridgeError | OSError) -> None:
    """Says it, once."""
    if getattr(options, "json", False):
        print(line({"error": error_json(typed(error))}))
    else:
        sys.stderr.write(f"{options.command}: {error}\n")
