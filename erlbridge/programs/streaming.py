"""A prediction that is told while the model writes it: the text of its outputs, piece by piece.

Knows DSPy's way of streaming (`send_stream`, of which `dspy.streamify` is made), programs and the guard; what of an
answer belongs to which field is `answer_text`'s.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any, Final

import anyio
import anyio.to_thread
import dspy  # type: ignore[import-untyped]
from dspy.utils.callback import BaseCallback  # type: ignore[import-untyped]

from erlbridge.core.jobs import Chunk
from erlbridge.core.spelling import Spelling
from erlbridge.errors import InternalError
from erlbridge.programs.answer_text import CleanText, FieldText, Piece
from erlbridge.programs.failures import Secrets, lm_failed
from erlbridge.programs.guard import Guard, Stop
from erlbridge.programs.modules import Recipe
from erlbridge.programs.predictions import outputs
from erlbridge.programs.work import Work

STREAMED_MODULES: Final = ("predict", "chain_of_thought")
"""Modules of one model call, whose answer is the prediction. With others, a text that was told could still change."""


def streamed(program: Any, work: Work) -> Any:
    """The program, telling its text outputs while it runs; the program itself where there is nothing to tell."""
    fields = [field.name for field in work.recipe.outputs if field.type.kind == "string"]
    recipe = work.recipe
    if not fields or not isinstance(recipe, Recipe) or recipe.module.name not in STREAMED_MODULES:
        return program
    return Streamed(program, fields, guard=work.guard, secrets=work.secrets, spelling=work.spelling)


class _Interrupted(Exception):
    """The job must not go on. An ordinary exception, so that DSPy closes the connection; the guard stops the job."""


class Streamed(BaseCallback):  # type: ignore[misc]
    """A program whose one call tells the pieces of its text outputs.

    It is its own `send_stream`, to which DSPy hands what arrives, and its own callback, which hears of each attempt. An
    attempt that failed before anything was told is made again like any other; after that the failure ends the job,
    since what was told cannot be taken back.
    """

    def __init__(
        self, program: Any, fields: Iterable[str], *, guard: Guard, secrets: Secrets, spelling: Spelling
    ) -> None:
        super().__init__()
        self._program = program
        self._guard = guard
        self._secrets = secrets
        self._spelling = spelling
        self._told = dict.fromkeys(fields, "")
        self._ended: set[str] = set()
        self._begin()

    def __call__(self, **inputs: Any) -> Any:
        """The program's prediction, when all of its text has been told."""
        with dspy.context(send_stream=self, callbacks=[*dspy.settings.callbacks, self]):
            # DSPy hands over pieces from a thread of anyio's to the loop that started it.
            prediction = anyio.run(anyio.to_thread.run_sync, functools.partial(self._program, **inputs))
        self._complete(outputs(prediction, self._told))
        return prediction

    # -- what DSPy calls

    async def send(self, chunk: Any) -> None:
        """The next piece of the model's answer."""
        choice = chunk.choices[0]
        try:
            if choice.delta.content:
                self._tell(self._reader.feed(self._clean.feed(choice.delta.content)))
            if choice.finish_reason is not None:
                self._tell([*self._reader.feed(self._clean.end()), *self._reader.end()])
                self._guard.check()  # what is written to its end is paid for, and kept
            else:
                self._guard.check_time()
        except Stop:
            raise _Interrupted from None

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002 - DSPy's shape
        """An attempt begins: what an earlier one left unfinished is void."""
        self._begin()

    def on_lm_end(
        self,
        call_id: str,  # noqa: ARG002 - the shape of DSPy's handlers
        outputs: Any | None,  # noqa: ARG002
        exception: BaseException | None = None,
    ) -> None:
        """An attempt that broke off after something was told ends the job."""
        if isinstance(exception, Exception) and (self._ended or any(self._told.values())):
            self._guard.stop(lm_failed(exception, failed_calls=self._guard.ledger.failed_calls))

    # -- telling

    def _begin(self) -> None:
        self._clean = CleanText(self._secrets)
        self._reader = FieldText(self._told)

    def _tell(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            self._told[piece.field] += piece.text
            if piece.is_last:
                self._ended.add(piece.field)
            self._guard.progress.chunk(Chunk(self._spelling.key(piece.field), piece.text, piece.is_last))

    def _complete(self, found: Mapping[str, object]) -> None:
        """Tells what did not come in pieces: an answer from the cache, or one that the chat format was not used for."""
        for field, value in found.items():
            told = self._told[field]
            if not isinstance(value, str) or not value.startswith(told) or (field in self._ended and value != told):
                raise InternalError(f"what was streamed of `{field}` is not its text; ask again without `stream`")
            if field not in self._ended:
                self._tell([Piece(field, value[len(told) :], is_last=True)])
