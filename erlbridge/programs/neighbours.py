"""The training examples nearest to an input, as its demos: dspy.KNN over a vectorizer that needs no model.

The vectorizer compares spellings: it counts hashed runs of three and four characters, so that texts with words in
common, also inflected ones, are near each other. It understands nothing; it is the same on every machine and costs no
call. The examples are part of the program, because a program's state has no room for them.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, Final

import dspy  # type: ignore[import-untyped]

from erlbridge.errors import ValidationError

_DIMENSIONS: Final = 2048
_RUNS: Final = (3, 4)
_MAX_CHARACTERS: Final = 20_000
"""Characters of an input that are compared; what comes after hardly changes which examples are near."""


def vectors(texts: Sequence[str]) -> Any:
    """One row of length 1 for each text, as a NumPy array of float32."""
    import numpy as np  # noqa: PLC0415 - part of the extra `optimizers`; `modules.require` has looked for it

    rows = np.zeros((len(texts), _DIMENSIONS), dtype=np.float32)
    for number, text in enumerate(texts):
        whole = f" {' '.join(text.casefold().split())[:_MAX_CHARACTERS]} "
        for size in _RUNS:
            for start in range(len(whole) - size + 1):
                run = whole[start : start + size].encode("utf-8", "surrogatepass")
                rows[number, zlib.crc32(run) % _DIMENSIONS] += 1
        rows[number] /= np.linalg.norm(rows[number]) or 1.0
    return rows


class Index:
    """The examples of one program and the `k` of them nearest to an input, shared by all copies of the program.

    Args:
        examples: Field values, inputs and outputs.
        inputs: The names of the inputs.
        k: How many are near.
    """

    def __init__(self, examples: Sequence[Mapping[str, object]], inputs: Sequence[str], k: int) -> None:
        self._examples = examples
        self._inputs = inputs
        self._k = k
        self._knn: Any = None
        self._lock = Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> Index:
        return self

    def nearest(self, values: Mapping[str, object]) -> list[Any]:
        """The nearest examples, the nearest one last: it stands next to the question."""
        if not self._examples:
            raise ValidationError(
                "knn answers by training data, and there is none; optimize the signature first", "program"
            )
        with self._lock:
            if self._knn is None:
                rows = [dspy.Example(dict(item)).with_inputs(*self._inputs) for item in self._ordered()]
                self._knn = dspy.KNN(k=self._k, trainset=rows, vectorizer=vectors)
        if len(self._examples) == 1:
            return list(self._knn.trainset)  # DSPy's search squeezes one score into no list at all
        return list(reversed(self._knn(**{name: values[name] for name in self._inputs if name in values})))

    def _ordered(self) -> list[dict[str, object]]:
        """The examples with their inputs in the order of the signature: the text that is compared has it, too."""
        return [
            {
                **{name: item[name] for name in self._inputs if name in item},
                **{n: v for n, v in item.items() if n not in self._inputs},
            }
            for item in self._examples
        ]


class Nearest(dspy.Module):  # type: ignore[misc]
    """Answers with the nearest examples as demos, after those that an optimizer chose."""

    def __init__(self, module: Any, index: Index) -> None:
        super().__init__()
        self.module = module
        self.index = index

    def forward(self, **inputs: Any) -> Any:
        chosen = self.module.predictors()[0].demos
        return self.module(**inputs, demos=[*chosen, *self.index.nearest(inputs)])
