"""Who trains which model: the offline LM by heart, `openai/…` at its endpoint, nobody the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dspy.clients.provider import Provider  # type: ignore[import-untyped]

from erlbridge.core.configs import Config
from erlbridge.core.lms import LM
from erlbridge.errors import NotFound, ValidationError
from erlbridge.programs.endpoint_trainer import PREFIX, EndpointTrainer
from erlbridge.programs.guard import Guard
from erlbridge.programs.offline import OfflineEngine
from erlbridge.programs.offline_memory import Memory, learned
from erlbridge.programs.trainers import OPTIONS_PATH, Conversation, Trained, Trainer


class OfflineTrainer(Trainer):
    """Trains the embedded offline LM: it learns the conversations by heart, see `offline_memory`."""

    def __init__(self, guard: Guard, engine: OfflineEngine) -> None:
        super().__init__(guard)
        self._engine = engine

    def check(self, config: Config) -> None:
        """It has no options."""
        if config.options.get("train_kwargs"):
            raise ValidationError("expected nothing: the offline LM learns by heart and has no options", OPTIONS_PATH)

    def train(self, model: str, data: Sequence[Conversation], options: Mapping[str, Any]) -> Trained:  # noqa: ARG002 - none
        """A model that knows these conversations beside what `model` knew."""
        pairs = []
        for pair in learned(data):
            self.guard.check()
            pairs.append(pair)
            self.guard.progress.training("learning by heart", len(pairs), len(data))
        memory = Memory([*self._engine.memory(model).pairs, *pairs])
        name, content = memory.pack()
        self._engine.remember(name, memory)
        return Trained(name, len(data), content=content)


def equip(built: Any, lm: LM, guard: Guard, stored: Mapping[str, bytes]) -> None:
    """Gives a model of the job its provider, in the place of the one that DSPy guessed, and a trained offline model
    what it has learned.

    Args:
        built: The `dspy.LM`.
        lm: What the request says about it.
        guard: The job's.
        stored: The bytes of trained models by name, the one that is named among them.

    Raises:
        NotFound: The trained model is not there, or not what its name says.
    """
    if lm.offline:
        engine = built.engine
        if lm.trained:
            if lm.model not in stored:
                raise NotFound(f"no model {lm.model} is stored here", context={"model": lm.model})
            engine.remember(lm.model, Memory.unpack(lm.model, stored[lm.model]))
        built.provider = OfflineTrainer(guard, engine)
    elif lm.function is None and lm.model.startswith(PREFIX):
        built.provider = EndpointTrainer(
            guard,
            address=built.kwargs.get("api_base"),
            key=built.kwargs.get("api_key"),
            timeout_s=lm.timeout_s,
        )
    else:
        built.provider = Provider()
