"""Which twin is in use: what the operator says, or the compiled one where it is; never a broken one in silence."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import erlbridge
from erlbridge.codec import choice

BUILT = bool(choice._built())


def run(code: str, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name != choice.VARIABLE} | environment
    if folder is not None:
        variables["PYTHONPATH"] = str(folder)
    command = [sys.executable, *(["-P"] if folder else []), "-c", code]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)


def package(folder: Path, extension: bytes | None, suffix: str) -> Path:
    """A copy of the package by links, without the extension or with other bytes in its place."""
    source = Path(erlbridge.__file__).parent
    codec = folder / "erlbridge" / "codec"
    codec.mkdir(parents=True)
    for file in source.glob("*.py"):
        (folder / "erlbridge" / file.name).symlink_to(file)
    for file in (source / "codec").glob("*.py"):
        # choice.py looks beside itself: a link would lead it home.
        (codec / file.name).write_bytes(file.read_bytes())
    if extension is not None:
        (codec / f"_compiled{suffix}").write_bytes(extension)
    return folder


IMPORT = "import erlbridge.codec; print(erlbridge.codec.IMPLEMENTATION)"
OURS = EXTENSION_SUFFIXES[0]


def test_the_compiled_twin_is_used_where_it_was_built() -> None:
    assert run(IMPORT).stdout.strip() == ("compiled" if BUILT else "pure")
    assert run(IMPORT, ERLBRIDGE_CODEC="auto").stdout.strip() == ("compiled" if BUILT else "pure")


def test_the_operator_can_choose_the_pure_one_which_then_is_alone() -> None:
    code = IMPORT + "; import sys; print('erlbridge.codec._compiled' in sys.modules)"
    assert run(code, ERLBRIDGE_CODEC="pure").stdout.split() == ["pure", "False"]


@pytest.mark.skipif(not BUILT, reason="the compiled twin was not built")
def test_the_operator_can_insist_on_the_compiled_one() -> None:
    assert run(IMPORT, ERLBRIDGE_CODEC="compiled").stdout.strip() == "compiled"


@pytest.mark.parametrize("value", ["", "fast", "Pure", "1"])
def test_a_choice_that_there_is_not_is_refused(value: str) -> None:
    failed = run(IMPORT, ERLBRIDGE_CODEC=value)
    assert f"ERLBRIDGE_CODEC is {value!r}, expected one of auto, compiled, pure" in failed.stderr


def test_without_an_extension_the_pure_twin_is_used_and_the_compiled_one_cannot_be_had(tmp_path: Path) -> None:
    folder = package(tmp_path, None, "")
    assert run(IMPORT, folder).stdout.strip() == "pure"
    failed = run(IMPORT, folder, ERLBRIDGE_CODEC="compiled")
    assert "ImportError: ERLBRIDGE_CODEC is 'compiled', but erlbridge.codec._compiled was not built" in failed.stderr


def test_an_extension_that_does_not_load_is_an_error(tmp_path: Path) -> None:
    folder = package(tmp_path, b"no shared object", OURS)
    failed = run(IMPORT, folder)
    assert failed.returncode == 1
    assert "ImportError" in failed.stderr
    assert run(IMPORT, folder, ERLBRIDGE_CODEC="pure").stdout.strip() == "pure"


def test_an_extension_for_another_python_is_an_error(tmp_path: Path) -> None:
    folder = package(tmp_path, b"whatever", ".cpython-39-x86_64-linux-gnu.so")
    failed = run(IMPORT, folder)
    assert "_compiled was built for another Python (_compiled.cpython-39-x86_64-linux-gnu.so)" in failed.stderr
    assert run(IMPORT, folder, ERLBRIDGE_CODEC="pure").stdout.strip() == "pure"


def test_streams_and_lazy_terms_are_loaded_when_they_are_asked_for() -> None:
    code = (
        "import sys, erlbridge.codec as codec\n"
        "later = {'erlbridge.codec.' + name for name in ('lazy', 'places', 'scan', 'stream')}\n"
        "print(len(later & set(sys.modules)))\n"
        "from erlbridge.codec import LazyTerm, StreamDecoder, skip\n"
        "print(len(later & set(sys.modules)), *(value.__name__ for value in (LazyTerm, StreamDecoder, skip)))\n"
        "print(codec.skip is skip, set(codec.__all__) <= set(dir(codec)), hasattr(codec, 'steps'))\n"
    )
    assert run(code).stdout.splitlines() == ["0", "4 LazyTerm StreamDecoder skip", "True True False"]


def test_the_scan_is_that_of_the_twin_in_use() -> None:
    code = "from erlbridge.codec import IMPLEMENTATION, scan; print(IMPLEMENTATION, scan.Scan.__module__)"
    assert run(code, ERLBRIDGE_CODEC="pure").stdout.split() == ["pure", "erlbridge.codec._pure_scan"]
    if BUILT:
        assert run(code).stdout.split() == ["compiled", "erlbridge.codec._compiled"]
