"""What a busy application sends: mostly quick requests, some long ones, some that make no sense."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from tickets import OFFLINE, TICKETS, optimization, prediction, slow

from erlbridge.codec import Atom, term_to_binary
from soak.endpoint import FaultyEndpoint
from soak.host import Host

SOURCES = (b"web", b"batch", b"console")


class Load:
    """Draws one request after the other from a seeded mixture and sends it."""

    def __init__(self, host: Host, endpoint: FaultyEndpoint, rng: random.Random) -> None:
        self.host = host
        self.endpoint = endpoint
        self.rng = rng
        self.malformed = 0
        self._drawn: list[tuple[int, Callable[[], None]]] = [
            (40, lambda: self._ask("predict", prediction())),
            (8, lambda: self._ask("predict", prediction(slow(self.rng.choice((20, 200)))))),
            (12, lambda: self._ask("predict", prediction(self._lm()))),
            (1, lambda: self._ask("predict", prediction(slow(5_000)), deadline_ms=self.rng.randint(50, 800))),
            (4, lambda: self._ask("evaluate_pipeline", self._evaluation(OFFLINE))),
            (2, lambda: self._ask("evaluate_pipeline", self._evaluation(self._lm()), deadline_ms=3_000)),
            (3, lambda: self._ask("optimize_signature", optimization(12, optimizer=Atom("labeled_few_shot")))),
            (2, lambda: self._ask("optimize_signature", optimization(12), deadline_ms=4_000)),
            (12, lambda: self._ask("health_check", {})),
            (3, lambda: self._ask("list_programs", {})),
            (4, self._cancel),
            (3, lambda: self._ask("predict", {Atom("signatur"): b"a -> b"})),
            (1, lambda: self._ask("no_such_verb", {})),
            (1, lambda: self._ask("predict", {**prediction(), Atom("input"): {b"k": b"x" * 500_000}})),
            (2, self._malformed),
        ]

    def one(self) -> None:
        """Sends the next request."""
        weights, draws = zip(*self._drawn, strict=True)
        self.rng.choices(draws, weights)[0]()

    def burst(self, count: int) -> None:
        """Sends more than the node's queue takes; what is too much is answered at once."""
        for _ in range(count):
            self._ask("predict", prediction())

    def _ask(self, verb: str, payload: object, deadline_ms: int | None = 20_000) -> None:
        self.host.request(
            verb, payload, deadline_ms=deadline_ms, source=self.rng.choice(SOURCES), priority=self.rng.randint(-2, 2)
        )

    def _lm(self) -> dict[Any, Any]:
        lm = {Atom(key): value for key, value in self.endpoint.lm(timeout_ms=2_000).items()}
        return {Atom("lm"): {key: _wire(value) for key, value in lm.items()}, Atom("cache"): False}

    def _evaluation(self, config: dict[Any, Any]) -> dict[Any, Any]:
        payload = {key: value for key, value in optimization(8).items() if key != Atom("training_data")}
        return {**payload, Atom("data"): self.rng.sample(TICKETS, 8), Atom("config"): config}

    def _cancel(self) -> None:
        running = [number for number, asked in list(self.host.asked.items())[-100:] if not asked.answers]
        self._ask("cancel", {Atom("id"): self.rng.choice(running) if running else 0})

    def _malformed(self) -> None:
        frame = bytearray(term_to_binary((Atom("predict"), b"lost", prediction())))
        del frame[self.rng.randrange(1, len(frame)) :]
        self.malformed += 1
        self.host.send_frame(bytes(frame))


def _wire(value: object) -> object:
    return value.encode() if isinstance(value, str) else value
