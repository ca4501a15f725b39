"""Datasets as jobs name them, `{:dataset, "sha256:…"}`: what stands in their place once they are found.

Behind the name may stand a view, `{:dataset, "sha256:…", %{seed: 7, skip: 0.8, take: 500}}`. Node and worker read the
same payload; each says what a name stands for. Knows names and values; opens nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.core.views import Order, parse_view, read_order
from erlbridge.wire.place import Place

PREFIX: Final = "sha256:"

_NAME: Final = re.compile(r"sha256:[0-9a-f]{64}\Z")
_A_NAME: Final = "a dataset's name, `sha256:` and 64 hexadecimal digits"
_KEYS: Final[Mapping[object, str]] = {
    key: name for name in ("training_data", "validation_data", "data") for key in (Atom(name), name.encode())
}
"""Where a payload may name datasets; in `run_pipeline` a map of them, by step."""


class Rows(Protocol):
    """The examples of a dataset where they lie."""

    def term(self, place: int) -> bytes:
        """The bytes of an example's term, known to be right.

        Raises `NotFound` when they are not what was sent, and `StorageFailed` when the disk does not say. Any thread
        may ask.
        """


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset that is stored, or a view of one.

    Attributes:
        name: `sha256:` and the digits of its plain stream.
        examples, size_bytes: How many are stored, and how long the stream is.
        path: The file that is the stream.
        view: Which of them are meant, in which order; None is all.
        rows: Gives them; a worker has it, the node needs none.
    """

    name: str
    examples: int
    size_bytes: int
    path: bytes
    view: Order | None = None
    rows: Rows | None = None

    def told(self) -> bytes:
        """What a worker has to know of it, as it stands beside the programs of a job."""
        return term_to_binary((self.name, self.examples, self.size_bytes, self.path))

    @classmethod
    def heard(cls, told: bytes) -> Dataset:
        """What `told` gave. Node and worker are of one version: it is not checked."""
        term = binary_to_term(told)
        assert isinstance(term, tuple)  # noqa: S101 - `told` has made it
        name, examples, size, path = term
        return cls(name.decode(), examples, size, path)

    @property
    def order(self) -> Order:
        """The places of the examples that are meant."""
        return Order.of_all(self.examples) if self.view is None else self.view

    def __len__(self) -> int:
        return len(self.order)

    @property
    def identity(self) -> list[object]:
        """What decides which examples are meant, and in which order."""
        order = self.order
        return [self.name, order.seed, order.span.start, order.span.stop]

    def cut(self, start: int, stop: int | None) -> Dataset:
        """Those from one to another, as a slice of a list."""
        return replace(self, view=self.order[start:stop])

    def term(self, place: int) -> object:
        """The example at a place of the dataset, whatever the view. Raises what `Rows.term` raises."""
        assert self.rows is not None  # noqa: S101 - only a worker reads
        return binary_to_term(self.rows.term(place))

    def terms(self) -> Iterator[object]:
        """The examples that are meant, read as they are asked for."""
        return map(self.term, self.order)


def is_dataset_name(name: str) -> bool:
    """Whether a text has the one form of a dataset's name."""
    return _NAME.match(name) is not None


def read_dataset_name(place: Place) -> str:
    """The name of a dataset. It is a directory's name, so nothing but its one form is taken."""
    found = place.text(_A_NAME)
    if not is_dataset_name(found):
        raise place.refused(_A_NAME)
    return found


def with_datasets(payload: object, find: Callable[[str], Dataset]) -> object:
    """The payload with what is found in the place of each `{:dataset, name}` and `{:dataset, name, view}`.

    Args:
        payload: As the host sent it, not checked yet.
        find: Called with the name of each dataset.

    Raises `ValidationError` with the path of a name or a view that is none.
    """
    if not isinstance(payload, dict):
        return payload  # nothing that a job is read from
    changed: dict[object, object] = {}
    for key, value in payload.items():
        if (name := _KEYS.get(key)) is None:
            continue
        if (found := _found(value, f"payload.{name}", find)) is not None:
            changed[key] = found
        elif isinstance(value, dict):
            named = [_found(one, f"payload.{name}[{index}]", find) for index, one in enumerate(value.values())]
            changed[key] = {
                step: one if found is None else found for (step, one), found in zip(value.items(), named, strict=True)
            }
    return {**payload, **changed} if changed else payload


def _found(value: object, path: str, find: Callable[[str], Dataset]) -> Dataset | None:
    match value:
        case (Atom() as tag, name) if str(tag) == "dataset":
            return find(read_dataset_name(Place(name, path)))
        case (Atom() as tag, name, view) if str(tag) == "dataset":
            place = Place(view, f"{path}[2]")
            wanted = parse_view(place)
            found = find(read_dataset_name(Place(name, path)))
            return replace(found, view=read_order(wanted, found.examples, found.name, place))
        case _:
            return None
