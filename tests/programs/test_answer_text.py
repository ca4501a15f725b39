"""An answer read while it comes: the pieces are what the whole gives, and no secret shows between two of them."""

from __future__ import annotations

from itertools import pairwise

import dspy
import pytest
from dspy.adapters.chat_adapter import ChatAdapter
from hypothesis import assume, example, given
from hypothesis import strategies as st

from erlbridge.programs.answer_text import CleanText, FieldText
from erlbridge.programs.failures import Secrets
from erlbridge.programs.predictions import text

KEY = "sk-a\\b/sk-a1"
SECRETS = Secrets({"X_API_KEY": KEY, "Y_API_KEY": "sk-a\\b/"})
SIGNATURE = dspy.Signature({name: (str, dspy.OutputField()) for name in ("reasoning", "answer")})
CUTS = st.lists(st.integers(0, 200), max_size=12)

CHAT = st.lists(
    st.sampled_from(
        [
            *(f"[[ ## {name} ## ]]" for name in ("answer", "reasoning", "completed", "other")),
            *("[[", "[", " ## ", "]]", "\n", "\r", "\r\n", "\u2028", "\x1c", "\t", " ", "a", "Bee", "é", "\n\n"),
            "\n[[ ## answer ## ]]\n",
        ]
    ),
    max_size=20,
).map("".join)


def pieces(whole: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    return [whole[start:end] for start, end in pairwise(places)]


def read(parts: list[str]) -> tuple[dict[str, str], list[str]]:
    """The texts that the reader gives, and which fields it has ended."""
    reader, texts, ended = FieldText(["reasoning", "answer"]), {}, []
    for piece in [*(found for part in parts for found in reader.feed(part)), *reader.end()]:
        texts[piece.field] = texts.get(piece.field, "") + piece.text
        assert piece.field not in ended
        if piece.is_last:
            ended.append(piece.field)
    return texts, ended


@given(CHAT, CUTS)
@example("  [[ ## answer ## ]] x \r\n y[[ \r", [3, 20, 25])
@example("[[ ## answer ## ]]\nsee [[ ## here\n[[ ## a\n", [10, 22, 24, 30])
def test_the_pieces_of_a_field_are_what_dspy_parses_out_of_the_whole(whole: str, cuts: list[int]) -> None:
    texts, ended = read(pieces(whole, cuts))
    assert set(texts) == set(ended)
    try:
        parsed = ChatAdapter().parse(SIGNATURE, whole)
    except dspy.AdapterParseError:
        return
    assert texts == parsed


def test_text_is_told_as_soon_as_it_cannot_be_anything_else() -> None:
    reader = FieldText(["answer"])
    told = [[piece.text for piece in reader.feed(part)] for part in ("[[ ## answer ## ]]\n", "one ", "two", "\n[", "x")]
    assert told == [[], ["one"], [" two"], [], ["\n[x"]]


SPELLED = st.sampled_from(
    [
        "\\",
        "\\\\",
        "%5C",
        "\\u005c",
        "s",
        "%73",
        "k-a",
        "/",
        "\\/",
        "b",
        "1",
        "&#11",
        "5;",
        "&#x73;",
        "sk-a",
        KEY,
        "sk-a\\b/",
    ]
)
PAIR = st.sampled_from(["\ud83d", "\ude00", "é", " ", "\n"])


@given(st.lists(SPELLED | PAIR | st.text(max_size=3), max_size=16).map("".join), CUTS)
def test_what_is_shown_of_an_answer_is_the_cleaned_whole(whole: str, cuts: list[int]) -> None:
    clean = CleanText(SECRETS)
    shown = [clean.feed(piece) for piece in pieces(whole, cuts)]
    assert "".join([*shown, clean.end()]) == text(SECRETS.redact_answer(whole))


@given(st.text(max_size=20), st.text(max_size=20), CUTS)
def test_a_key_never_shows_wherever_it_is_cut(before: str, after: str, cuts: list[int]) -> None:
    assume("s" not in before + after)
    clean = CleanText(SECRETS)
    shown = "".join(clean.feed(piece) for piece in pieces(before + KEY + after, [*cuts, len(before) + 3]))
    shown = (shown + clean.end()).removesuffix(text(after))
    assert shown == text(before) + "[redacted]"


@pytest.mark.parametrize("piece", ["plain text", "é", "[[ ## "])
def test_without_keys_nothing_is_held_back(piece: str) -> None:
    assert CleanText(Secrets({})).feed(piece) == piece
