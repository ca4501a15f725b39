"""How many jobs may run at once of one verb, and at one endpoint of models. Counts; knows no job and no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from erlbridge.core.lms import endpoint_name

Quota: TypeAlias = tuple[str, str]
"""What a limit is of: `("verb", name)` or `("endpoint", name)`."""

EACH_OTHER: Final = "*"
"""In the place of an endpoint's name: each endpoint that is not named, each for itself."""


@dataclass(slots=True)
class Quotas:
    """Limits, all at least 1, and how much of each is taken.

    Args:
        verb_limits: Jobs that may run at once, by verb.
        endpoint_limits: The same by endpoint, as `core.jobs.endpoints` names it, or `*`.

    >>> quotas = Quotas({"predict": 1}, {"openai": 2})
    >>> job = quotas.of("predict", ("openai", "offline"))
    >>> job, quotas.allows(job)
    ((('verb', 'predict'), ('endpoint', 'openai')), True)
    >>> quotas.take(job)
    >>> quotas.allows(job), quotas.allows(quotas.of("optimize_signature", ("openai",)))
    (False, True)
    """

    verb_limits: Mapping[str, int] = field(default_factory=dict)
    endpoint_limits: Mapping[str, int] = field(default_factory=dict)
    _limits: dict[Quota, int] = field(init=False)
    _taken: Counter[Quota] = field(init=False, default_factory=Counter)

    def __post_init__(self) -> None:
        self._limits = {("verb", name): limit for name, limit in self.verb_limits.items()}
        self._limits |= {("endpoint", endpoint_name(name)): limit for name, limit in self.endpoint_limits.items()}

    def of(self, verb: str, endpoints: Collection[str]) -> tuple[Quota, ...]:
        """The quotas that a job counts against; of what has no limit there is none."""
        if not self._limits:
            return ()
        wanted = (("verb", verb), *(("endpoint", name) for name in endpoints))
        return tuple(quota for quota in wanted if self._limit(quota) is not None)

    def allows(self, quotas: Collection[Quota]) -> bool:
        """Whether a job that counts against these may begin."""
        return not quotas or all(self._taken[quota] < (self._limit(quota) or 0) for quota in quotas)

    def take(self, quotas: Collection[Quota]) -> None:
        """A job begins."""
        for quota in quotas:
            self._taken[quota] += 1

    def give(self, quotas: Collection[Quota]) -> None:
        """A job has ended."""
        for quota in quotas:
            self._taken[quota] -= 1
            if not self._taken[quota]:
                del self._taken[quota]  # a host may name ever new endpoints

    def _limit(self, quota: Quota) -> int | None:
        limit = self._limits.get(quota)
        return self._limits.get(("endpoint", EACH_OTHER)) if limit is None and quota[0] == "endpoint" else limit
