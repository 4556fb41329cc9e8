"""How much work a resource carries out per second, over the whole fleet.

Decides: from counters that only grow (calls that succeeded, the seconds they were busy) and the limits of all
processes, the seconds of work that the resource can do per second now, the last such rate while it was healthy, and
how long one call takes. Worker slots are such a resource as well: a call is then an attempt.

Source: Little's law; the recipe of a discrete-event study of run-level admission (see `headgate.policy.eta`).

Rule: with ``limit`` slots a resource does at most ``limit`` seconds of work per second. While it is saturated, the
part that ends well is measured (*yield*, at most 1; an outage shows as less). While it is not, its limit is only a
lower bound of its capacity, because adaptive limits grow with demand: it is stretched by the idle part of the
limit, to at most twice, and never above what is configured. The healthy rate rises with the rate within seconds and
falls with a time constant of five minutes.

Invariants: a rate is never negative, and never above twice the limit or above what is configured.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

MEMORY_S = 15.0
"""Time constant of what is measured."""
CALL_MEMORY = 200.0
"""How many calls a mean remembers; while few come they are remembered for longer than ``MEMORY_S``."""
TOTAL_MEMORY_S = 120.0
HEALTHY_RISE_S = 5.0
HEALTHY_FALL_S = 300.0
STRETCH = 2.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What all processes together reported of one resource at ``at_ms``."""

    at_ms: int
    limit: float
    most: float
    """What the limit may ever become."""
    inflight: float
    saturated: bool
    done: float
    """Calls that ended well since the last look."""
    busy_s: float
    """Seconds that these took."""
    call_s: float | None = None
    """A typical call, where a process knows it; used until calls were counted."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """One resource as known at ``at_ms``."""

    at_ms: int
    rate: float
    """Seconds of work per second, now."""
    healthy: float
    """The same, when it was last healthy."""
    call_s: float | None
    """Mean seconds of a call that ended well."""
    calls: float = 0.0
    """Calls that the mean remembers, and their seconds."""
    busy_s: float = 0.0
    total_done: float = 0.0
    """Calls that ended well, fading with a time constant of `TOTAL_MEMORY_S` for all resources alike."""
    offered_s: float = 0.0
    """Slot-seconds offered while saturated (decaying), and what of them ended well."""
    yielded_s: float = 0.0

    @property
    def troubled(self) -> bool:
        """Whether it does much less than it did."""
        return self.rate < 0.7 * self.healthy


def follow(before: Throughput | None, seen: Seen) -> Throughput:
    """What is known after one more look. Looks at the same or an earlier moment change nothing."""
    elapsed_s = 0.0 if before is None else (seen.at_ms - before.at_ms) / 1000
    if before is not None and elapsed_s <= 0:
        return before
    old = before or Throughput(seen.at_ms, 0.0, 0.0, None)
    keep = CALL_MEMORY / (CALL_MEMORY + seen.done)
    calls, busy_s = old.calls * keep + seen.done, old.busy_s * keep + seen.busy_s
    call_s = busy_s / calls if calls > 0 else seen.call_s
    fade = exp(-elapsed_s / MEMORY_S)
    offered_s, yielded_s = old.offered_s * fade, old.yielded_s * fade
    if seen.saturated and before is not None:
        offered_s += seen.limit * elapsed_s
        yielded_s += seen.busy_s
    if seen.saturated:
        # A second of prior: what was only just filled has not had time to end anything.
        prior_s = max(1.0, call_s or 0.0) * max(seen.limit, 1.0)
        rate = seen.limit * min(1.0, (yielded_s + prior_s) / (offered_s + prior_s))
    else:
        idle = max(0.0, 1 - seen.inflight / seen.limit) if seen.limit > 0 else 0.0
        rate = min(seen.limit * min(STRETCH, 1 + idle), max(seen.most, seen.limit))
    return Throughput(
        seen.at_ms,
        rate,
        _healthy(before, rate, elapsed_s),
        call_s,
        calls,
        busy_s,
        old.total_done * exp(-elapsed_s / TOTAL_MEMORY_S) + seen.done,
        offered_s,
        yielded_s,
    )


def _healthy(before: Throughput | None, rate: float, elapsed_s: float) -> float:
    if before is None:
        return rate
    memory_s = HEALTHY_RISE_S if rate > before.healthy else HEALTHY_FALL_S
    return before.healthy + (1 - exp(-elapsed_s / memory_s)) * (rate - before.healthy)
