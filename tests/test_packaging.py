"""What is said in several places of the packages of both sides is the same in each."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from erlbridge import __version__


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    """The table `project` of pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


def test_both_sides_have_the_version_of_the_python_package(root: Path) -> None:
    found = re.search(r'^ +version: "(.+)",$', (root / "priv_stub" / "mix.exs").read_text(), re.MULTILINE)
    assert found is not None
    assert found[1] == __version__


def test_both_packages_have_the_same_licence(root: Path) -> None:
    assert (root / "priv_stub" / "LICENSE").read_bytes() == (root / "LICENSE").read_bytes()


def test_all_is_every_extra_but_those_for_development(project: dict[str, Any]) -> None:
    extras = project["optional-dependencies"]
    (named,) = extras["all"]
    inside = set(re.fullmatch(r"erlbridge\[(.+)\]", named)[1].split(","))
    assert inside == set(extras) - {"all", "dev", "fuzz", "bench", "docs", "release"}


def test_what_is_installed_for_tests_and_releases_is_pinned(root: Path, project: dict[str, Any]) -> None:
    def plain(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    lines = (root / "scripts" / "constraints.txt").read_text().splitlines()
    pinned = {plain(line.split("==")[0]) for line in lines}
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"]]
    for extra in set(extras) - {"all", "bench"}:
        wanted += extras[extra]
    names = {plain(re.match(r"[\w.-]+", line)[0]) for line in wanted} - {"erlbridge"}
    assert names - pinned == set()
