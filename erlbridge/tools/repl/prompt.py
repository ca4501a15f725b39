"""The line that is typed: history, completion, and a second line by Alt-Enter, by prompt_toolkit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from erlbridge.tools.repl.session import COMMANDS, Session


def lines(session: Session) -> Iterator[str]:
    """What is typed, line by line, until Ctrl-D. Ctrl-C empties the line."""
    prompt: PromptSession[str] = PromptSession(
        history=_history(),
        completer=_Completions(session),
        complete_while_typing=False,
        auto_suggest=AutoSuggestFromHistory(),
        key_bindings=_bindings(),
        enable_history_search=True,
    )
    while True:
        try:
            yield prompt.prompt("erlbridge> ", prompt_continuation="       ... ")
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def _bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("escape", "enter")
    def _newline(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return bindings


def _history() -> History:
    """In a file for its owner alone, since terms may hold anything; what begins with a blank is not kept."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "erlbridge"
    file = state / "repl_history"
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
    except OSError:
        return InMemoryHistory()
    return _Kept(str(file))


class _Kept(FileHistory):
    def store_string(self, string: str) -> None:
        if not string.startswith(" "):
            super().store_string(string)


class _Completions(Completer):
    def __init__(self, session: Session) -> None:
        self._session = session

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:  # noqa: ARG002
        before = document.text_before_cursor
        start = -len(before.rpartition(" ")[2])
        for word in self._session.completions(before):
            command = COMMANDS.get(word)
            yield Completion(word, start, display_meta=command.about if command and " " not in before.lstrip() else "")
