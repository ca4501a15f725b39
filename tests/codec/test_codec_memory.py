"""Calls that run out of memory at each allocation in turn: MemoryError or the result, and nothing left behind."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from functools import partial

import pytest
from test_codec_hostile import GOLDENS, golden

compiled = pytest.importorskip("erlbridge.codec._compiled", reason="the compiled twin was not built")
allocators = pytest.importorskip("_testcapi", reason="this interpreter comes without its test modules")

from erlbridge.codec import Atom  # noqa: E402 - after the skips

RECORD = b"t\0\0\0\3w\2ida\1w\4nameh\2a\1l\0\0\0\2b\0\0\1\0jjw\5innert\0\0\0\1w\1xw\2ok"
OTHER = b"t\0\0\0\3w\2ida\1w\4namew\3nilw\5otherj"
LARGE = bytes(70_000)
# Made beforehand: see CALLS_PYTHON.
WIDE = b"\x83t\0\0\1\1" + b"".join(b"b" + index.to_bytes(4, "big") + b"a\1" for index in range(257))


def with_failures(call: Callable[[], object], most: int = 80) -> int:
    """How many times the call ran out of memory, each time at another allocation."""
    failures = 0
    for at in range(most):
        failed = False
        allocators.set_nomemory(at, at + 1)
        try:
            call()
        except MemoryError:
            failed = True
        finally:
            allocators.remove_mem_hooks()
        failures += failed
    return failures


# Made of what is there already: cached integers and atoms, free lists.
FREE = {
    "small integer", "integer", "negative integer", "float", "negative zero", "least float", "latin atom",
    "latin atom of two bytes", "utf-8 atom", "long utf-8 atom", "tuple", "large tuple", "nested tuples",
    "empty containers",
}  # fmt: skip

CALLS: dict[str, Callable[[], object]] = {
    **{f"decode {name}": partial(compiled.binary_to_term, golden(name)) for name in GOLDENS},
    "decode records": lambda: compiled.binary_to_term(b"\x83l\0\0\0\6" + RECORD * 3 + OTHER + RECORD * 2 + b"j"),
    "decode many containers": lambda: compiled.binary_to_term(b"\x83l\0\0\0\x96" + b"l\0\0\0\1a\1j" * 150 + b"j"),
    "decode deep": lambda: compiled.binary_to_term(b"\x83" + b"h\1" * 300 + b"l\0\0\0\1a\1" * 3 + b"a\2"),
    "decode wide map": lambda: compiled.binary_to_term(WIDE),
    "decode a bytearray": lambda: compiled.binary_to_term(bytearray(golden("list"))),
    "encode": lambda: compiled.term_to_binary([{Atom("a"): (1, 2.5, "text", "é", b"x" * 3000, 1 << 100)}] * 3),
    "encode sorted": lambda: compiled.term_to_binary({Atom("b"): 1, b"a": [2], 3: {4: 5}}, deterministic=True),
    "encode deep": lambda: compiled.term_to_binary(compiled.binary_to_term(b"\x83" + b"h\1" * 300 + b"a\1")),
    "encode with default": lambda: compiled.term_to_binary([object(), {1}], default=lambda _: [Atom("made")]),
    "parts": lambda: compiled.term_to_iovec([LARGE, b"x", {Atom("a"): LARGE}]),
}


# CPython 3.12.1 and 3.13.0 crash when a call of a plain Python function runs out of memory, without any extension.
CALLS_PYTHON = {"encode with default"}


@pytest.mark.parametrize("name", CALLS)
def test_running_out_of_memory_leaves_nothing_behind(name: str) -> None:
    if name in CALLS_PYTHON and sys.version_info >= (3, 12):
        pytest.skip("the interpreter itself crashes here")
    call = CALLS[name]
    result = repr(call())
    failures = with_failures(call)
    assert failures > 0 or name.removeprefix("decode ") in FREE
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(20):
        with_failures(call, 60)
    gc.collect()
    assert sys.getallocatedblocks() - before < 200
    assert repr(call()) == result
    assert compiled._disagreements() == 0
