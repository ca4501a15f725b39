"""Which values of an environment are secrets: by the name of their variable, or as the password in an address."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

_DOTTED_AND_DOTLESS: Final = ("i", "i\u0307", "\u0131")
"""An i, and as folding its case leaves the two that Turkish has in its place."""

_NAMES_A_SECRET: Final = (
    *("key", "token", "secret", "password"),
    *(f"credent{letter}al{plural}" for letter in _DOTTED_AND_DOTLESS for plural in ("", "s")),
)
"""How the name of such a variable ends, in whatever case. Of an environment each name is looked at for each job, and a
pattern would take ten times as long."""

_PASSWORD: Final = re.compile(r"://[^/\s:@]*:([^/\s@]+)@")
"""A password in an address, such as that of a proxy or a database."""

SHORTEST_SECRET: Final = 6
"""What is shorter stands in everything that is said."""


def named_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables whose names say that they hold a secret, with what they hold.

    >>> named_secrets({"OPENAI_API_KEY": "sk-123456\\n", "HOME": "/home/a", "SOME_TOKEN": "short"})
    {'OPENAI_API_KEY': 'sk-123456'}
    """
    found = {name: value.strip() for name, value in environment.items() if name.casefold().endswith(_NAMES_A_SECRET)}
    return {name: value for name, value in found.items() if len(value) >= SHORTEST_SECRET}


def passwords(texts: Iterable[str]) -> set[str]:
    """The passwords of addresses in these texts.

    >>> passwords(["postgresql://app:hushhush@db/store", "http://a:b@c"])
    {'hushhush'}
    """
    return {found for text in texts for found in _PASSWORD.findall(text) if len(found) >= SHORTEST_SECRET}
