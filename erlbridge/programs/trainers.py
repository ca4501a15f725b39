"""What every provider here is that trains a model's weights: DSPy's `Provider`, under the job's guard.

DSPy guesses a provider from a model's name, and the one it guesses takes address and key from the environment, whatever
the request says about the model: training data meant for one server would go to another. So only subclasses of
`Trainer` train anything, and each knows the model that it belongs to.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspy.clients.provider import Provider, TrainingJob  # type: ignore[import-untyped]

from erlbridge.core.configs import Config
from erlbridge.errors import BridgeError, OptimizationError, ValidationError
from erlbridge.programs.failures import traceback_text
from erlbridge.programs.guard import Guard, Stop

OPTIONS_PATH = "payload.config.options.train_kwargs"

Conversation = Mapping[str, Any]
"""A training example as DSPy's chat adapter writes it: `{"messages": [{"role": …, "content": …}, …]}`."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A model that came of a training. `tokens` is what the provider counted, `content` what is to be kept of it."""

    model: str
    examples: int
    tokens: int | None = None
    content: bytes | None = None


class Trainer(Provider):  # type: ignore[misc]
    """A provider of one job's model. `trained` holds what its trainings gave, by name."""

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self.finetunable = True
        self.guard = guard
        self.trained: dict[str, Trained] = {}

    @abstractmethod
    def check(self, config: Config) -> None:
        """Raises `ValidationError` for what it cannot do, before anything is spent."""

    @abstractmethod
    def train(self, model: str, data: Sequence[Conversation], options: Mapping[str, Any]) -> Trained:
        """Trains. Raises a `BridgeError`, or the guard's `Stop`."""

    def finetune(
        self,
        job: TrainingJob,  # noqa: ARG002 - DSPy's shape
        model: str,
        train_data: list[dict[str, Any]],
        train_data_format: object,  # noqa: ARG002 - the adapter of every job here writes conversations
        train_kwargs: dict[str, Any] | None = None,
    ) -> str:
        """DSPy calls it on a thread that catches every `Exception` and nothing else: if a `Stop` left it, the compile
        would wait for this thread for ever. The guard keeps the reason, and whoever waits asks it."""
        try:
            try:
                found = self.train(model, train_data, train_kwargs or {})
            except BridgeError as failure:
                self.guard.stop(failure)
            except Exception as fault:  # noqa: BLE001 - whatever it is, other trainings of the job stop with it
                self.guard.stop(
                    OptimizationError(
                        f"the training failed: {type(fault).__name__}: {fault}", traceback=traceback_text(fault)
                    )
                )
        except Stop:
            raise RuntimeError("the training was stopped") from None
        self.trained[found.model] = found
        return found.model


def require_trainer(lm: Any, config: Config) -> None:
    """Raises `ValidationError` where the weights of the model cannot be trained."""
    if not isinstance(lm.provider, Trainer):
        raise ValidationError(
            f"{config.optimizer} trains a model's weights, and no provider here can train `{lm.model}`; those that can "
            "be trained are :offline, a model that was trained from it, and `openai/…` at OpenAI or at an `api_base` "
            "that speaks its fine-tuning. Or take an optimizer that writes prompts, such as mipro_v2",
            "payload.config.lm",
        )
    lm.provider.check(config)
