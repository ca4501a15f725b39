"""What a trained offline model has memorised: questions with their answers, and nothing else.

Training the offline LM is learning by heart. The same question gets the same answer; to another one the nearest of
those that were learned vote, as the demos of a prompt do. What was learned speaks only where a prompt has the very
fields that it was learned with. So a score after a training says that the way from data to a model works, and nothing
about what a real training would reach.

A model is one term, named by the hash of its bytes:

    %{format: 1, base: "offline", pairs: [%{inputs: %{name => text}, outputs: %{name => text}}]}
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from erlbridge.codec import binary_to_term, term_to_binary
from erlbridge.errors import BridgeError, NotFound, OptimizationError
from erlbridge.programs.offline_prompt import Demo, Prompt, UnreadablePromptError, read_prompt
from erlbridge.wire.place import Place

FORMAT: Final = 1
MAX_PAIRS: Final = 10_000
"""Most pairs of a model: each question is compared with each of them."""

MAX_BYTES: Final = 64 * 1024 * 1024
"""Longest model: it goes to a worker in a frame, beside the job."""

_PREFIX: Final = "offline:"
_Question = tuple[tuple[str, str], ...]


class Memory:
    """Pairs learned by heart; a value.

    >>> learned = Memory([Demo({"note": "sour"}, {"fruit": "lemon"})])
    >>> len(learned), Memory.unpack(*learned.pack()).pairs == learned.pairs
    (1, True)
    """

    def __init__(self, pairs: Iterable[Demo] = ()) -> None:
        """Of two answers to the same question in the same fields the later one stays."""
        known = {(_question(pair), tuple(sorted(pair.outputs))): pair for pair in pairs}
        # Sorted: the same pairs are the same model, in whatever order they were learned.
        self.pairs = tuple(known[key] for key in sorted(known))
        self._answers = {key: pair.outputs for key, pair in known.items()}
        self._alike: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Demo]] = defaultdict(list)
        for pair in self.pairs:
            self._alike[tuple(sorted(pair.inputs)), tuple(sorted(pair.outputs))].append(pair)

    def __len__(self) -> int:
        return len(self.pairs)

    def answer(self, prompt: Prompt) -> Mapping[str, str] | None:
        """The answer to a question that was learned word for word."""
        question = _question(Demo(prompt.values, {}))
        return self._answers.get((question, tuple(sorted(field.name for field in prompt.outputs))))

    def remind(self, prompt: Prompt) -> Prompt:
        """The prompt with what was learned in the same fields behind its own demos."""
        names = tuple(sorted(prompt.values)), tuple(sorted(field.name for field in prompt.outputs))
        return replace(prompt, demos=(*prompt.demos, *self._alike.get(names, ())))

    def pack(self) -> tuple[str, bytes]:
        """The model's name and bytes. Raises `OptimizationError` when it would be larger than a model may be."""
        pairs = [{"inputs": dict(pair.inputs), "outputs": dict(pair.outputs)} for pair in self.pairs]
        data = term_to_binary({"format": FORMAT, "base": "offline", "pairs": pairs}, deterministic=True)
        if len(data) > MAX_BYTES or len(pairs) > MAX_PAIRS:
            raise OptimizationError(
                f"{len(pairs)} pairs of {len(data)} bytes, limit {MAX_PAIRS} pairs of {MAX_BYTES} bytes for the "
                "offline LM; train on less"
            )
        return f"{_PREFIX}{hashlib.sha256(data).hexdigest()}", data

    @classmethod
    def unpack(cls, model: str, data: bytes) -> Memory:
        """The memory of stored bytes. Raises `NotFound` when they are not what the name says."""
        if f"{_PREFIX}{hashlib.sha256(data).hexdigest()}" == model and len(data) <= MAX_BYTES:
            try:
                return cls(_read(Place(binary_to_term(data), "model")))
            except BridgeError as wrong:
                raise _unusable(model, str(wrong)) from wrong
        raise _unusable(model, f"its {len(data)} bytes are not those of its name")


def learned(train_data: Iterable[Mapping[str, Any]]) -> Iterator[Demo]:
    """The last question and answer of each conversation, as DSPy's chat adapter writes training data.

    Raises `OptimizationError` for a conversation that the adapter did not write.
    """
    for index, item in enumerate(train_data):
        turns = [(message["role"], _text(message["content"])) for message in item["messages"]]
        system = "\n".join(text for role, text in turns if role == "system")
        turns = [turn for turn in turns if turn[0] != "system"]
        try:
            # Read as the demos of a further question, of which the last one is what is to be learned.
            yield read_prompt(system, [*turns, ("user", "")]).demos[-1]
        except (UnreadablePromptError, IndexError) as error:
            raise OptimizationError(
                f"the offline LM cannot learn from conversation {index}: {error or 'no question and answer in it'}"
            ) from error


def _text(content: object) -> str:
    """A message's text; other parts (images, files) are not seen."""
    match content:
        case str():
            return content
        case list():
            return "".join(part["text"] for part in content if isinstance(part, dict) and part.get("type") == "text")
        case _:
            return ""


def _question(pair: Demo) -> _Question:
    return tuple(sorted(pair.inputs.items()))


def _read(place: Place) -> list[Demo]:
    entries = place.only(("format", "base", "pairs"))
    if place.required(entries, "format").integer() != FORMAT:
        raise entries["format"].refused(f"the format {FORMAT}")
    place.required(entries, "base").choice(("offline",))
    pairs = place.required(entries, "pairs")
    if len(pairs.elements()) > MAX_PAIRS:
        raise pairs.refused(f"at most {MAX_PAIRS} pairs")
    return [_read_pair(item) for item in pairs.items()]


def _read_pair(place: Place) -> Demo:
    entries = place.only(("inputs", "outputs"))
    inputs, outputs = (
        {name: found.text() for name, found in place.required(entries, key).entries().items()}
        for key in ("inputs", "outputs")
    )
    return Demo(inputs, outputs)


def _unusable(model: str, why: str) -> NotFound:
    return NotFound(f"the model {model} cannot be used: {why}; train it again", context={"model": model})
