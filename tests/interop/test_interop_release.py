"""A host application as a release: built from the example, started without mix or sources, it does its job."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from node_client import PATIENCE_S

BUILD_S = 180.0


def test_a_release_of_a_host_application_learns_and_predicts(root: Path, tmp_path: Path) -> None:
    release = tmp_path / "release"
    build = {
        **os.environ,
        "MIX_ENV": "prod",
        "MIX_BUILD_PATH": str(tmp_path / "build"),  # nothing of an earlier build, and nothing left in the sources
    }
    folder = root / "priv_stub" / "examples" / "ticket_desk"
    built = subprocess.run(
        ["mix", "release", "--quiet", "--path", str(release)],
        cwd=folder,
        env=build,
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr

    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MIX_", "ERL_"))} | {
        "ERLBRIDGE_PYTHON": sys.executable,
        "ERLBRIDGE_TICKETS": str(root / "erlbridge" / "data" / "support_tickets.tsv"),
        "TICKET_DESK_DATA": str(tmp_path / "data"),
        "RELEASE_DISTRIBUTION": "none",
    }
    ran = subprocess.run(
        [str(release / "bin" / "ticket_desk"), "eval", "TicketDesk.Demo.run()"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    before, after = re.findall(r"^(?:before|after): +(\d+) %", ran.stdout, re.MULTILINE)
    assert int(after) > int(before)
    assert ran.stdout.strip().endswith('"Where is my parcel?" is about shipping')
