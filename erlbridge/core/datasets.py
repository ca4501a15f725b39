"""Datasets as jobs name them, `{:dataset, "sha256:…"}`: what stands in their place once they are found.

Node and worker read the same payload; each says what a name stands for. Knows names and values; opens nothing, but
says what a file's pieces must be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.errors import BridgeError, NotFound, StorageFailed
from erlbridge.limits import MAX_EXAMPLE_BYTES
from erlbridge.wire.frames import FrameReader
from erlbridge.wire.place import Place
from erlbridge.wire.vocabulary import atom

PREFIX: Final = "sha256:"

_NAME: Final = re.compile(r"sha256:[0-9a-f]{64}\Z")
_A_NAME: Final = "a dataset's name, `sha256:` and 64 hexadecimal digits"
_KEYS: Final = ("training_data", "validation_data", "data")
"""Where a payload may name datasets; in `run_pipeline` a map of them, by step."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset that is stored.

    Attributes:
        name: `sha256:` and the digits of its plain stream.
        examples, size_bytes: How many, and how long the stream is.
        path: The file that is the stream.
        pieces: Reads that file piece by piece; a worker has it, the node needs none.
    """

    name: str
    examples: int
    size_bytes: int
    path: bytes
    pieces: Callable[[], Iterator[bytes]] | None = None

    def told(self) -> bytes:
        """What a worker has to know of it, as it stands beside the programs of a job."""
        return term_to_binary((self.name, self.examples, self.size_bytes, self.path))

    @classmethod
    def heard(cls, told: bytes, pieces: Callable[[bytes], Iterator[bytes]]) -> Dataset:
        """What `told` gave; `pieces` reads a file. Node and worker are of one version: it is not checked."""
        term = binary_to_term(told)
        assert isinstance(term, tuple)  # noqa: S101 - `told` has made it
        name, examples, size, path = term
        return cls(name.decode(), examples, size, path, lambda: pieces(path))

    def terms(self) -> Iterator[object]:
        """The examples as terms, read as they are asked for. The file is gone through once before, so that no wrong
        byte is taken for an example's. Raises `NotFound` when it is not what its name says, and
        `StorageFailed` when the disk does not say what it is."""
        assert self.pieces is not None  # noqa: S101 - only a worker reads
        import hashlib  # noqa: PLC0415 - 5 ms that the node's start does not wait for

        try:
            summed = hashlib.sha256()
            for piece in self.pieces():
                summed.update(piece)
            if summed.hexdigest() != self.name.removeprefix(PREFIX):
                raise self._damaged("its bytes are not those of its name")
            reader = FrameReader(MAX_EXAMPLE_BYTES)
            for piece in self.pieces():
                reader.feed(piece)
                for frame in reader:
                    yield binary_to_term(frame)
        except FileNotFoundError:
            raise self._damaged("its file is gone") from None
        except OSError as error:  # no descriptor is left, for example: the next job may read what lies there
            text = f"{self.name} was not read: {error.strerror or error}; see to its directory and ask again"
            raise StorageFailed(text, context={"reason": atom("disk_refused")}) from None

    def _damaged(self, why: str) -> BridgeError:
        return NotFound(
            f"the dataset {self.name} is damaged on disk ({why}) and set aside; send it again",
            context={"dataset": self.name, "reason": atom("damaged")},
        )


def is_dataset_name(name: str) -> bool:
    """Whether a text has the one form of a dataset's name."""
    return _NAME.match(name) is not None


def read_dataset_name(place: Place) -> str:
    """The name of a dataset. It is a directory's name, so nothing but its one form is taken."""
    found = place.text(_A_NAME)
    if not is_dataset_name(found):
        raise place.refused(_A_NAME)
    return found


def with_datasets(payload: object, find: Callable[[str], object], find_of_step: Callable[[str], object]) -> object:
    """The payload with what a function gives in the place of each `{:dataset, name}`.

    Args:
        payload: As the host sent it, not checked yet.
        find: Called with the name of each dataset.
        find_of_step: The same for those in a map by step, whose examples are cut and shared out before any is read.

    Raises `ValidationError` with the path of a name that is none.
    """
    if not isinstance(payload, dict):
        return payload  # nothing that a job is read from
    changed: dict[object, object] = {}
    for key, value in payload.items():
        if not isinstance(key, Atom | bytes) or (name := _text(key)) not in _KEYS:
            continue
        if (read := _name_in(value, f"payload.{name}")) is not None:
            changed[key] = find(read)
        elif isinstance(value, dict):
            named = {step: _name_in(one, f"payload.{name}[{index}]") for index, (step, one) in enumerate(value.items())}
            changed[key] = {step: value[step] if one is None else find_of_step(one) for step, one in named.items()}
    return {**payload, **changed} if changed else payload


def _text(key: Atom | bytes) -> str:
    return str(key) if isinstance(key, Atom) else key.decode(errors="replace")


def _name_in(value: object, path: str) -> str | None:
    match value:
        case (Atom() as tag, name) if str(tag) == "dataset":
            return read_dataset_name(Place(name, path))
        case _:
            return None
