"""Atoms: one object for each name, from any thread, and none left behind."""

from __future__ import annotations

import copy
import gc
import pickle
import threading

import pytest

from erlbridge.codec import Atom, DecodeError, EncodeError, binary_to_term, term_to_binary
from erlbridge.codec._pure_readers import CACHED_ATOMS
from erlbridge.codec.atoms import _INTERNED
from erlbridge.limits import MAX_ATOM_CACHE


def test_two_atoms_of_one_name_are_one_object() -> None:
    assert Atom("ok") is Atom("ok")
    assert Atom("ok") is binary_to_term(b"\x83w\2ok")
    assert Atom("ok") is not Atom("error")
    assert Atom("ok") != Atom("error")


@pytest.mark.parametrize("data", [b"\x83w\2\xc3\xa9", b"\x83v\0\2\xc3\xa9", b"\x83d\0\1\xe9", b"\x83s\1\xe9"])
def test_every_form_of_an_atom_gives_the_same_object(data: bytes) -> None:
    assert binary_to_term(data) is Atom("é")


def test_an_atom_equals_no_text() -> None:
    assert Atom("ok") != "ok"
    assert Atom("ok") != b"ok"
    assert len({Atom("ok"), "ok", b"ok"}) == 3
    assert Atom("5") != 5


def test_an_atom_prints_its_name() -> None:
    assert str(Atom("ok")) == "ok"
    assert repr(Atom("with space")) == "Atom('with space')"


def test_an_atom_is_hashed_and_compared_without_python_code() -> None:
    assert Atom.__hash__ is object.__hash__
    assert Atom.__eq__ is object.__eq__


def test_an_atom_cannot_be_changed_or_subclassed() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        Atom("ok").name = "error"
    with pytest.raises(AttributeError, match="immutable"):
        del Atom("ok").name
    with pytest.raises(TypeError, match="cannot be subclassed"):
        type("Sub", (Atom,), {})


def test_copies_and_pickles_of_an_atom_are_the_atom() -> None:
    atom = Atom("some_atom")
    assert copy.copy(atom) is atom
    assert copy.deepcopy({atom: [atom]}) == {atom: [atom]}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(atom, protocol)) is atom


def test_the_atom_true_is_written_as_true_and_read_as_true() -> None:
    for name, value in (("true", True), ("false", False), ("nil", None)):
        assert Atom(name) != value
        assert term_to_binary(Atom(name)) == term_to_binary(value)
        assert binary_to_term(term_to_binary(Atom(name))) is value


def test_a_node_named_true_stays_an_atom() -> None:
    pid = binary_to_term(b"\x83Xw\4true" + b"\0\0\0\1" * 3)
    assert pid.node is Atom("true")  # type: ignore[attr-defined]
    export = binary_to_term(b"\x83qw\4truew\3nila\0")
    assert term_to_binary(export) == b"\x83qw\4truew\3nila\0"


def test_names_of_up_to_255_characters_are_taken() -> None:
    for name in ("", "a" * 255, "é" * 255, "😀" * 255, "\0", "日本語"):
        assert binary_to_term(term_to_binary(Atom(name))) is Atom(name)
    with pytest.raises(ValueError, match="atom of 256 characters, limit 255"):
        Atom("a" * 256)


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        Atom("\ud800")
    for name in (b"ok", None, 5):
        with pytest.raises(TypeError, match="name is a str"):
            Atom(name)  # type: ignore[arg-type]


def test_a_str_subclass_names_the_same_atom() -> None:
    class Name(str):
        __slots__ = ()

    assert Atom(Name("ok")) is Atom("ok")
    assert type(Atom(Name("fresh_from_subclass")).name) is str


def test_atoms_that_nobody_holds_are_forgotten() -> None:
    gc.collect()
    before = len(_INTERNED)
    held = [Atom(f"held_{index}") for index in range(1000)]
    assert len(_INTERNED) >= before + 1000
    del held
    gc.collect()
    assert len(_INTERNED) <= before


def test_a_peer_that_sends_ever_new_atoms_leaves_a_bounded_number_behind() -> None:
    for start in range(0, 50_000, 100):
        names = [b"flood_%d" % index for index in range(start, start + 100)]
        data = b"\x83h%c" % len(names) + b"".join(b"w%c" % len(name) + name for name in names)
        binary_to_term(data)
    gc.collect()
    assert len(CACHED_ATOMS) <= MAX_ATOM_CACHE
    assert len([name for name in _INTERNED if name.startswith("flood_")]) <= MAX_ATOM_CACHE
    assert sum(map(len, CACHED_ATOMS)) <= MAX_ATOM_CACHE * 128


def test_threads_that_race_for_a_name_get_one_object() -> None:
    names = [f"raced_{index}" for index in range(2000)]
    results: list[list[Atom]] = []
    barrier = threading.Barrier(6)

    def intern() -> None:
        barrier.wait()
        results.append([Atom(name) for name in names])

    threads = [threading.Thread(target=intern) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for atoms in zip(*results, strict=True):
        assert len(set(map(id, atoms))) == 1


def test_threads_that_make_and_drop_a_name_always_see_it_equal_to_itself() -> None:
    wrong: list[str] = []
    barrier = threading.Barrier(4)

    def churn(seed: int) -> None:
        barrier.wait()
        for index in range(20_000):
            name = f"churned_{(index * seed) % 7}"
            data = b"\x83h\2" + (b"w%c" % len(name) + name.encode()) * 2
            CACHED_ATOMS.pop(data[3 : 3 + 2 + len(name)], None)
            atom = Atom(name)
            one, two = binary_to_term(data)  # type: ignore[misc]
            if not atom is one is two is Atom(name):
                wrong.append(name)

    threads = [threading.Thread(target=churn, args=(seed,)) for seed in (1, 2, 3, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_cache_never_mistakes_a_broken_atom_for_a_known_one() -> None:
    assert binary_to_term(b"\x83d\0\2ok") is Atom("ok")
    for data in (b"\x83d\1\2ok", b"\x83d\0\3ok", b"\x83w\3ok", b"\x83d\0\2o", b"\x83d\0"):
        with pytest.raises(DecodeError):
            binary_to_term(data)


def test_an_over_long_atom_cannot_reach_the_encoder() -> None:
    with pytest.raises(EncodeError):
        term_to_binary({"key": object()}, default=None)
