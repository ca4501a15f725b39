"""Answers above the frame limit: all who ask for one get it whole, and it is held once however many they are."""

from __future__ import annotations

from typing import Any

import pytest

from erlbridge.codec import Atom
from erlbridge.node import sending
from erlbridge.node.sending import Sending
from erlbridge.wire import messages
from erlbridge.wire.vocabulary import atom


def taken(out: Sending, number: int, result: object) -> object:
    return out.take(b"%d" % number, number, result, messages.encode(messages.ok(number, result)))


def test_a_long_result_that_many_ask_for_is_held_once_and_goes_whole_to_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "MAX_OUTGOING_BYTES", 110_000)
    out = Sending(8192)
    result, other, third = ({Atom("program"): letter * 50_000} for letter in (b"x", b"y", b"z"))
    assert taken(out, 0, result) is not None
    assert all(out.take_again(b"%d" % number, number, result) is not None for number in range(1, 100))
    assert taken(out, 100, dict(result)) is not None, "the same of another job is held once too"
    assert taken(out, 101, other) is not None, "so there is room beside it"
    assert taken(out, 102, third) is None, "and an end of it"
    assert out.take_again(b"102", 102, third) is None
    got: dict[Any, bytes] = {}
    while out:
        _, number, chunk = out.next()
        got[number] = got.get(number, b"") + chunk[atom("data")]  # type: ignore[index, operator]
    assert set(got) == set(range(102))
    assert len({got[number] for number in range(101)}) == 1
    assert taken(out, 103, third) is not None, "there is room again"
    out.let_go()
    assert out.take_again(b"104", 104, third) is None
