"""`erlbridge completion`: what completes its commands in a shell."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from erlbridge.tools.command import runs, show_examples, whole

SHELLS: Final = ("bash", "zsh", "fish", "tcsh")

_EXAMPLES = """
erlbridge completion bash > ~/.local/share/bash-completion/completions/erlbridge
erlbridge completion zsh > ~/.zfunc/_erlbridge        # where fpath has ~/.zfunc
erlbridge completion fish > ~/.config/fish/completions/erlbridge.fish
"""


def declare(parser: argparse.ArgumentParser) -> None:
    """The shell."""
    parser.add_argument("shell", choices=SHELLS, help="which shell")
    show_examples(parser, _EXAMPLES)
    runs(parser, lambda options: whole(options, lambda: _show(options.shell)))


def _show(shell: str) -> int:
    import shtab  # noqa: PLC0415 - what no other command needs

    from erlbridge.tools.cli import whole_parser  # noqa: PLC0415 - it has loaded this module

    parser = whole_parser()
    _name_files(parser, shtab.FILE)
    sys.stdout.write(shtab.complete(parser, shell) + "\n")
    return 0


def _name_files(parser: argparse.ArgumentParser, file: object) -> None:
    """Has files complete where an argument takes one."""
    for action in parser._actions:  # shtab reads the same; argparse has no other way
        if isinstance(action, argparse._SubParsersAction):
            for inner in dict.fromkeys(action.choices.values()):
                _name_files(inner, file)
        elif isinstance(action.metavar, str) and {"FILE", "PATH"} & set(action.metavar.replace("=", "|").split("|")):
            action.complete = file  # type: ignore[attr-defined]
