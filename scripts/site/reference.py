"""The pages of the reference that are generated out of the package."""

from __future__ import annotations


def pages() -> dict[str, str]:
    """Of each page its path in the site and its Markdown."""
    return {}
