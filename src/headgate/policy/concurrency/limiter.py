"""What a limiter that measures latency is told: every start, every ending, and the time now and then.

`begin` stamps a call, and the stamp comes back with its ending, exactly once. The stamp is what lets a rule tell a
call of the present limit from one that was sent before the last cut, put latency in relation to size, and see the
age of calls that have not ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from headgate.model.outcome import Outcome
from headgate.policy.concurrency.protocol import Change


@dataclass(slots=True, eq=False)
class Stamp:
    """One call in flight."""

    generation: int
    begun_at: float
    size: float
    """Predicted seconds, or any measure of size that latency is proportional to; 1 when unknown."""
    inflight: int
    """Calls in flight when it was sent, itself included."""
    bound: bool
    """Whether the limit held work back when it was sent."""
    cohort: int = -1
    """The group of calls that it is judged with; -1 for none."""
    area: float = 0.0
    """Calls in flight times seconds that the limiter had seen when this one was sent."""


class CallLimiter(Protocol):
    """The rule of one resource."""

    @property
    def limit(self) -> int:
        """Calls that may be in flight now; at least 1."""
        ...

    def begin(self, *, inflight: int, size: float | None, now: float) -> Stamp:
        """A call is sent; ``inflight`` includes it. ``size`` is its predicted size, or None when unknown."""
        ...

    def end(self, stamp: Stamp, outcome: Outcome, *, inflight: int, now: float) -> Change | None:
        """The stamped call ended; ``inflight`` still includes it. At most once for each stamp."""
        ...

    def tick(self, *, now: float) -> Change | None:
        """Time passed; to be called about once a second while calls are in flight."""
        ...
