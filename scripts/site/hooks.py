"""What the site has beside docs/: the pages of the top level, and those of the modules. MkDocs calls these."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

from github_markdown import converted
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from reference import python_pages

ROOT = Path(__file__).resolve().parents[2]
ELIXIR = ROOT / "build" / "reference" / "elixir"
"""Where scripts/docs has had the Elixir modules' pages written."""
TOP_LEVEL = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "LICENSE": "license.md",
}
_LINK = re.compile(r"\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^()\s]+)\)")
_CODE = re.compile(r"(^ *```.*?^ *```[^\n]*$)", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that do not lie in docs/, and spells out the navigation."""
    for source, page in TOP_LEVEL.items():
        if (ROOT / source).exists():
            text = (ROOT / source).read_text()
            if source == "LICENSE":
                text = f"# License\n\n```text\n{text}\n```\n"
            files.append(File.generated(config, page, content=text))
    for page, text in python_pages():
        files.append(File.generated(config, page, content=text))
    for path in sorted(ELIXIR.glob("*.md")):
        files.append(File.generated(config, f"reference/elixir/{path.name}", content=path.read_text()))
    for name in ("site.css", "search_in_files.js"):
        files.append(File.generated(config, name, content=Path(__file__).with_name(name).read_text()))
    paths = [file.src_uri for file in files.documentation_pages()]
    config.nav = _spelt_out(config.nav, paths, set(_named(config.nav, paths)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """The page as Python-Markdown reads it, its links leading to pages of the site."""
    source = page.file.src_uri
    top = {page: name for name, page in TOP_LEVEL.items()}
    here = PurePosixPath(top[source]).parent if source in top else PurePosixPath("docs", source).parent

    def target(match: re.Match[str]) -> str:
        path, hash_sign, anchor = match["target"].partition("#")
        if not path or ":" in path:
            return match[0]
        named = normpath(str(here / path))
        if named in TOP_LEVEL:
            to = TOP_LEVEL[named]
        elif named.startswith("docs/"):
            to = named.removeprefix("docs/")
        elif (ROOT / named).exists():  # of the repository, but not of the site
            return match["text"]
        else:
            return match[0]
        return f"[{match['text']}]({relpath(to, str(PurePosixPath(source).parent))}{hash_sign}{anchor})"

    parts = _CODE.split(markdown)  # fenced code, in which nothing is a link, is each second of them
    parts[::2] = [_LINK.sub(target, part) for part in parts[::2]]
    return converted("".join(parts))


@event_priority(-100)  # behind the search's own, which writes the index
def on_post_build(*, config: MkDocsConfig) -> None:
    """Puts the search's index beside itself as a script, which a page that was opened as a file can load."""
    index = Path(config.site_dir, "search", "search_index.json")
    index.with_suffix(".js").write_text(f"var __index = {index.read_text()};\n")


def _named(nav: Any, paths: list[str]) -> Iterator[str]:
    """All pages that the navigation names."""
    match nav:
        case str() if nav != "...":
            yield from (path for path in paths if _stands_for(nav, path))
        case list():
            for entry in nav:
                yield from _named(entry, paths)
        case dict():
            for entry in nav.values():
                yield from _named(entry, paths)


def _spelt_out(nav: Any, paths: list[str], named: set[str]) -> Any:
    """The navigation with pages in the place of patterns; a section in which nothing is left is none."""
    match nav:
        case list():
            spelt: list[Any] = []
            for entry in nav:
                if entry == "...":
                    spelt += sorted(set(paths) - named)
                elif isinstance(entry, str) and "*" in entry:
                    spelt += _in_order(path for path in paths if _stands_for(entry, path))
                elif (new := _spelt_out(entry, paths, named)) is not None:
                    spelt.append(new)
            return spelt or None
        case dict():
            entries = {title: _spelt_out(entry, paths, named) for title, entry in nav.items()}
            return {title: entry for title, entry in entries.items() if entry is not None} or None
        case _:
            return nav


def _stands_for(pattern: str, path: str) -> bool:
    """Whether a pattern means a page: one of the same folder, whose name is like the pattern's."""
    wanted, given = PurePosixPath(pattern), PurePosixPath(path)
    return wanted.parent == given.parent and fnmatchcase(given.name, wanted.name)


def _in_order(paths: Iterator[str]) -> list[str]:
    """By name, but a folder's own page before the others."""
    return sorted(paths, key=lambda path: (PurePosixPath(path).stem not in ("README", "index"), path))
