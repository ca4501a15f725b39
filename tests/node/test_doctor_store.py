"""What the doctor says of a store that machines share, and that nothing shows its password."""

from __future__ import annotations

from pathlib import Path

import pytest
from postgres_server import PostgresServer

from erlbridge.errors import ValidationError
from erlbridge.node.config_sources import resolve
from erlbridge.tools import config as config_tool
from erlbridge.tools.doctor import FAILED, OK, Finding, findings

AWAY = "postgresql://app:s3cret@127.0.0.1:1/store"


def stores(tmp_path: Path, **settings: str) -> list[Finding]:
    found = []
    for finding in findings(resolve({"data": str(tmp_path / "data"), **settings}, {}).config):
        if finding.name == "dspy":
            return found
        if finding.name.startswith("store"):
            found.append(finding)
    raise AssertionError("the doctor ended early")


def test_a_store_in_files_is_asked(tmp_path: Path) -> None:
    index, blobs = stores(tmp_path)
    assert (index.name, index.state, blobs.name, blobs.state) == ("store.index", OK, "store.blobs", OK)
    assert index.found.startswith("store.sqlite3, answers within ")
    assert list((tmp_path / "data" / "programs").iterdir()) == []


def test_a_shared_store_is_asked(tmp_path: Path, postgres: PostgresServer) -> None:
    address = postgres.new_database()
    index, blobs = stores(tmp_path, store_index=address, store_blobs=f"file://{tmp_path}/blobs")
    assert (index.state, blobs.state) == (OK, OK)
    assert index.found.startswith(f"{address}, answers within ")


def test_a_server_that_is_away_is_a_failure_without_its_password(tmp_path: Path) -> None:
    index, blobs = stores(tmp_path, store_index=AWAY, store_blobs="nonsense://key:s3cret@bucket")
    assert (index.state, blobs.state) == (FAILED, FAILED)
    assert index.found.startswith("postgresql://app@127.0.0.1:1/store: ")
    assert "s3cret" not in index.found + blobs.found


def test_the_settings_are_shown_without_what_is_secret(capsys: pytest.CaptureFixture[str]) -> None:
    resolved = resolve({"store_index": AWAY, "store_blobs": "s3://key:s3cret@bucket/store"}, {})
    for json in (False, True):
        config_tool.show(resolved, json=json)
        shown = capsys.readouterr().out
        assert "postgresql://app@127.0.0.1:1/store" in shown
        assert "s3://key@bucket/store" in shown
        assert "s3cret" not in shown


def test_an_index_that_machines_share_needs_blobs_that_they_share() -> None:
    with pytest.raises(ValidationError, match=r"store_blobs: .*file:///"):
        resolve({"store_index": AWAY}, {})
