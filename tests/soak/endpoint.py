"""A model endpoint that has bad minutes: it answers as the offline LM does, or as its mood says."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from offline_endpoint import OfflineEndpoint
from program_jobs import Reply, failure

MOODS = ("well", "half", "limited", "hanging", "broken")


class FaultyEndpoint(OfflineEndpoint):
    """`mood` is one of `MOODS`: well, every other call a 500, 429 with Retry-After, no answer at all, no JSON."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.mood = "well"
        self.count = 0
        self._rng = rng

    def answer(self, request: dict[str, Any], headers: Mapping[str, str]) -> Reply:
        self.count += 1  # the requests themselves are not kept: a soak has many
        match self.mood:
            case "half" if self._rng.random() < 0.5:
                return failure(500, "half of the calls fail")
            case "limited" if self._rng.random() < 0.7:
                return failure(429, "too many requests", Retry_After="1")
            case "hanging":
                return Reply(hangs=True)
            case "broken":
                return Reply(body=b'{"choices": [')
        return self.complete(request)
