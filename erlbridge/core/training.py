"""What `train_model` asks for: a program, who teaches it, data, and how; read from the payload and checked.

Knows payloads as values; knows no DSPy and no provider. `core.jobs` reads the program, as it does for every verb.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from erlbridge.core.configs import Config
from erlbridge.core.examples import Examples
from erlbridge.core.options import read_program
from erlbridge.wire.place import Place, given

if TYPE_CHECKING:
    from erlbridge.core.jobs import Source

TRAINING_KEYS: Final = (
    "signature", "pipeline", "program", "teacher", "training_data", "validation_data", "config",
)  # fmt: skip
OPTIMIZER: Final = "bootstrap_finetune"
"""What a training is."""


@dataclass(frozen=True, slots=True)
class TrainModel:
    """Train the weights of the model that a program runs on."""

    source: Source
    teacher: str | Place | None
    """The program whose answers are learned: a stored one by its id, a given one as the place of its envelope. None is
    the program itself."""
    training_data: Examples
    validation_data: Examples | None
    config: Config


def parse_training(
    entries: dict[str, Place], source: Source, training: Examples, validation: Examples | None, config: Config
) -> TrainModel:
    """The training that a payload asks for. Raises `ValidationError` with the path of what is wrong."""
    if config.optimizer != OPTIMIZER:
        optimizer = entries["config"].entries()["optimizer"]
        raise optimizer.refused(f"{OPTIMIZER}, or nothing; others run by optimize_signature")
    teacher = read_program(entries["teacher"]) if given(entries, "teacher") else None
    return TrainModel(source, teacher, training, validation, config)
