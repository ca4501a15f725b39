"""The twins of the codec where terms are written: errors, their places, what is called on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
from test_codec_hostile import golden

from erlbridge.codec import Atom, DecodeError, EncodeError, ImproperList, Pid, TermMap, _pure

compiled = pytest.importorskip("erlbridge.codec._compiled", reason="the compiled twin was not built")

from codec_twins import outcome  # noqa: E402 - needs the compiled twin


@pytest.fixture(autouse=True)
def no_disagreement() -> Iterator[None]:
    """An input that the compiled twin refuses is one that the pure twin refuses."""
    yield
    assert compiled._disagreements() == 0


class Text(list):  # type: ignore[type-arg]
    """A subclass, which is not written directly."""


def odd_terms() -> list[object]:
    emptied = ImproperList([1], 2)
    emptied.elements.clear()
    cyclic: list[object] = [1]
    cyclic.append({Atom("again"): (cyclic,)})
    deep: object = 1
    for _ in range(10_001):
        deep = (deep,)
    deep_run: object = [1, 2, 300]
    for _ in range(10_000):
        deep_run = (deep_run,)
    deep_floats: object = [1.5] * 5
    for _ in range(10_000):
        deep_floats = [deep_floats, Atom("x")]
    huge = 1 << 4_194_296 * 8
    return [
        *(wrap(value) for value in NO_TERMS for wrap in WRAPS),
        *(wrap(emptied) for wrap in WRAPS),
        cyclic,
        deep,
        deep_run,
        deep_floats,
        [deep],
        huge,
        [huge],
        [1, -huge, 2],
        [1, huge, 2.0],
        (Atom("a"), [0, [5, huge]]),
        [0.5, 0.5, 0.5, float("inf"), 0.5],
        [0.5] * 9 + [float("nan"), 1],
        {"a": 1, b"a": 2},
        [{Atom("k"): {True: 1, Atom("true"): 2}}],
        [{1: float("nan"), "a": 1, b"a": 2}],
        {("a",): 1, (b"a",): 2},
        {(1, 1j): 1},
        {Atom("x"): {1: 2, 1j: 3}},
        Text([1, {2: Text([set()])}]),
    ]


NO_TERMS: list[object] = [float("nan"), float("-inf"), "\ud800", "é\udfff", set(), 1j, object]

WRAPS: list[Callable[[object], object]] = [
    lambda value: value,
    lambda value: [1, value],
    lambda value: [Atom("a"), {b"key": (2, [value])}],
    lambda value: {Atom("a"): {2.5: value}},
    lambda value: ImproperList([1], (value,)),
    lambda value: TermMap([(1, 1), (1.0, [value])]),
    lambda value: Text([1, value]),
]


def test_what_the_encoder_refuses_is_refused_alike() -> None:
    for term in odd_terms():
        for options in ({}, {"deterministic": True}):
            one = outcome(compiled.term_to_binary, term, **options)
            two = outcome(_pure.term_to_binary, term, **options)
            assert one == two, (repr(term)[:200], options)


def test_default_is_asked_for_the_same_values_in_the_same_order() -> None:
    class Odd:
        def __init__(self, answer: object) -> None:
            self.answer = answer

        def __repr__(self) -> str:
            return "Odd()"

    answers: list[object] = [1, [Odd(2), 3], {Odd(1): Odd(2), 5: 6}, {Atom("k"): Odd("text")}]
    for answer in [*answers, set(), float("nan"), "\ud800"]:
        term = [1, {Atom("a"): Odd(answer)}, (Odd(answer),), {Odd(answer): 1, 2: 3}]
        for options in ({}, {"deterministic": True}):
            seen: dict[str, list[object]] = {}

            def ask(value: object, name: str, seen: dict[str, list[object]] = seen) -> object:
                seen.setdefault(name, []).append(value)
                if isinstance(value, set):
                    raise KeyError("no set")
                return value.answer  # type: ignore[attr-defined]

            one = outcome(compiled.term_to_binary, term, default=lambda value: ask(value, "compiled"), **options)
            two = outcome(_pure.term_to_binary, term, default=lambda value: ask(value, "pure"), **options)
            assert one == two
            assert list(map(id, seen["compiled"])) == list(map(id, seen["pure"]))


def changing(module: ModuleType, change: str) -> tuple[object, ...]:
    """What comes of a term that its own `default` changes while it is written."""
    inner: list[object] = [object(), Atom("end")]
    pairs: dict[object, object] = {Atom("a"): object(), Atom("b"): [1, 2, 300]}
    term: list[object] = [1, inner, {Atom("k"): pairs}, (pairs,), [Atom("last")]]

    def default(_: object) -> object:
        match change:
            case "clear inner":
                inner.clear()
            case "clear all":
                term.clear()
                inner.clear()
                pairs.clear()
            case "grow inner":
                inner.extend([1, float("nan")] if len(inner) > 5 else [1, 2])
            case "shrink all":
                del term[2:]
            case "grow dict":
                pairs[len(pairs)] = 1
            case "other keys":
                pairs.clear()
                pairs.update({1: object(), 2: 2})
            case "same size":
                for key in list(pairs):
                    del pairs[key]
                    pairs[(key, 1)] = 0
        return [Atom("made")]

    return outcome(module.term_to_binary, term, default=default)


@pytest.mark.parametrize(
    "change", ["none", "clear inner", "clear all", "grow inner", "shrink all", "grow dict", "other keys", "same size"]
)
def test_terms_that_change_while_they_are_written_end_alike(change: str) -> None:
    assert changing(compiled, change) == changing(_pure, change)


def test_parts_are_the_same_and_joined_the_whole() -> None:
    large, text = bytes(range(256)) * 300, "é" * 40_000
    pid = Pid(Atom("a@b"), 1, 2, 3)
    fun = _pure.binary_to_term(golden("fun"))
    fun = type(fun)(1, b"u" * 16, 3, Atom("m"), 4, 5, pid, [large, [large, b"s"]])
    for term in (
        large,
        [],
        b"small",
        [large],
        [large, large, b"small", large],
        {Atom("a"): large, Atom("b"): [text, "a" * 70_000, bytes(65_535), bytes(65_536)]},
        (1, fun, fun, [fun, large]),
        [300] * 50_000,
        [0.5] * 50_000,
        (Atom("ok"), bytearray(large), memoryview(large)),
    ):
        parts = compiled.term_to_iovec(term)
        assert parts == _pure.term_to_iovec(term)
        assert b"".join(parts) == compiled.term_to_binary(term) == _pure.term_to_binary(term)
    assert compiled.term_to_iovec([large])[1] is large
    with pytest.raises(EncodeError):
        compiled.term_to_iovec([large, set()])


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda data: memoryview(data)[::1]])
def test_every_kind_of_bytes_gives_the_same_errors(make: Callable[[bytes], object]) -> None:
    for data in (b"", b"\x82", b"\x83", b"\x83a", b"\x83w\2o", b"\x83l\0\0\0\2a\1a\2", b"\x83P\0\0", b"\x83h\2a\1b"):
        one, two = outcome(compiled.binary_to_term, make(data)), outcome(_pure.binary_to_term, make(data))
        assert one == two
        assert one[0] is DecodeError


def test_a_bytearray_cannot_be_resized_while_it_is_decoded() -> None:
    data = bytearray(_pure.term_to_binary([Atom("held")]))
    assert compiled.binary_to_term(data) == [Atom("held")]
    data.append(0)  # and is free again afterwards
    with pytest.raises(DecodeError):
        compiled.binary_to_term(data)
    data.clear()


def test_calls_that_no_signature_has_are_type_errors_alike() -> None:
    for args, options in (((), {}), ((b"\x83a\1", 3), {}), ((b"\x83a\1",), {"depth": 3}), ((b"",), {"data": b""})):
        assert outcome(compiled.binary_to_term, *args, **options)[0] is TypeError
        assert outcome(_pure.binary_to_term, *args, **options)[0] is TypeError
    for level in (-1, 10, 99):
        one, two = (outcome(module.term_to_binary, 1, compressed=level) for module in (compiled, _pure))
        assert one == two
