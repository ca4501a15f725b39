"""A program whose demos are, for each input, the examples that are most like it: DSPy's KNNFewShot, made to be kept.

DSPy patches the compiled program's `forward` with a closure over the examples, which no state holds, bootstraps anew
at each prediction and prints about it. Here the same retriever and the same LabeledFewShot stand in a module of their
own, and the examples are kept beside the state. Likeness is that of words and their trigrams: it needs no model, no
network, and gives the same neighbours everywhere.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import dspy  # type: ignore[import-untyped]
from dspy import teleprompt
from dspy.predict.knn import KNN  # type: ignore[import-untyped]

from erlbridge.errors import MissingPackage
from erlbridge.programs.offline_learner import features

_DIMENSIONS: Final = 1024
"""Places of a text's vector; two features that share one are taken for each other, which a thousand make rare."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """What a nearest-neighbour program has beside its state: how many demos, and the examples to take them from."""

    k: int
    inputs: tuple[str, ...]
    examples: tuple[Mapping[str, object], ...]

    def build(self, program: Any) -> Any:
        """The program with demos of its own for each input. Raises `MissingPackage` where NumPy is not installed."""
        return NearestDemos(program, self)


class NearestDemos(dspy.Module):  # type: ignore[misc]
    """Answers as a program does that has the input's nearest examples for demos."""

    def __init__(self, program: Any, nearest: Nearest) -> None:
        super().__init__()
        self.program = program
        examples = [dspy.Example(dict(example)).with_inputs(*nearest.inputs) for example in nearest.examples]
        self._find = KNN(nearest.k, examples, vectorizer=dspy.Embedder(_vectors, caching=False))
        self._few_shot = nearest.k

    def forward(self, **inputs: Any) -> Any:
        labeled = teleprompt.LabeledFewShot(k=self._few_shot)
        return labeled.compile(self.program, trainset=self._find(**inputs), sample=False)(**inputs)


def _vectors(texts: list[str]) -> Any:
    """A row of unit length for each text."""
    try:
        import numpy as np  # noqa: PLC0415 - optional
    except ImportError as error:
        raise MissingPackage(
            f"a knn_few_shot program needs the package `numpy` ({error}); "
            "install it with: pip install 'erlbridge[optimizers]'"
        ) from error
    rows = np.zeros((len(texts), _DIMENSIONS), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        for feature in features(text):
            row[zlib.crc32(feature.encode()) % _DIMENSIONS] += 1
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
