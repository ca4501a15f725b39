"""Atoms as Elixir shows them: which stand alone, which are aliases of modules, which need quotes."""

from __future__ import annotations

import re
from unicodedata import is_normalized

from erlbridge.codec.notation.elixir_letters import is_letter
from erlbridge.codec.notation.elixir_text import quoted

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_@]*[?!]?")
_ASCII = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@")
_ALIAS = re.compile(r"Elixir(\.[A-Z][A-Za-z0-9_]*)*")
OPERATORS = frozenset(
    r"""! @ % ^ & * - + = | < > . / != && ** -- -> ++ == =~ {} || |> <- <= <> <~ >= .. ~> \\ !== %{} &&& --- +++ === |||
    <<< <<~ <~> >>> ... ~>> ..// <<>>""".split()  # noqa: SIM905 - a list of them takes a page
)


def is_alias(name: str) -> bool:
    """Whether an atom of this name is written as a module's: `Elixir.Foo` is `Foo`."""
    return _ALIAS.fullmatch(name) is not None


def stands_alone(name: str) -> bool:
    """Whether the name needs no quotes as an atom or a key."""
    return _WORD.fullmatch(name) is not None or name in OPERATORS or (not name.isascii() and _is_word(name))


def _is_word(name: str) -> bool:
    letters = name.removesuffix("?") if name.endswith("?") else name.removesuffix("!")
    if not (letters[:1].isidentifier() and is_normalized("NFC", name)):
        return False
    return all(letter in _ASCII if letter.isascii() else is_letter(letter) for letter in letters)


def literal_text(name: str) -> str:
    """The atom of this name as it stands among values."""
    if name in ("nil", "true", "false"):
        return name
    if is_alias(name):
        return name.removeprefix("Elixir.")
    return f":{name}" if stands_alone(name) else ":" + quoted(name, '"', len(name))


def key_text(name: str) -> str:
    """The atom of this name as a key, with what follows a key."""
    return f"{name}: " if stands_alone(name) and name != "Elixir" else quoted(name, '"', len(name)) + ": "
