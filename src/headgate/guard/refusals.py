"""Saying no: what a refused call is told, and how often that happened."""

from __future__ import annotations

import random
from typing import NamedTuple

from headgate.errors import Overloaded
from headgate.model.reason import Reason

RETRY_AFTER_LEAST_S = 0.1
RETRY_AFTER_MOST_S = 3600.0


class Denial(NamedTuple):
    """Why a slot is refused, before it is put into words."""

    reason: Reason
    wait_s: float | None = None
    """A wait that is known (a breaker's open time, a rate's window); ``None``: estimate it from the queue."""
    scope: str | None = None
    """Whose limit, if not the resource's own."""
    limit: float | None = None
    used: float | None = None
    terminal: bool = False
    """A retry of the same call cannot succeed."""


class Refusals:
    """Builds refusals of one resource and counts them by reason. Called under the resource's lock."""

    __slots__ = ("_rng", "_scope", "counts", "shadowed")

    def __init__(self, scope: str, rng: random.Random) -> None:
        self._scope = scope
        self._rng = rng
        self.counts: dict[str, int] = {}
        self.shadowed: dict[str, int] = {}
        """What was let through that a limit in shadow mode would have refused."""

    def count(self, reason: Reason, *, shadow: bool = False) -> None:
        """One more."""
        counts = self.shadowed if shadow else self.counts
        counts[reason.value] = counts.get(reason.value, 0) + 1

    def words(self, denial: Denial, *, estimate_s: float) -> Overloaded:
        """The error for a refused caller. ``estimate_s``: seconds until the queue should have room.

        Waits are jittered so that refused callers do not come back together: estimates by a fifth either way, known
        moments by up to a fifth later (coming earlier would be useless). They are never 0.
        """
        retry_after_s: float | None = None
        if not denial.terminal:
            if denial.wait_s is not None:
                retry_after_s = denial.wait_s * (1 + 0.2 * self._rng.random())
            else:
                retry_after_s = estimate_s * (0.8 + 0.4 * self._rng.random())
            retry_after_s = min(max(retry_after_s, RETRY_AFTER_LEAST_S), RETRY_AFTER_MOST_S)
        return Overloaded(
            denial.reason,
            scope=denial.scope or self._scope,
            retry_after_s=retry_after_s,
            limit=denial.limit,
            used=denial.used,
        )
