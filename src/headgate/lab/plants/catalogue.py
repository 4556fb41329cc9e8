"""The situations that limiters are judged by.

Those with ``chosen_on`` were looked at while the constants of `policy.concurrency.cohort` were chosen; the others
were kept apart, and only the reported figures come from them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from headgate.lab.plants.plant import Phase
from headgate.lab.plants.traffic import Traffic

LASTS_S = 1800.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """A plant over time and the traffic that meets it."""

    name: str
    phases: tuple[Phase, ...]
    traffic: Traffic
    right: int
    """The fixed limit that somebody who measured the first phase would set."""
    chosen_on: bool = False
    timeout_s: float = 240.0


def _steps(high: float, low: float, *, collapse: float = 0.15, lasts_s: float = LASTS_S) -> tuple[Phase, ...]:
    """Hidden queueing that loses capacity and gets it back."""
    return tuple(Phase(lasts_s, knee=knee, collapse=collapse) for knee in (high, low, high))


def _caps(high: float, low: float, *, lasts_s: float = LASTS_S) -> tuple[Phase, ...]:
    return tuple(Phase(lasts_s, cap=cap) for cap in (high, low, high))


def _amid(other: Phase, usual: Phase) -> tuple[Phase, ...]:
    """``usual``, then ``other``, then ``usual`` again."""
    return usual, other, usual


_KNEE = Phase(LASTS_S, knee=16, collapse=0.15)
_SMALL = Traffic(median_s=0.5, sigma=0.8, most_s=6.0, error=0.4)

SCENARIOS: tuple[Scenario, ...] = (
    # hidden queueing, 16 -> 6 -> 16, endless backlog
    Scenario("queueing, sizes within 0.2", _steps(16, 6), Traffic(error=0.2), 16, chosen_on=True),
    Scenario("queueing, sizes within 0.4", _steps(16, 6), Traffic(error=0.4), 16),
    Scenario("queueing, sizes within 0.8", _steps(16, 6), Traffic(error=0.8), 16),
    Scenario("queueing, sizes unknown", _steps(16, 6), Traffic(error=None), 16, chosen_on=True),
    Scenario("queueing, sizes x0.3", _steps(16, 6), Traffic(bias=0.3), 16),
    Scenario("queueing, sizes x3", _steps(16, 6), Traffic(bias=3.0), 16),
    Scenario("queueing, sizes x0.3 then x3", _steps(16, 6), Traffic(bias=0.3, bias_later=3.0), 16),
    Scenario("queueing, heavy tail", _steps(16, 6), Traffic(pareto=1.3, median_s=5.0), 16),
    Scenario("queueing, heavy tail, sizes unknown", _steps(16, 6), Traffic(pareto=1.3, median_s=5.0, error=None), 16),
    Scenario("queueing, steep collapse", _steps(16, 6, collapse=0.6), Traffic(), 16),
    Scenario("queueing, 40 -> 12 -> 40", _steps(40, 12), Traffic(median_s=5.0), 40),
    Scenario("queueing, 3 -> 2 -> 3", _steps(3, 2), Traffic(median_s=5.0), 3),
    # by arrivals
    Scenario("arrivals 0.2/s, capacity 0.22/s", _steps(3, 2, lasts_s=5400), Traffic(per_s=0.2), 3),
    Scenario("arrivals 2/s, overloaded", _steps(16, 8), Traffic(per_s=2.0, median_s=7.0), 16, chosen_on=True),
    Scenario("arrivals 1/s, capacity to spare", _steps(20, 16), Traffic(per_s=1.0, median_s=8.0), 20),
    Scenario("arrivals 20/s, overloaded", _steps(12, 5, lasts_s=300), replace(_SMALL, per_s=20.0), 12),
    # the plant says that it is full
    Scenario("hard cap 16 -> 6 -> 16", _caps(16, 6), Traffic(), 16, chosen_on=True),
    Scenario("hard cap 30 -> 9 -> 30, sizes unknown", _caps(30, 9), Traffic(error=None), 30),
    Scenario("hard cap 5 -> 3 -> 5", _caps(5, 3), Traffic(median_s=4.0), 5),
    Scenario("rate 120/min", (Phase(2 * LASTS_S, per_min=120),), Traffic(), 27),
    # not ours
    Scenario("slow x2 from outside", _amid(replace(_KNEE, slow=2.0), _KNEE), Traffic(), 16, chosen_on=True),
    Scenario("slow x2, sizes unknown", _amid(replace(_KNEE, slow=2.0), _KNEE), Traffic(error=None), 16),
    Scenario("half the answers empty", _amid(replace(_KNEE, empty=0.5), _KNEE), Traffic(), 16),
    Scenario(
        "a fifth refused whatever we do", _amid(replace(_KNEE, refuses=0.2), _KNEE), Traffic(), 16, chosen_on=True
    ),
    Scenario("a third fails whatever we do", _amid(replace(_KNEE, fails=0.33), _KNEE), Traffic(), 16),
    # silence
    Scenario(
        "silent stall, 10 min",
        _amid(Phase(600.0, stalled=True), _KNEE),
        Traffic(),
        16,
        chosen_on=True,
        timeout_s=180.0,
    ),
    Scenario(
        "silent stall, sizes unknown",
        _amid(Phase(600.0, stalled=True), _KNEE),
        Traffic(error=None),
        16,
        timeout_s=180.0,
    ),
)
