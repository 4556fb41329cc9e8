"""The calls that are judged together, and when there are enough of them to be judged."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

LEAST_CALLS = 10
DONE, SENT_MOST = 0.8, 2
"""A cohort is judged when this part of the calls it needs was answered or timed out; until then up to twice as many
join it."""
PATIENCE = 1.5
"""Or when so many spreads have passed since the last of them was sent, and half of the least number was answered: a
dependency that became much slower is noticed before most of its calls have ended."""
LASTS_LEAST_S = 0.25
"""No cohort is judged sooner: at a thousand calls a second that saves work and costs nothing."""


@dataclass(slots=True)
class Group:
    """One cohort. Times in seconds, monotonic."""

    number: int
    wanted: int
    since: float = math.inf
    """When its first member was sent."""
    full_at: float = math.inf
    """When the last that is needed was."""
    sent: int = 0
    """Members, without those that were lost."""
    bound: bool = False
    """Whether the limit was reached meanwhile."""
    log_calls: float = 0.0
    """Sum of the logs of the calls in flight that its members lived among."""
    ended: list[tuple[float, float]] = field(default_factory=list)
    """Log of latency and log of size of those that were answered well."""
    timed_out: list[tuple[float, float]] = field(default_factory=list)
    refused: bool = False
    """Whether one was refused meanwhile."""

    @property
    def answered(self) -> int:
        """Members that say something about latency."""
        return len(self.ended) + len(self.timed_out)

    def join(self, now: float) -> None:
        """One more call was sent."""
        if not self.sent:
            self.since = now
        self.sent += 1
        if self.sent == self.wanted:
            self.full_at = now

    def lose(self, *, refused: bool) -> None:
        """A member failed, was refused or given up: it says nothing about latency, and another takes its place.
        Quick failures would otherwise fill every group before a slow answer has come."""
        self.sent -= 1
        self.refused = self.refused or refused
        if self.sent < self.wanted:
            self.full_at = math.inf

    def is_due(self, now: float, patience_s: float) -> bool:
        """``patience_s``: by when most calls have ended, in seconds after the last that is needed was sent."""
        if self.answered >= DONE * self.wanted:
            return now - self.since >= LASTS_LEAST_S
        return now - self.full_at > patience_s and 2 * self.answered >= LEAST_CALLS
