"""Somebody's editor, on a text in a file of its own that nobody else reads."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from erlbridge.errors import ValidationError


def edit_text(text: str, suffix: str) -> str | None:
    """The text as it was left in `$VISUAL`, `$EDITOR` or vi; None when the editor failed or nothing is left.

    Raises `ValidationError` where there is no such program, or none is named and vi would wait for keys that a pipe
    does not have, and for what is no UTF-8.
    """
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not named and not sys.stdin.isatty():
        raise ValidationError("an editor needs a terminal; set $EDITOR, or give the term itself", "edit")
    command = shlex.split(named or "vi")
    with tempfile.TemporaryDirectory(prefix="erlbridge-edit-") as directory:
        file = Path(directory) / f"frame{suffix}"
        file.write_text(text, encoding="utf-8")
        file.chmod(0o600)
        try:
            code = subprocess.run([*command, str(file)], check=False).returncode  # noqa: S603 - the user's own editor
        except OSError as error:
            raise ValidationError(f"{command[0]} cannot be started: {error.strerror}; set $EDITOR", "edit") from None
        try:
            changed = file.read_text(encoding="utf-8") if file.exists() else ""
        except UnicodeDecodeError as error:
            raise ValidationError(f"the editor left what is no UTF-8: byte {error.start}", "edit") from None
    return changed if code == 0 and changed.strip() else None
