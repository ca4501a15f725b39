"""Examples in docstrings, as doctest has them, stand as Python on the site: Markdown would take them for quotations."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_EXAMPLES = re.compile(r"(?:^|(?<=\n\n))(?P<indent> *)>>> .*?(?=\n\n|\Z)", re.DOTALL)


class Doctests(Extension):
    """Puts fences around them."""

    def on_object(self, *, obj: Object, **_more: Any) -> None:
        """For every module, class, function and attribute that is read."""
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLES.sub(_fenced, obj.docstring.value)


def _fenced(match: re.Match[str]) -> str:
    return f"{match['indent']}```pycon\n{match[0]}\n{match['indent']}```"
