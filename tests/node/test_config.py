"""The configuration: file, environment and arguments, each stronger than the last; what is wrong is refused by name."""

from __future__ import annotations

import itertools
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
        ("a.toml", "stall_s = 1" + "0" * 400, "stall_s: expected seconds from 1 to 86400, or 0 (never)"),
        ("a.toml", "stall_s = 1" + "0" * 5000, "no TOML"),
        ("a.yaml", "stall_s: 1" + "0" * 400, ":1: stall_s: expected seconds"),
        ("a.toml", "workers = " + "[" * 5000, "no TOML"),
        ("a.yaml", "workers: " + "[" * 5000, "nested deeper than 60"),
        ("a.yaml", "workers: &a [*a]", "the alias `*a` names nothing before it"),
        ("a.yaml", "workers: 2\nworkers: 3", "line 2: the key `workers` is there twice, first in line 1"),
        ("a.yaml", "workers: 2\n---\nworkers: 3", "expected one document"),
        ("a.yaml", "<<: {workers: 2}", "merge keys"),
        ("a.yaml", "1: 2", ":1: 1: there is no such setting"),
        ("a.yaml", "workers:", ":1: workers: expected a whole number from 1 to 256, got None"),
        ("a.toml", "workers = true", "workers: expected a whole number from 1 to 256, got True"),
        ("a.toml", "workers = 2.0", "expected a whole number"),
        ("a.toml", "workers = 2\nworkers = 3", "no TOML"),
        ("a.toml", "max-queue = 2", "did you mean `max_queue`?"),
        ("a.toml", "Workers = 2", "did you mean `workers`?"),
        ("a.toml", "w" * 30_000 + " = 2", f"{'w' * 60}…: there is no such setting"),
        ("a.toml", 'data = "~nobody-of-that-name/x"', "the home of a user who is not there"),
        ("a.toml", "[verb_limits.predict]\na = 3", "verb_limits: expected a whole number from 1 to 256"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_place(tmp_path: Path, name: str, text: str, said: str) -> None:
    assert said in refusal(written(tmp_path, name, text))


def test_a_yaml_file_of_many_aliases_is_refused_before_it_grows(tmp_path: Path) -> None:
    names = "abcdefghij"
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{later}: &{later} [{', '.join([f'*{earlier}'] * 9)}]\n" for earlier, later in itertools.pairwise(names)
    )
    assert "more than 100000 values" in refusal(written(tmp_path, "a.yaml", f"{bomb}workers: *j\n"))


def test_an_error_about_a_file_stays_short(tmp_path: Path) -> None:
    for text in ("w" * 30_000 + " = 2", f"workers = '{'x' * 30_000}'", f"sandbox = '{'x' * 30_000}'"):
        assert len(refusal(written(tmp_path, "a.toml", text))) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("name", ["a.toml", "a.yaml"])
@pytest.mark.parametrize("text", ["", "# workers: 2\n\n  # nice: 1\n", "\ufeff"], ids=["empty", "comments", "mark"])
def test_a_file_that_sets_nothing_is_taken(tmp_path: Path, name: str, text: str) -> None:
    assert resolve({}, {}, written(tmp_path, name, text)).config == resolve({}, {}).config


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    assert resolve({}, {}, written(tmp_path, "a.toml", "\ufeffworkers = 3")).config.workers == 3


def test_a_file_whose_name_says_no_format_is_not_read() -> None:
    """The node's own standard input is the wire."""
    with pytest.raises(ValidationError, match="that ends in"):
        resolve({}, {}, Path("/dev/stdin"))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("worker_cpus", "5-2", "--worker-cpus: expected whole numbers from 0 to 4095"),
        ("worker_cpus", "-1", "--worker-cpus: expected whole numbers"),
        ("verb_limits", "predict=2,predict=3", "--verb-limits: expected each name once"),
        ("verb_limits", "predict", "--verb-limits: expected names with whole numbers"),
        ("workers", "٣", "--workers: expected a whole number"),
        ("data", "", "--data: expected a path"),
    ],
)
def test_an_argument_that_cannot_be_used_is_refused_by_its_name(name: str, text: str, said: str) -> None:
    assert said in refusal(**{name: text})


def test_many_overlapping_ranges_are_as_short_as_what_they_name(tmp_path: Path) -> None:
    file = written(tmp_path, "a.toml", f"sandbox_ports = '{','.join(['1-9999'] * 100)}'")
    assert len(resolve({}, {}, file).config.sandbox_ports) == 9999


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.symlink_to("/proc/self/mem")  # opens, and gives an error when it is read; nobody but root lacks permissions
    assert "Input/output error" in refusal(file)


def test_serve_and_show_refuse_alike_with_exit_code_2_and_nothing_on_the_wire(tmp_path: Path) -> None:
    file = written(tmp_path, "a.toml", "workres = 2")
    for command in (["serve"], ["config", "show"], ["audit", "verify"]):
        ran = subprocess.run(
            [sys.executable, "-m", "erlbridge", *command, "--config", str(file)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
        assert (ran.returncode, ran.stdout) == (2, "")
        assert "did you mean `workers`?" in ran.stderr
        assert "Traceback" not in ran.stderr


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "a.toml")
    (tmp_path / "b.toml").mkdir()
    assert "Is a directory" in refusal(tmp_path / "b.toml")


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
