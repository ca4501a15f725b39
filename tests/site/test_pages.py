"""The site as scripts/docs has built it, and how pages are read on the way there."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "build" / "site"
sys.path.append(str(ROOT / "scripts" / "site"))

from github_markdown import converted  # noqa: E402

LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


class Loads(HTMLParser):
    """What a page has its browser load."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get(LOADS.get(tag, ""))
        if address and dict(attrs).get("rel") not in ("next", "prev", "canonical"):
            self.addresses.append(address)


def pages() -> Iterator[Path]:
    found = sorted(SITE.rglob("*.html"))
    if not found:
        pytest.skip("the site is not built here: scripts/docs does it")
    yield from found


def test_no_page_loads_anything_from_another_address() -> None:
    for page in pages():
        loads = Loads()
        loads.feed(page.read_text())
        assert not [address for address in loads.addresses if re.match(r"(https?:)?//", address)], page
    for sheet in SITE.rglob("*.css"):
        assert not re.search(r"url\(\s*[\"']?(https?:)?//", sheet.read_text()), sheet


def test_pages_that_are_opened_as_files_have_a_search() -> None:
    for page in pages():
        scripts = re.findall(r'<script src="([^"]+)"', page.read_text())
        ours = next(n for n, script in enumerate(scripts) if script.endswith("search_in_files.js"))
        assert "bundle" in scripts[ours + 1], page  # the theme looks for a worker as soon as it is there
        if page.name != "404.html":  # which is served alone, at any address
            assert (page.parent / scripts[ours]).is_file(), page
    index = (SITE / "search" / "search_index.json").read_text()
    assert (SITE / "search" / "search_index.js").read_text() == f"var __index = {index};\n"


@pytest.mark.parametrize(
    ("github", "python_markdown"),
    [
        ("text\n- one\n- two", "text\n\n- one\n- two"),
        ("- one\n  goes on\n  - inner\n    goes on", "- one\n    goes on\n    - inner\n        goes on"),
        ("1. one\n\n   more of it\n2. two", "1. one\n\n    more of it\n2. two"),
        ("- one\n\n  ```\n  a\n    b\n  ```\n\ntext", "- one\n\n    ```\n    a\n      b\n    ```\n\ntext"),
        ("```\n- no list\n  text\n```", "```\n- no list\n  text\n```"),
        ("text\n\n    - code", "text\n\n    - code"),
        ("```elixir example\n1\n```", "```elixir\n1\n```"),
    ],
    ids=["after text", "nested", "numbered", "fence in an item", "fence", "indented code", "info"],
)
def test_lists_are_put_as_python_markdown_reads_them(github: str, python_markdown: str) -> None:
    assert converted(github) == python_markdown
