"""When will it start, and when will it be done?

Decides: the drain rate of a lane or workflow from a counter of starts; and from the work ahead of a run, and what the
resources it needs can carry, its expected start and finish.

Source: waiting-time estimation from measured throughput (QLM, contact-centre practice); run-level forecasts by the
recipe of a discrete-event study of admission for agent runs.

Rule for runs: the finish is the larger of the run's own path and the time in which the work ahead of it, in the same
or higher lanes, drains on its bottleneck, plus a quarter of the smaller. Worker slots are a resource as well. Work
drains at the current rate for the first minute and at the last healthy rate after that. Rates are net of what lanes
that start later keep as their guaranteed share, and of what is still to come into lanes that start earlier; of worker
slots the run's own lane has its guaranteed share in any case. The start is the time in which enough of those ahead
have made room. The result is calibrated by `headgate.policy.calibration`.

Rule for the drain rate: every sample of the monotonic counter updates ``rate`` with weight ``1 - exp(-dt / time
constant)``, with the short constant when it rises and the long one when it falls; while nothing waits, starts are
limited by arrivals, so the rate may only rise (it is then a lower bound of what the workers could start).

Known failure: after workers went away the mean lags by about its long time constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

from headgate.policy.calibration import ASSUMED_SPREAD, Spread

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


SMALLER_COUNTS = 0.25
"""Part of the smaller of path and wait that is added to the larger."""
NOW_S = 60.0
"""For so long the current rate is believed to last."""
UNDER_WAY = 0.5
"""Part of a running run's work that is left, on average."""
LEAST_RATE = 1e-6
WORKERS = "worker slots"
"""The name under which worker slots are a resource; no configured one can be called so."""
BACKGROUND = "background slots"
"""The same for slots that some lanes have for themselves."""


@dataclass(frozen=True, slots=True)
class Line:
    """One resource that a run needs, and what waits for it. Work is seconds in a slot, or calls to answer; rates are
    work per second."""

    name: str
    each: float
    """Work of one ordinary run ahead."""
    rate: float
    """What is left now for the run's lane and those before it, net of what is still to come into those before it."""
    healthy: float
    """The same while the resource is healthy and as much comes in as usual."""
    own_rate: float = 0.0
    """What the run's own lane gets whatever waits in the others; 0 where nothing is promised to it."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """Who goes before a run, in runs."""

    lane: int
    """Waiting in its own lane, before it."""
    earlier: int
    """Waiting in lanes that start before its own."""
    running: int
    """Running, in all lanes: they hold the slots."""
    under_way: int
    """Running in its own lane or an earlier one: their calls go before its calls."""


@dataclass(frozen=True, slots=True)
class Spreads:
    """How to stretch the two times of a forecast."""

    start: Spread = ASSUMED_SPREAD
    finish: Spread = ASSUMED_SPREAD


ASSUMED_SPREADS = Spreads()


@dataclass(frozen=True, slots=True)
class Prospect:
    """Everything that the forecast for one kind of run needs besides its place in line."""

    path_s: float
    """From its start to its end if it waited for nothing on the way."""
    slots: float
    """Runs that the fleet carries at once."""
    lines: tuple[Line, ...]
    straight: Spreads = ASSUMED_SPREADS
    """For runs that need not wait."""
    queued: Spreads = ASSUMED_SPREADS


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds from now."""

    expected_start_s: float
    expected_finish_s: float
    start_p50_s: float
    start_p90_s: float
    finish_p50_s: float
    finish_p90_s: float
    waits: bool


def drain_s(work_s: float, rate: float, healthy: float) -> float:
    """Seconds until so many seconds of work are done: at ``rate`` for a minute, at ``healthy`` from then on."""
    rate = max(rate, LEAST_RATE)
    if work_s <= rate * NOW_S:
        return max(0.0, work_s) / rate
    return NOW_S + (work_s - rate * NOW_S) / max(rate, healthy)


def forecast(prospect: Prospect, ahead: Ahead) -> Forecast:
    """When a run with so many ahead of it should start and finish."""
    waiting = ahead.lane + ahead.earlier
    free = max(0.0, prospect.slots - ahead.running)
    waits = waiting + 1 > free
    start_s = max((_start_s(line, ahead, free) for line in prospect.lines), default=0.0) if waits else 0.0
    work_s = max((_work_s(prospect, line, ahead) for line in prospect.lines), default=0.0)
    finish_s = max(prospect.path_s, work_s) + SMALLER_COUNTS * min(prospect.path_s, work_s)
    finish_s = max(finish_s, start_s + prospect.path_s)
    spreads = prospect.queued if waits else prospect.straight
    start_p50_s, start_p90_s = spreads.start.times_s(start_s) if waits else (0.0, 0.0)
    finish_p50_s, finish_p90_s = spreads.finish.times_s(finish_s)
    return Forecast(
        start_s,
        finish_s,
        start_p50_s,
        start_p90_s,
        max(start_p50_s, finish_p50_s),
        max(start_p90_s, finish_p90_s),
        waits,
    )


def rest_s(prospect: Prospect, ran_s: float) -> tuple[float, float]:
    """Seconds that a run which has run for ``ran_s`` still needs, p50 and p90.

    A run that is overdue is expected to need another quarter of what such runs take.
    """
    p50, p90 = prospect.straight.finish.times_s(max((prospect.path_s, *_stays_s(prospect))))
    left = max(p50 - ran_s, SMALLER_COUNTS * p50)
    return left, max(left, p90 - ran_s, SMALLER_COUNTS * p90)


def _stays_s(prospect: Prospect) -> list[float]:
    return [line.each for line in prospect.lines if line.name == WORKERS]


def _start_s(line: Line, ahead: Ahead, free: float) -> float:
    """Until enough runs have ended for those ahead of it and then itself to start."""
    shared = ahead.lane + ahead.earlier + 1 - free
    return _shared_drain_s(line, shared * line.each, (ahead.lane + 1) * line.each)


def _work_s(prospect: Prospect, line: Line, ahead: Ahead) -> float:
    running = ahead.under_way
    if line.name == WORKERS:
        running = ahead.running if ahead.running >= prospect.slots else 0  # a free slot is not waited for
    under_way_s = UNDER_WAY * running * line.each
    shared_s = under_way_s + (ahead.lane + ahead.earlier) * line.each
    return _shared_drain_s(line, shared_s, under_way_s + ahead.lane * line.each)


def _shared_drain_s(line: Line, shared_s: float, own_s: float) -> float:
    """The work ahead drains at what is left to this lane and those before it, or its own lane's with its own."""
    together_s = drain_s(shared_s, line.rate, line.healthy)
    return min(together_s, own_s / line.own_rate) if line.own_rate > 0 else together_s
