"""Somebody's editor, on a text in a file of its own that nobody else reads."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from erlbridge.errors import ValidationError


def edit_text(text: str, suffix: str) -> str | None:
    """The text as it was left in `$VISUAL`, `$EDITOR` or vi; None when the editor failed or nothing is left.

    Raises `ValidationError` where there is no such program.
    """
    command = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    with tempfile.TemporaryDirectory(prefix="erlbridge-edit-") as directory:
        file = Path(directory) / f"frame{suffix}"
        file.write_text(text)
        file.chmod(0o600)
        try:
            code = subprocess.run([*command, str(file)], check=False).returncode  # noqa: S603 - the user's own editor
        except OSError as error:
            raise ValidationError(f"{command[0]} cannot be started: {error.strerror}; set $EDITOR", "edit") from None
        changed = file.read_text() if file.exists() else ""
    return changed if code == 0 and changed.strip() else None
