"""The files of docs/deploy and the scripts hold to their linters, and name only what there is."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from erlbridge.node.config import NodeConfig

EXPOSURE = 15
"""Tenths of what `systemd-analyze security` calls the exposure of a service, which is 96 without any confinement."""


def linter(name: str) -> str:
    """The linter's path: beside this Python, where the extra `dev` puts it, or on the search path."""
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


def lint(*command: str | Path) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


def deployment(root: Path) -> str:
    return "".join((root / "docs" / "deploy" / name).read_text() for name in ("Dockerfile", "ticket_desk.service"))


def test_the_scripts_hold_to_shellcheck(root: Path) -> None:
    scripts = [
        path
        for path in (*sorted((root / "scripts").iterdir()), root / ".ci" / "run")
        if path.is_file() and path.read_bytes().startswith(b"#!/usr/bin/env bash")
    ]
    assert len(scripts) > 10
    lint(linter("shellcheck"), "--external-sources", "--source-path=SCRIPTDIR", *scripts)


def test_the_image_holds_to_hadolint(root: Path) -> None:
    lint(linter("hadolint"), "--no-color", root / "docs" / "deploy" / "Dockerfile")


def test_the_image_is_built_of_what_is_there_and_not_ignored(root: Path) -> None:
    deploy = root / "docs" / "deploy"
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (deploy / "Dockerfile").read_text(), re.MULTILINE)
    sources = [source for line in copied for source in line.split()]
    assert "erlbridge" in sources
    let_in = re.findall(r"^!(.+)$", (deploy / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert sorted(sources) == sorted(let_in)
    assert [source for source in sources if not (root / source).exists()] == []


def test_systemd_finds_nothing_wrong_with_the_service(root: Path, tmp_path: Path) -> None:
    analyze = linter("systemd-analyze")
    unit = (root / "docs" / "deploy" / "ticket_desk.service").read_text()
    here = tmp_path / "ticket_desk.service"
    here.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={analyze}", unit, flags=re.MULTILINE))
    lint(analyze, "verify", "--man=no", here)
    confined = [analyze, "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", here]
    lint(*confined)


def test_the_service_leaves_a_node_what_it_measures_its_workers_by(root: Path) -> None:
    unit = (root / "docs" / "deploy" / "ticket_desk.service").read_text()
    assert re.findall(r"^(?:ProtectProc|ProcSubset|MemoryDenyWriteExecute)=.*$", unit, re.MULTILINE) == []


def test_what_a_deployment_sets_are_settings_of_a_node(root: Path) -> None:
    set_there = set(re.findall(r"\bERLBRIDGE_([A-Z_]+)=", deployment(root)))
    of_no_node = {"PYTHON", "REQUIRE_COMPILED"}
    assert of_no_node < set_there
    assert set_there - of_no_node <= {field.name.upper() for field in dataclasses.fields(NodeConfig)}


def test_image_and_service_put_everything_in_the_same_places(root: Path) -> None:
    places = re.findall(
        r"\b(?:ERLBRIDGE_PYTHON|ERLBRIDGE_HTTP|TICKET_DESK_DATA|RELEASE_TMP)=[^\s\\]+", deployment(root)
    )
    assert len(places) == 2 * len(set(places)) == 8
