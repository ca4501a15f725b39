"""Several programs that answer together, and how their answers become one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dspy  # type: ignore[import-untyped]

from erlbridge.codec import term_to_binary
from erlbridge.core.field_types import fits
from erlbridge.core.modules import Module
from erlbridge.core.signatures import Field, Signature
from erlbridge.errors import ValidationError
from erlbridge.programs.comparisons import normalized
from erlbridge.programs.modules import Blueprint
from erlbridge.programs.predictions import plain


class Ensemble(dspy.Module):  # type: ignore[misc]
    """Asks every member and reduces the answers to one. A member that fails has no vote; the last failure is raised
    when all of them fail.

    Args:
        members: The programs.
        reduce: `majority` or `first`.
        field: The output that a majority is counted on.
    """

    def __init__(self, members: Sequence[Any], reduce: str, field: str) -> None:
        super().__init__()
        self.members = list(members)
        self.reduce = reduce
        self.field = field

    def forward(self, **inputs: Any) -> Any:
        answers: list[Any] = []
        failure: Exception | None = None
        for member in self.members:
            try:
                answers.append(member(**inputs))
            except Exception as error:  # noqa: BLE001 - the others still have their votes
                failure = error
            if answers and self.reduce == "first":
                break
        if not answers:
            assert failure is not None  # noqa: S101 - an ensemble has members
            raise failure
        return _majority(answers, self.field)


def _majority(answers: Sequence[Any], field: str) -> Any:
    """The first answer whose field most of them have; of equally many, the one that came first. An answer that leaves
    the field empty has no vote, unless all do."""
    values = [plain(answer.toDict().get(field)) for answer in answers]
    votes = [term_to_binary(normalized(value), deterministic=True) for value in values]
    cast = [vote for vote, value in zip(votes, values, strict=True) if value not in (None, "")] or votes
    most = Counter(cast).most_common(1)[0][0]  # in the order of their first appearance
    return answers[votes.index(most)]


@dataclass(frozen=True, slots=True)
class EnsembleRecipe:
    """What an ensemble is built from. Its members take and give the same fields."""

    members: tuple[Blueprint, ...]
    reduce: str

    @property
    def signature(self) -> Signature:
        """What the members take and give."""
        return self.members[0].signature

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The fields that an example or a request must give."""
        return self.members[0].inputs

    @property
    def outputs(self) -> tuple[Field, ...]:
        """The fields that some member writes, the signature's own last."""
        own = self.signature.output_fields
        more = {item.name: item for member in self.members for item in member.outputs}
        return (*(item for name, item in more.items() if name not in {found.name for found in own}), *own)

    @property
    def modules(self) -> tuple[Module, ...]:
        """The modules of all members."""
        return tuple(module for member in self.members for module in member.modules)

    def build(self) -> Ensemble:
        """A new program, without demos."""
        last = self.signature.output_fields[-1].name
        return Ensemble([member.build() for member in self.members], self.reduce, last)

    def fields_of(self, name: str, predictor: Any) -> tuple[Field, ...]:
        """The fields of a predictor of one of the members, `members[2].answer`."""
        number, _, rest = name.removeprefix("members[").partition("].")
        return self.members[int(number)].fields_of(rest, predictor)

    def learned(self, examples: Sequence[Mapping[str, object]]) -> EnsembleRecipe:
        """The recipe with these examples for the members that answer by examples."""
        return replace(self, members=tuple(member.learned(examples) for member in self.members))


def ensemble_recipe(members: Sequence[tuple[str, Blueprint]], reduce: str) -> EnsembleRecipe:
    """The recipe of members, each with its path. Raises `ValidationError` when they do not take and give the same."""
    (_, first), *others = members
    for path, member in members:
        if isinstance(member, EnsembleRecipe):
            raise ValidationError("an ensemble cannot be a member of one", path)
    for path, member in others:
        require_fields(path, member.signature, first.signature, "the first member")
    return EnsembleRecipe(tuple(member for _, member in members), reduce)


def require_fields(path: str, signature: Signature, like: Signature, whose: str) -> None:
    """Raises `ValidationError` when a signature does not take and give the same as the one of `whose`."""
    for wanted, found in (
        (like.input_fields, signature.input_fields),
        (like.output_fields, signature.output_fields),
    ):
        if {item.name for item in wanted} != {item.name for item in found}:
            names = [", ".join(item.name for item in items) for items in (wanted, found)]
            raise ValidationError(f"expected the fields of {whose}, {names[0]}, got {names[1]}", path)
        kinds = {item.name: item.type for item in found}
        for item in wanted:
            if not (fits(item.type, kinds[item.name]) and fits(kinds[item.name], item.type)):
                raise ValidationError(f"`{item.name}` has another type than in {whose}", path)
