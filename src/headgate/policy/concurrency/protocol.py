"""What moves a concurrency limit: the port that every rule implements.

A limiter is told how calls ended and answers with a `Change` when the limit moves. It is a pure state machine: time
comes in as ``now`` (seconds, monotonic), and it knows nothing of slots.

*Generation*: a number that a call is stamped with when it starts and that rises with every cut. Endings of calls
from an older generation never cut again, so that one overload is answered by one cut, however many calls it hit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Change:
    """The limit moved, why, and on which evidence."""

    old: int
    new: int
    reason: str
    """``overload``, ``timeout``, ``latency``, ``growth``, ``restart``."""
    inputs: Mapping[str, float] = field(default_factory=dict)


class Limiter(Protocol):
    """The rule of one resource."""

    @property
    def limit(self) -> int:
        """Calls that may be in flight now; at least 1."""
        ...

    @property
    def generation(self) -> int:
        """The stamp for calls that start now."""
        ...

    def on_success(self, *, generation: int, ran_s: float, bound: bool, now: float) -> Change | None:
        """A call succeeded after ``ran_s``; ``bound`` says that the limit held work back meanwhile."""
        ...

    def on_failure(self, *, generation: int, now: float) -> Change | None:
        """A call failed in a way that says nothing about capacity."""
        ...

    def on_overload(self, *, generation: int, inflight: int, now: float) -> Change | None:
        """The dependency said that it is full. ``inflight`` includes the refused call."""
        ...

    def on_timeout(self, *, generation: int, inflight: int, now: float) -> Change | None:
        """No answer in time."""
        ...

    def on_restart(self, *, now: float) -> Change | None:
        """The breaker closed again: begin at a quarter of the limit and climb."""
        ...
