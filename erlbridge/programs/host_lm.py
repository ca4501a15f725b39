"""A language model that is an Elixir function: keys, endpoints, retries and rate limits stay with the host.

The function gets one map, `%{model, messages: [%{role, content}], temperature, max_tokens}`, and gives a text, or
`%{text, input_tokens, output_tokens, cost_usd}`. Its answers are never cached here: a name says nothing about which
function stands behind it in the next request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from dspy.lm15 import (  # type: ignore[import-untyped]
    Message,
    Request,
    Response,
    StreamDeltaEvent,
    StreamEndEvent,
    StreamStartEvent,
    TextDelta,
    TextPart,
    Usage,
)

from erlbridge.core.functions import call_failed
from erlbridge.core.lms import LM
from erlbridge.programs.failures import Secrets
from erlbridge.programs.host import HostFunction
from erlbridge.programs.models import BridgeLM
from erlbridge.programs.offline import StreamEvent
from erlbridge.programs.predictions import text
from erlbridge.wire.place import Place, given
from erlbridge.wire.vocabulary import atom_keys

_MAX_TOKENS: Final = 10**9


@dataclass(frozen=True, slots=True)
class Completion:
    """What the function answered; None is what it does not know."""

    text: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None


def read_completion(place: Place) -> Completion:
    """A text, or a map with one. Raises `ValidationError`."""
    if not isinstance(place.term, Mapping):
        return Completion(place.text("a text, or %{text, input_tokens, output_tokens, cost_usd}"))
    entries = place.only(("text", "input_tokens", "output_tokens", "cost_usd"))

    def tokens(key: str) -> int | None:
        return entries[key].integer(minimum=0, maximum=_MAX_TOKENS) if given(entries, key) else None

    return Completion(
        place.required(entries, "text").text(),
        tokens("input_tokens"),
        tokens("output_tokens"),
        entries["cost_usd"].number(minimum=0) if given(entries, "cost_usd") else None,
    )


class HostEngine:
    """Engine of a DSPy LM that an Elixir function answers; safe to share between threads and between copies of the LM.

    A failure of the function ends the job. Elixir has retried what was worth it, and DSPy would take the failure for a
    wrong answer.
    """

    def __init__(self, function: HostFunction) -> None:
        self.function = function

    def complete(self, request: Request) -> Response:
        """Answers one request. Raises the guard's `Stop`."""
        answer = self.function.demand([self._argument(request)], read_completion)
        known = [count for count in (answer.input_tokens, answer.output_tokens) if count is not None]
        return Response(
            id=None,
            model=request.model,
            message=Message.assistant([TextPart(answer.text)]),
            finish_reason="stop",
            usage=Usage(answer.input_tokens, answer.output_tokens, sum(known) if len(known) == 2 else None),
            provider_data={"cost_usd": answer.cost_usd},
        )

    def stream(self, request: Request) -> Iterator[StreamEvent]:
        """The same answer in one piece: a function gives its value at once."""
        response = self.complete(request)
        yield StreamStartEvent(model=response.model)
        yield StreamDeltaEvent(delta=TextDelta(text=response.message.text or ""))
        yield StreamEndEvent(finish_reason="stop", usage=response.usage, provider_data=response.provider_data)

    def close(self) -> None:
        """Nothing to close: the function's connections are the host's."""

    def __deepcopy__(self, memo: dict[int, Any]) -> HostEngine:
        return self

    def _argument(self, request: Request) -> dict[object, object]:
        messages = [] if request.system is None else [("system", self._content(request.system))]
        messages += [(message.role, self._content(message.parts)) for message in request.messages]
        return atom_keys(
            {
                "model": self.function.function.text,
                "messages": [atom_keys({"role": role, "content": content}) for role, content in messages],
                "temperature": request.config.temperature,
                "max_tokens": request.config.max_tokens,
            }
        )

    def _content(self, parts: str | tuple[Any, ...]) -> str:
        if isinstance(parts, str):
            return text(parts)
        for part in parts:
            if not isinstance(part, TextPart):
                failure = call_failed(self.function.function.name, f"takes only text, and a prompt holds a {part.type}")
                self.function.end_job(failure)
        return text("".join(part.text for part in parts))


class AsyncHostEngine:
    """The asynchronous counterpart that DSPy wants beside an engine; the function is waited for on a thread."""

    def __init__(self, engine: HostEngine) -> None:
        self.engine = engine

    async def complete(self, request: Request) -> Response:
        """As `HostEngine.complete`."""
        return await asyncio.to_thread(self.engine.complete, request)

    async def stream(self, request: Request) -> AsyncIterator[StreamEvent]:
        """As `HostEngine.stream`."""
        for event in await asyncio.to_thread(lambda: list(self.engine.stream(request))):
            yield event

    async def aclose(self) -> None:
        """As `HostEngine.close`."""

    def __deepcopy__(self, memo: dict[int, Any]) -> AsyncHostEngine:
        return self


class HostLM(BridgeLM):
    """A guarded LM whose answers cost what the function says."""

    def update_history(self, entry: dict[str, Any]) -> None:
        """Takes the cost from the answers; unknown as soon as one of them has none."""
        found = entry["response"]
        answers = found if isinstance(found, list | tuple) else [found]
        costs: list[float | None] = [(answer.provider_data or {}).get("cost_usd") for answer in answers]
        known = [cost for cost in costs if cost is not None]
        self._guard.add_cost(self.model, sum(known) if len(known) == len(costs) else None)


def build_host_lm(lm: LM, function: HostFunction, secrets: Secrets) -> HostLM:
    """The model that an Elixir function is, ready for `dspy.context(lm=…)`.

    Args:
        lm: What the request says about it.
        function: Answers in the place of an endpoint.
        secrets: Kept out of its answers and its errors.
    """
    engine = HostEngine(function)
    options = {
        "engine": engine,
        "async_engine": AsyncHostEngine(engine),
        "temperature": lm.temperature,
        "max_tokens": lm.max_tokens,
        "cache": False,
    }
    return HostLM(lm, options, guard=function.guard, secrets=secrets)
