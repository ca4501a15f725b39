"""The tutorial's Mix application, made as its page says: its tests pass, and its release does the job without mix."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from node_client import PATIENCE_S

BUILD_S = 180.0
FILE = re.compile(r"^```elixir\n# (\S+\.exs?)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
DEPENDENCY = re.compile(r'path: "\S+"')


def shown(root: Path) -> dict[str, str]:
    """The files that the tutorial shows, by name."""
    files = dict(FILE.findall((root / "docs" / "tutorial" / "mix.md").read_text()))
    assert {"mix.exs", "lib/ticket_desk/application.ex", "test/ticket_desk_test.exs"} <= files.keys()
    return files


def run(command: list[str], folder: Path, environment: dict[str, str], timeout: float) -> str:
    ran = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_application_of_the_tutorial_is_the_one_of_the_examples(root: Path) -> None:
    example = root / "priv_stub" / "examples" / "ticket_desk"
    for name, text in shown(root).items():
        assert DEPENDENCY.sub("path:", (example / name).read_text()) == DEPENDENCY.sub("path:", text), name


def test_a_new_mix_application_made_by_the_tutorial_passes_its_tests_and_runs_as_a_release(
    root: Path, tmp_path: Path
) -> None:
    (tmp_path / "erlbridge").symlink_to(root)  # where the page has it: beside the application
    job = {
        "ERLBRIDGE_PYTHON": sys.executable,
        "ERLBRIDGE_TICKETS": str(root / "erlbridge" / "data" / "support_tickets.tsv"),
        "TICKET_DESK_DATA": str(tmp_path / "data"),
    }
    # Nothing of an earlier build, and one for both: dependencies are compiled alike for tests and for a release.
    mix = {**os.environ, **job, "MIX_BUILD_PATH": str(tmp_path / "build")}

    run(["mix", "new", "ticket_desk", "--sup"], tmp_path, mix, PATIENCE_S)
    application = tmp_path / "ticket_desk"
    for name, text in shown(root).items():
        (application / name).parent.mkdir(exist_ok=True)
        (application / name).write_text(text)
    tested = run(["mix", "test"], application, mix, BUILD_S)
    assert "2 tests, 0 failures" in tested

    release = tmp_path / "release"
    run(["mix", "release", "--quiet", "--path", str(release)], application, {**mix, "MIX_ENV": "prod"}, BUILD_S)
    alone = {key: value for key, value in os.environ.items() if not key.startswith(("MIX_", "ERL_"))}
    said = run(
        [str(release / "bin" / "ticket_desk"), "eval", "TicketDesk.Demo.run()"],
        tmp_path,
        {**alone, **job, "RELEASE_DISTRIBUTION": "none"},
        4 * PATIENCE_S,
    )
    before, after = re.findall(r"^(?:before|after): +(\d+) %", said, re.MULTILINE)
    assert int(after) > int(before)
    assert said.strip().endswith('"Where is my parcel?" is about shipping')
