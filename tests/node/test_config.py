"""The configuration: file, environment and arguments, each stronger than the last; what is wrong is refused by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from erlbridge.errors import ValidationError
from erlbridge.node.config import NodeConfig, settings
from erlbridge.node.config_sources import resolve


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


def refusal(file: Path | None = None, environment: dict[str, str] | None = None, **arguments: str) -> str:
    with pytest.raises(ValidationError) as refused:
        resolve(arguments, environment or {}, file)
    return str(refused.value)


def test_arguments_are_stronger_than_the_environment_and_that_than_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, "a.toml", "workers = 2\nnice = 2\nmax_queue = 2\n")
    resolved = resolve({"workers": "4"}, {"ERLBRIDGE_WORKERS": "3", "ERLBRIDGE_NICE": "3"}, file)
    assert (resolved.config.workers, resolved.config.nice, resolved.config.max_queue) == (4, 3, 2)
    assert resolved.origins["workers"] == "argument --workers"
    assert resolved.origins["nice"] == "environment ERLBRIDGE_NICE"
    assert resolved.origins["max_queue"] == str(file)
    assert resolved.origins["credit"] == "default"


def test_toml_and_yaml_say_the_same(tmp_path: Path) -> None:
    toml = written(tmp_path, "a.toml", 'worker_hard_bytes = "2GiB"\npin_workers = true\nverb_limits = {predict = 4}\n')
    yaml = written(tmp_path, "a.yaml", "worker_hard_bytes: 2GiB\npin_workers: true\nverb_limits: {predict: 4}\n")
    assert resolve({}, {}, toml).config == resolve({}, {}, yaml).config != resolve({}, {}).config


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, "a.yml", "workers: 7\n")
    assert resolve({}, {"ERLBRIDGE_CONFIG": str(file)}).config.workers == 7


def test_a_path_in_a_file_is_relative_to_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, "a.yaml", "data: store\n")
    assert resolve({}, {}, file).config.data == tmp_path / "store"
    assert resolve({"data": "store"}, {}, file).config.data == Path("store")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.toml", "workres = 2", "workres: there is no such setting (did you mean `workers`?)"),
        ("a.yaml", "nice: 1\nworkres: 2", ":2: workres: there is no such setting (did you mean `workers`?)"),
        ("a.yaml", "nice: 1\nworkers: many", ":2: workers: expected a whole number from 1 to 256, got 'many'"),
        ("a.yaml", "- workers", "expected a map of settings"),
        ("a.yaml", "workers: [", "no YAML"),
        ("a.yaml", "workers: !!python/object:os.system {}", "line 1"),
        ("a.toml", "workers = ", "no TOML"),
        ("a.json", "{}", "ends in .toml, .yaml or .yml"),
        ("a.toml", "#" * 70_000, "more than 65536 bytes"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_place(tmp_path: Path, name: str, text: str, said: str) -> None:
    assert said in refusal(written(tmp_path, name, text))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "a.toml")
    assert "Is a directory" in refusal(tmp_path)


def test_a_variable_that_looks_like_a_setting_is_refused_and_another_one_passes() -> None:
    assert "did you mean `workers`?" in refusal(environment={"ERLBRIDGE_WORKRES": "1"})
    resolve({}, {"ERLBRIDGE_CODEC": "pure", "ERLBRIDGE_PYTHON": "x", "ERLBRIDGE_SOAK_S": "x", "WORKERS": "x"})


def test_a_soft_limit_above_the_hard_one_is_refused_but_a_default_gives_way() -> None:
    assert "expected at most worker_hard_bytes" in refusal(worker_soft_bytes="2GiB", worker_hard_bytes="1GiB")
    assert resolve({"worker_hard_bytes": "512MiB"}, {}).config.worker_soft_bytes == 256 * 2**20


def test_every_default_is_one_that_its_kind_takes() -> None:
    for setting in settings().values():
        kept = setting.kind.read(setting.kind.shown(setting.default))
        assert str(kept) == str(setting.default), setting.name


def test_what_is_in_force_is_shown_with_its_origin(tmp_path: Path) -> None:
    def shown(*arguments: str) -> str:
        command = [sys.executable, "-m", "erlbridge", "config", "show", "--data", str(tmp_path), *arguments]
        environment = {**os.environ, "ERLBRIDGE_NICE": "5"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout

    lines = {line.split()[0]: line for line in shown().splitlines()}
    assert set(lines) == set(settings())
    assert lines["nice"].split(maxsplit=2)[2].replace(" ", "") == "5#environmentERLBRIDGE_NICE"
    report = json.loads(shown("--json"))
    assert report["nice"] == {"value": "5", "origin": "environment ERLBRIDGE_NICE"}
    assert NodeConfig().credit == int(report["credit"]["value"])


def test_every_setting_stands_in_the_documentation_as_the_help_has_it(root: Path) -> None:
    rows = [line.split(" | ") for line in (root / "docs" / "operations.md").read_text().splitlines() if "| `" in line]
    told = {row[0].strip("|` "): row[2].strip("| ") for row in rows if len(row) == 3}
    assert {name: setting.about for name, setting in settings().items()}.items() <= told.items()
