"""The offline LM behind a real endpoint: what a compile costs can be counted where it arrives."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from dspy.lm15 import Config, Message, Request, TextPart
from program_jobs import Endpoint, Reply, completion

from erlbridge.programs.offline import OfflineEngine


class OfflineEndpoint(Endpoint):
    """An OpenAI chat endpoint that answers as the embedded offline LM does, with its usage."""

    def __init__(self) -> None:
        super().__init__()
        self._engine = OfflineEngine()
        self.default = self.complete

    def answer(self, request: dict[str, Any], headers: Mapping[str, str]) -> Reply:
        """Keeps the request and answers it, several at a time."""
        with self._lock:
            self.requests.append(request)
        return self.default(request)

    def complete(self, request: dict[str, Any]) -> Reply:
        system = "".join(_text(message) for message in request["messages"] if message["role"] == "system")
        turns = [
            Message(role=message["role"], parts=[TextPart(_text(message))])
            for message in request["messages"]
            if message["role"] != "system"
        ]
        config = Config(temperature=request.get("temperature"))
        response = self._engine.complete(Request(model="x", messages=turns, system=system, config=config))
        return completion(
            response.message.text, asked=response.usage.input_tokens, answered=response.usage.output_tokens
        )

    def asked(self, count: int) -> int:
        """How many requests have arrived, once there are so many: a job that is stopped does not wait for the calls of
        its other threads, which are counted and may still be on their way."""
        deadline = time.monotonic() + 10
        while len(self.requests) < count and time.monotonic() < deadline:
            self.over.wait(0.005)
        return len(self.requests)


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)
