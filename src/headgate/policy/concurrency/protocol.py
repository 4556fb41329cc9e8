"""What moves a concurrency limit: the port that every rule implements.

A limiter is told of every start, every ending and, now and then, of the time; it answers with a `Change` when the
limit moves. It is a pure state machine: time comes in as ``now`` (seconds, monotonic), and it knows nothing of slots.

`begin` stamps a call, and the stamp comes back with its ending, exactly once. The stamp is what lets a rule tell a
call of the present limit from one that was sent before the last cut (its *generation*), put latency in relation to
size, and see the age of calls that have not ended. So one overload is answered by one cut, however many calls it hit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from headgate.model.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Change:
    """The limit moved, why, and on which evidence."""

    old: int
    new: int
    reason: str
    """``overload``, ``latency``, ``errors``, ``stall``, ``memory``, ``growth``, ``probe``, ``config``, ``restart`` or
    ``provider_slow`` (then the limit may be unchanged)."""
    inputs: Mapping[str, float] = field(default_factory=dict)


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
    """The rule of one resource, as far as calls and time go."""

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


class Limiter(CallLimiter, Protocol):
    """What a guard needs besides."""

    def restart(self, *, good: int, now: float) -> Change | None:
        """The breaker closed again: begin at a quarter of ``good``, the limit at which calls went well last, and
        climb. The present limit is no measure: what broke the dependency may have cut it to nothing."""
        ...

    def press(self, pressure: float, *, now: float) -> Change | None:
        """Memory pressure of this process, 0..1."""
        ...
