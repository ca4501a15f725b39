"""HTML and SVG put together from elements: a text in one is escaped always, so that no job's text becomes markup."""

from __future__ import annotations

import html
import re
from typing import Final

_CONTROLS: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffe\uffff\ud800-\udfff]"
)
"""What has no place in a document, and what would turn the direction of the text around it. Lines may end in CR LF."""


class Markup(str):
    """A text that is markup already: made of elements here, and of nothing else."""

    __slots__ = ()


def tag(name: str, /, *inside: str, **attributes: str | float | None) -> Markup:
    """An element. What is inside is escaped unless it is `Markup`; attributes that are None are left out.

    In their names `_` stands for `-`, and one at the end for nothing (`class_`).

    >>> tag("p", "1 < 2", tag("br"), class_="note", data_x='"')
    '<p class="note" data-x="&quot;">1 &lt; 2<br></p>'
    """
    opening = name + "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(_number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in ("br", "meta", "hr"):
        return Markup(f"<{opening}>")
    return Markup(f"<{opening}>{joined(*inside)}</{name}>")


def joined(*parts: str) -> Markup:
    """Texts and elements one after the other."""
    return Markup("".join(part if isinstance(part, Markup) else escaped(part) for part in parts))


def escaped(text: str) -> str:
    """A text that is nothing but text in a document, also within quotes."""
    return html.escape(_CONTROLS.sub("\ufffd", text))


def _number(value: str | float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
