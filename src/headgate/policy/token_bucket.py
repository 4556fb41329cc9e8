"""Rates over a window, smooth rather than edge-bursty.

Decides: whether ``amount`` may be taken from a limit of ``per_window`` per ``window_s`` now, and if not, when.

Source: the generic cell rate algorithm (ITU-T I.371), virtual scheduling form: one number per key, the
*theoretical arrival time*. A bucket that was never used is full.

Invariants: over any interval of length t at most ``burst + per_window * t / window`` is granted; a refused take
changes nothing; time going back grants nothing extra. Trade-off: the first use of a fresh key may spend the whole
burst at once.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RateTake:
    """A wish to take ``amount`` from the limit named ``key``. Windows are in milliseconds."""

    key: str
    """Unique per limit and per who it is for, e.g. ``runs:user:acme/ann:workflow:triage``."""
    name: str
    """How refusals call it, e.g. ``user:ann``."""
    per_window: float
    window_ms: float
    amount: float = 1.0
    burst: float | None = None
    """How much may be taken at once from a rested bucket; the whole window's worth by default."""
    unit: str = "runs"
    shadow: bool = False
    of: str = ""
    """The resource whose use is counted; empty: the run's."""
    declared: float | None = None
    """How much is given at once but for an override; what fits into that may be taken once the override is over."""
    rule: str = ""
    """Which of the configured ``limits`` it is, for refusals."""

    @property
    def interval_ms(self) -> float:
        """How long one unit takes to come back."""
        return self.window_ms / self.per_window

    @property
    def size(self) -> float:
        return self.per_window if self.burst is None else self.burst


@dataclass(frozen=True, slots=True)
class Taken:
    """The answer: the new state to store, or the wait."""

    granted: bool
    arrival_ms: float
    """The new theoretical arrival time (unchanged when refused)."""
    wait_ms: float
    """0 when granted; else milliseconds until the same take would be granted."""
    remaining: float
    """What could still be taken now, after this."""
    reset_ms: float
    """Milliseconds until the bucket is full again."""
    never: bool = False
    """The amount is larger than the bucket."""


def take(arrival_ms: float | None, wish: RateTake, *, now_ms: float, amount: float | None = None) -> Taken:
    """Take ``wish.amount``, or ``amount``, at ``now_ms`` given the stored arrival time (``None``: never used).

    Raises:
        ValueError: rate, window, burst or amount are not positive.
    """
    size = wish.size
    if amount is None:
        amount = wish.amount
    if wish.per_window <= 0 or wish.window_ms <= 0 or size <= 0 or amount < 0:
        raise ValueError(f"a rate needs positive per_window, window and burst: {wish!r}")
    interval_ms = wish.window_ms / wish.per_window
    depth_ms = size * interval_ms
    base = now_ms if arrival_ms is None or arrival_ms < now_ms else arrival_ms
    after = base + amount * interval_ms
    overshoot_ms = after - now_ms - depth_ms
    if overshoot_ms > 1e-6:
        left = max(0.0, depth_ms - (base - now_ms)) / interval_ms
        return Taken(
            False,
            base if arrival_ms is None else arrival_ms,
            overshoot_ms,
            left,
            base - now_ms,
            never=amount > size,
        )
    return Taken(True, after, 0.0, (depth_ms - (after - now_ms)) / interval_ms, after - now_ms)


def arrival_if_room(arrival_ms: float | None, wish: RateTake, *, now_ms: float, amount: float) -> float | None:
    """The new arrival time if `take` would grant ``amount`` at ``now_ms``, else ``None``: all that the usual case
    needs to know."""
    per_window, window_ms = wish.per_window, wish.window_ms
    depth_ms = (per_window if wish.burst is None else wish.burst) * (window_ms / per_window)
    start = now_ms if arrival_ms is None or arrival_ms < now_ms else arrival_ms
    if start + amount * (window_ms / per_window) - now_ms - depth_ms > 1e-6:
        return None
    return start - -amount * window_ms / per_window


def settle(
    arrival_ms: float | None, *, taken: float, after_ms: float, actual: float, interval_ms: float, now_ms: float
) -> float | None:
    """The arrival time once it is known that ``actual`` was used where ``taken`` was taken in advance.

    ``after_ms`` is the arrival time right after that take. What has come back to the bucket since is not given back
    a second time. What was used beyond the take is charged in full, also where that leaves a debt.
    """
    if actual > taken:
        start = now_ms if arrival_ms is None or arrival_ms < now_ms else arrival_ms
        return start + (actual - taken) * interval_ms
    if arrival_ms is None:
        return None
    spare_ms = min((taken - actual) * interval_ms, after_ms - now_ms, arrival_ms - now_ms)
    return arrival_ms - max(0.0, spare_ms)


def give_back(arrival_ms: float, wish: RateTake, *, amount: float) -> float:
    """The arrival time after ``amount`` was returned (a settled hold, a refused call)."""
    return arrival_ms - amount * wish.window_ms / wish.per_window
