"""What `train_model` asks for: a program, who teaches it, data, and how; read from the payload and checked.

Knows payloads as values; knows no DSPy and no provider. `core.jobs` reads the program, as it does for every verb.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from erlbridge.core.configs import Config, parse_config
from erlbridge.core.examples import Examples
from erlbridge.core.options import read_program
from erlbridge.core.signatures import Signature
from erlbridge.wire.place import Place, given

if TYPE_CHECKING:
    from erlbridge.core.jobs import Source

TRAINING_KEYS: Final = ("program", "signature", "teacher", "training_data", "validation_data", "config")
_OPTIMIZER: Final = "bootstrap_finetune"


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


def parse_training(place: Place, entries: dict[str, Place], source: Source) -> TrainModel:
    """The training that a payload asks for. Raises `ValidationError` with the path of what is wrong."""
    training = Examples.at(place.required(entries, "training_data"))
    validation = Examples.at(entries["validation_data"]) if given(entries, "validation_data") else None
    described = place.required(entries, "config")
    config = parse_config(
        described,
        None,
        count=len(training if validation is None else validation),
        outputs=[output.name for output in source.output_fields] if isinstance(source, Signature) else None,
        training=len(training),
        default=_OPTIMIZER,
    )
    if config.optimizer != _OPTIMIZER:
        raise described.entries()["optimizer"].refused(f"{_OPTIMIZER}, or nothing; others run by optimize_signature")
    teacher = read_program(entries["teacher"]) if given(entries, "teacher") else None
    return TrainModel(source, teacher, training, validation, config)
