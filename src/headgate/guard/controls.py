"""What an operator (or a rule) has set by hand on one resource: a pause, another limit, another rate.

Plain state, called under the resource's lock. A pause or an override may name its end; it is over at that moment,
without anybody doing anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from headgate.config.units import Rate
from headgate.guard.call_rate import CallRate


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing starts. Moments are seconds on the clock's monotonic scale."""

    reason: str
    since: float
    until: float | None = None
    """``None``: until somebody resumes."""


@dataclass(frozen=True, slots=True)
class Override:
    """Numbers in place of the configured or learned ones. Moments are seconds on the clock's monotonic scale."""

    limit: int | None
    """Calls in flight; ``None``: as configured."""
    rate: Rate | None
    """Calls over a window; ``None``: as configured."""
    reason: str
    since: float
    until: float | None = None
    """``None``: until somebody resets it."""


class Controls:
    """The pause and the override of one resource."""

    __slots__ = ("_base_rate", "_name", "_override", "_own_rate", "_pause", "active")

    def __init__(self, name: str, base_rate: CallRate | None) -> None:
        self._name = name
        self._base_rate = base_rate
        self._own_rate: CallRate | None = None
        self._pause: Pause | None = None
        self._override: Override | None = None
        self.active = False
        """Whether anything is set; it may have ended meanwhile. To read only."""

    def pause(self, pause: Pause | None) -> None:
        """Pause, or (``None``) resume."""
        self._pause = pause
        self._note()

    def override(self, override: Override | None) -> None:
        """Put other numbers in place, or (``None``) go back to the configured ones."""
        self._override = override
        rate = override.rate if override is not None else None
        self._own_rate = CallRate(self._name, rate) if rate is not None else None
        self._note()

    def _note(self) -> None:
        self.active = self._pause is not None or self._override is not None

    def paused(self, now: float) -> Pause | None:
        """The pause that is in force."""
        pause = self._pause
        if pause is not None and pause.until is not None and now >= pause.until:
            self.pause(None)
            pause = None
        return pause

    def overridden(self, now: float) -> Override | None:
        """The override that is in force."""
        override = self._override
        if override is not None and override.until is not None and now >= override.until:
            self.override(None)
            override = None
        return override

    def limit(self, learned: int, now: float) -> int:
        """Calls that may be in flight, given the limiter's own limit."""
        if self._override is None:
            return learned
        override = self.overridden(now)
        return learned if override is None or override.limit is None else override.limit

    def rate(self, now: float) -> CallRate | None:
        """The rate that calls are counted against."""
        if self._override is None:
            return self._base_rate
        self.overridden(now)
        return self._base_rate if self._own_rate is None else self._own_rate

    def next_change_s(self, now: float) -> float:
        """Seconds until an override ends by itself; infinite when none does."""
        override = self.overridden(now)
        return math.inf if override is None or override.until is None else override.until - now


def override_of(limit: float | None, rate: Rate | None, *, reason: str, now: float, until: float | None) -> Override:
    """A checked override; a limit is cut to whole calls.

    Raises:
        ValueError: nothing is overridden, a number is not positive, or the end has passed.
    """
    if limit is None and rate is None:
        raise ValueError("an override needs a limit or a rate")
    if limit is not None and not 1 <= limit < math.inf:
        raise ValueError(f"a limit is at least 1, not {limit!r}; to let nothing through, pause the resource")
    if rate is not None and (rate.amount <= 0 or rate.window_s <= 0):
        raise ValueError(f"a rate is positive, not {rate!r}; to let nothing through, pause the resource")
    check_end(until, now)
    return Override(None if limit is None else int(limit), rate, reason, now, until)


def check_end(until: float | None, now: float) -> None:
    """Refuse an end that has passed.

    Raises:
        ValueError: ``until`` is not after ``now``.
    """
    if until is not None and not now < until:
        raise ValueError(f"the end ({until!r}) has passed: it is {now:.3f} on the monotonic clock")
