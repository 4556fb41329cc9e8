"""Would this run finish in time if it were taken in now?

Decides: whether a run fits its deadline as it is, only on the degraded path, not now, or never.

Source: admission by predicted finish (a discrete-event study of run-level admission: refusing what cannot finish,
early and per run, was worth more than any rule at single calls); 1.3 times the time left for the first lane.

Rule: it fits when the calibrated p50 of its finish is at most its time left times ``tolerance``, and the p50 of its
start is within what its queue lets anything wait. A run that does not fit as it is, and has a degraded path on which
it fits or of which nothing is known yet, is taken in degraded if at least its start is in time. It can never fit when
even on an idle fleet its p50 on every path it has is later.

Invariants: without a prospect (nothing known) and without a deadline nothing is refused; what fits with so many ahead
fits with fewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from headgate.policy.eta import Ahead, Forecast, Prospect, forecast

FIRST_LANE_TOLERANCE = 1.3
WAITING_TAKES = 0.75
"""Part of its time that the forecast of a run which has to wait may take."""
CHEAPER_SAVES = 0.5
"""Part of the ordinary path that a degraded path of which nothing is known is taken to save."""
IDLE = Ahead(0, 0, 0, 0)


class Fit(Enum):
    YES = "yes"
    DEGRADED = "degraded"
    """On the degraded path."""
    LATE = "late"
    """Not now."""
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is known of a run that asks to come in, and how long it has."""

    plain: Prospect
    cheaper: Prospect | None
    """On the degraded path; ``None``: it has none, or nothing is known of it."""
    may_degrade: bool
    left_s: float | None
    """Until its deadline."""
    queue_s: float | None = None
    """How long its queue lets it wait for its start."""
    tolerance: float = 1.0
    refuse: bool = True
    """Whether what does not fit is refused; otherwise it is only foreseen."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The answer, with the forecast for the path on which the run would go."""

    fit: Fit
    forecast: Forecast
    over_s: float = 0.0
    """By how much the better path misses, when it does not fit."""


def judge(wish: Wish, ahead: Ahead) -> Judged:
    """Whether a run with so many ahead of it fits."""
    plain = forecast(wish.plain, ahead)
    over_s = _over_s(wish, plain)
    if over_s <= 0 or not wish.refuse:
        return Judged(Fit.YES, plain)
    if wish.may_degrade:
        if wish.cheaper is None:
            over_s = _over_s(wish, plain, CHEAPER_SAVES * wish.plain.path_s)
            return Judged(Fit.DEGRADED, plain) if over_s <= 0 else Judged(Fit.LATE, plain, over_s)
        cheaper = forecast(wish.cheaper, ahead)
        over_cheaper_s = _over_s(wish, cheaper)
        if over_cheaper_s <= 0:
            return Judged(Fit.DEGRADED, cheaper)
        return Judged(Fit.LATE, cheaper, over_cheaper_s)
    return Judged(Fit.LATE, plain, over_s)


def judge_idle(wish: Wish) -> Judged:
    """Whether it would fit if nothing else were there."""
    judged = judge(wish, IDLE)
    return Judged(Fit.NEVER, judged.forecast, judged.over_s) if judged.fit is Fit.LATE else judged


def tightness(wish: Wish, finish_s: float) -> float | None:
    """How much (0..1) of the wait that it can afford a run would have, if it finished ``finish_s`` from now; ``None``
    for a run without a deadline, or that can afford none."""
    if wish.left_s is None:
        return None
    room_s = WAITING_TAKES * wish.left_s - wish.plain.path_s
    return min(1.0, max(0.0, finish_s - wish.plain.path_s) / room_s) if room_s > 0 else None


def _over_s(wish: Wish, told: Forecast, saved_s: float = 0.0) -> float:
    """Seconds by which it is too late; at most 0 when it fits. ``saved_s``: earlier than told."""
    over_s = _start_over_s(wish, told)
    if wish.left_s is not None:
        over_s = max(over_s, told.finish_p50_s - saved_s - wish.left_s * _part(wish, told))
    return over_s


def _start_over_s(wish: Wish, told: Forecast) -> float:
    limits = [limit for limit in (wish.left_s, wish.queue_s) if limit is not None]
    return told.start_p50_s - min(limits) * _part(wish, told) if limits else 0.0


def _part(wish: Wish, told: Forecast) -> float:
    """How much of the time it has the forecast may take. Who waits in an overload stands at the edge: taken at its
    p50, every second of them would be late."""
    return wish.tolerance if wish.tolerance > 1 or not told.waits else WAITING_TAKES
