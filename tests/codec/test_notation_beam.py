"""Both notations beside a real BEAM: the vectors and random terms are shown as `inspect/2` and `~0tp` show them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from codec_frames import read_frames, write_frames

from erlbridge.codec import DecodeError, Fun, binary_to_term, term_to_binary
from erlbridge.codec.annotate import annotate
from erlbridge.codec.notation import from_elixir, from_erlang, to_elixir, to_erlang

COUNT = 500
SCRIPT = Path(__file__).resolve().parent.parent / "interop" / "write_notation.exs"


class Shown(NamedTuple):
    """A term and what the BEAM shows of it."""

    term: object
    elixir: str
    erlang: str


@pytest.fixture(scope="module")
def shown(valid: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> list[Shown]:
    place = tmp_path_factory.mktemp("notation")
    write_frames(place / "vectors", [bytes.fromhex(vector["hex"]) for vector in valid])
    program = shutil.which("elixir")
    assert program, "elixir is not on the PATH: these tests compare with a real BEAM, install it first"
    files = [place / name for name in ("terms", "elixir", "erlang")]
    # What is printable is Unicode, not Latin-1, to this Erlang: people read its text.
    command = [program, "--erl", "+pc unicode", SCRIPT, "20240229", str(COUNT), place / "vectors", *files]
    subprocess.run(
        command,
        check=True,
        timeout=100,
        env={"LC_ALL": "C.UTF-8", "PATH": str(Path(program).parent) + ":/usr/bin:/bin"},
    )
    terms, elixir, erlang = (list(read_frames(file)) for file in files)
    assert len(terms) == COUNT + len(valid)
    return [
        Shown(binary_to_term(term), by_elixir.decode(), by_erlang.decode())
        for term, by_elixir, by_erlang in zip(terms, elixir, erlang, strict=True)
    ]


def _comparable(text: str) -> str:
    """Without what a BEAM alone knows: its numbers for other nodes, and the names of functions."""
    text = re.sub(r'<[^<>.,"]+\.(?=[0-9.]+>)', "<N.", text)
    return re.sub(r"(#Function<[0-9.]+)[^>]*>", r"\1>", text)


def test_terms_are_shown_as_inspect_shows_them(shown: list[Shown]) -> None:
    pairs = [(_comparable(to_elixir(each.term)), _comparable(each.elixir)) for each in shown]
    assert [pair for pair in pairs if pair[0] != pair[1]] == []


def test_terms_are_shown_as_erlang_prints_them(shown: list[Shown]) -> None:
    pairs = [(_comparable(to_erlang(each.term)), _comparable(each.erlang)) for each in shown]
    assert [pair for pair in pairs if pair[0] != pair[1]] == []


def test_what_is_shown_is_read_back_as_the_same_term(shown: list[Shown]) -> None:
    readable = [each for each in shown if "#Fun<" not in each.erlang and len(each.erlang) < 20_000]
    assert len(readable) > COUNT // 3
    for each in readable:
        expected = term_to_binary(each.term, deterministic=True)
        assert term_to_binary(from_elixir(to_elixir(each.term)), deterministic=True) == expected
        assert term_to_binary(from_erlang(to_erlang(each.term)), deterministic=True) == expected


def test_what_the_beam_shows_of_vectors_is_read_as_their_terms(valid: list[dict[str, str]]) -> None:
    for vector in valid:
        term = binary_to_term(bytes.fromhex(vector["hex"]))
        foreign = re.search(r"<17212\.", vector["inspect"])  # a BEAM's own number for a node, which names none
        if not isinstance(term, Fun) and not foreign:
            again = from_elixir(vector["inspect"])
            assert term_to_binary(again, deterministic=True) == term_to_binary(term, deterministic=True)


def test_every_byte_of_every_vector_has_one_annotation(
    valid: list[dict[str, str]], hostile: list[dict[str, str]]
) -> None:
    for vector in [*valid, *hostile]:
        data = bytes.fromhex(vector["hex"])
        if "bomb" in vector["name"]:
            continue
        found = list(annotate(data))
        plain = [each for each in found if not each.packed and each.size]
        ends = [each.offset + each.size for each in plain]
        assert [each.offset for each in plain] == [0, *ends[:-1]][: len(plain)]
        try:
            binary_to_term(data)
        except DecodeError:
            assert found[-1].broken, vector["name"]
        else:
            assert not found[-1].broken, vector["name"]
            assert ends[-1] == len(data)
