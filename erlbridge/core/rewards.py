"""What judges the attempts of best_of_n and refine, as a request names it: the signature's own constraints, with
further ones where it wishes, or an Elixir function.

Knows names and bounds as values; judges nothing. `programs.attempts` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from erlbridge.core.bounds import KEYWORDS
from erlbridge.core.functions import Function, names_function, parse_function
from erlbridge.wire.place import Place, given
from erlbridge.wire.vocabulary import atom

REWARDS: Final = ("constraints",)
"""What an attempt can be judged by where no right answer is known: whether it keeps to its signature."""

Wishes: TypeAlias = Mapping[str, Mapping[str, object]]
"""JSON Schema's bounds by output field."""


@dataclass(frozen=True, slots=True)
class Judge:
    """An Elixir function of inputs and outputs. `description` is what it looks for, in words for a model."""

    function: Function
    description: str = ""


def parse_reward(place: Place) -> tuple[Wishes, Judge | None]:
    """The reward at a place: `:constraints`, `{:call, name}`, or a map of such a `name` with the `fields` of the one or
    the `description` of the other. Raises `ValidationError` with the path."""
    if names_function(place.term):
        return {}, Judge(parse_function(place))
    if not isinstance(place.term, Mapping):
        place.choice(REWARDS)
        return {}, None
    named = place.required(place.entries(), "name")
    if names_function(named.term):
        entries = place.only(("name", "description"))
        description = entries["description"].text() if given(entries, "description") else ""
        return {}, Judge(parse_function(named), description)
    entries = place.only(("name", "fields"))
    named.choice(REWARDS)
    if not given(entries, "fields"):
        return {}, None
    wishes = {
        name: {word: _word(bound) for word, bound in wish.only(tuple(KEYWORDS)).items() if bound.term is not None}
        for name, wish in entries["fields"].entries().items()
    }
    return wishes, None


def reward_term(wishes: Wishes, judge: Judge | None) -> dict[str, object] | None:
    """The reward as a map that `parse_reward` reads back, None where it is what it is without a word."""
    if judge is not None:
        # The function's name is a binary, as that of a stored tool is.
        return {"name": (atom("call"), judge.function.text), "description": judge.description}
    return {"name": REWARDS[0], "fields": {name: dict(wish) for name, wish in wishes.items()}} if wishes else None


def _word(bound: Place) -> object:
    return bound.text() if isinstance(bound.term, bytes) else bound.term
