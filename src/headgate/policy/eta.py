"""When will it start? The rate at which runs start, and what follows from it.

Decides: the drain rate of a lane or workflow from a counter of starts, and the expected wait for a position.

Source: waiting-time estimation from measured throughput (QLM, contact-centre practice); the rate is an
exponentially weighted mean, so that one quiet second does not make it zero.

Rule: every sample of the monotonic counter updates ``rate`` with weight ``1 - exp(-dt / time constant)``, with the
short constant when it rises and the long one when it falls; while nothing waits, starts are limited by arrivals, so
the rate may only rise (it is then a lower bound of what the workers could start). ETA = runs ahead / rate.

Known failure: after workers went away the mean lags by about its long time constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

FALL_S = 15.0
RISE_S = 3.0
"""Workers that come back are believed sooner than workers that seem to be gone."""


@dataclass(frozen=True, slots=True)
class DrainRate:
    """Starts per second as known at ``at_ms``; ``rate`` is ``None`` until two samples were taken."""

    at_ms: int
    started: int
    rate: float | None = None


def sample(before: DrainRate | None, *, at_ms: int, started: int, waiting: bool) -> DrainRate:
    """The estimate after reading the counter again. A counter that fell (a new store) begins anew."""
    if before is None or started < before.started:
        return DrainRate(at_ms, started)
    elapsed_s = (at_ms - before.at_ms) / 1000
    if elapsed_s <= 0:
        return before
    now = (started - before.started) / elapsed_s
    if before.rate is None:
        rate: float | None = now if now > 0 else None
    else:
        weight = 1 - exp(-elapsed_s / (RISE_S if now > before.rate else FALL_S))
        rate = before.rate + weight * (now - before.rate)
        if not waiting:
            rate = max(rate, before.rate)
    return DrainRate(at_ms, started, rate)


def wait_ms(ahead: int, rate: float | None) -> int | None:
    """Milliseconds until ``ahead`` runs have started; ``None`` while the rate is unknown."""
    if ahead <= 0:
        return 0
    if rate is None or rate <= 0:
        return None
    return round(1000 * ahead / rate)
