"""When would this run start and finish, judged with the exact numbers of the transaction that may take it in."""

from __future__ import annotations

import json
from dataclasses import dataclass

from headgate.model.decision import Admission, LimitUse, Refusal
from headgate.model.promise import Promise
from headgate.model.reason import Reason
from headgate.model.run import RunRecord
from headgate.policy.eta import Ahead, Forecast
from headgate.policy.feasibility import Fit, Wish, judge
from headgate.store.protocols import RunOffer
from headgate.store.sqlite.flows import Whose
from headgate.store.sqlite.position import count_before
from headgate.store.sqlite.transaction import Transaction

LOOKED_AT = 200
"""Runs at the head of a lane among which those held back are counted; what follows is taken to be alike."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """A run that fits, and what its caller is told."""

    position: int
    forecast: Forecast
    degraded: bool

    @property
    def promise(self) -> str:
        """What is kept with the run to compare."""
        told = self.forecast
        return Promise(
            1000 * told.expected_start_s,
            1000 * told.expected_finish_s,
            1000 * told.start_p50_s,
            1000 * told.start_p90_s,
            1000 * told.finish_p50_s,
            1000 * told.finish_p90_s,
            told.waits,
        ).text()

    def admission(self, run: RunRecord, limits: tuple[LimitUse, ...], shadowed: tuple[str, ...]) -> Admission:
        """The answer."""
        told = self.forecast
        return Admission(
            run,
            True,
            self.position,
            round(1000 * told.start_p50_s),
            limits,
            shadowed,
            eta_p90_ms=round(1000 * told.start_p90_s),
            finish_ms=round(1000 * told.finish_p50_s),
            finish_p90_ms=round(1000 * told.finish_p90_s),
        )


def foresee(tx: Transaction, offer: RunOffer) -> Foreseen | Refusal | None:
    """Whether the run fits its deadline with what is ahead of it now; ``None``: nothing is known of such runs."""
    wish = offer.wish
    if wish is None:
        return None
    numbers = tx.numbers
    earlier = {name: numbers.queue("", "", name).waiting for name in offer.ahead_of if name != offer.lane}
    time = numbers.lane(offer.lane)
    whose = Whose(offer.lane, offer.tenant, offer.user or "", offer.workflow)
    start = numbers.flows.would_start(tx, whose, offer.weight, time.virtual_time)
    lane = numbers.queue("", "", offer.lane).waiting
    if start < time.last_start:
        lane = count_before(tx, offer.lane, start)
    under_way = sum(numbers.queue("", "", name).running for name in dict.fromkeys((*offer.ahead_of, offer.lane)))
    before = sum(_taken_up(tx, offer, name, waiting) for name, waiting in earlier.items())
    judged = judge(wish, Ahead(_taken_up(tx, offer, offer.lane, lane, start), before, numbers.running(), under_way))
    if judged.fit in (Fit.YES, Fit.DEGRADED):
        return Foreseen(lane + sum(earlier.values()), judged.forecast, judged.fit is Fit.DEGRADED)
    return too_late(offer.lane, wish, judged.forecast, judged.over_s, lane)


def _taken_up(tx: Transaction, offer: RunOffer, lane: str, ahead: int, start: float | None = None) -> int:
    """How many of those ahead in a lane, before that virtual start, are not held back. What is paused may wait for
    hours, in which nobody else would come in if it counted."""
    held = offer.held_back
    if held.lanes.get(lane, 1.0) == 0:
        return 0
    if not ahead or not (held.workflows or held.tenants):
        return ahead
    names = json.dumps(sorted(held.workflows)), json.dumps(sorted(held.tenants))
    looked_at, found = tx.row("held_back_at_head", lane, start, LOOKED_AT, *names) or (0, 0)
    return round(ahead * (looked_at - found) / looked_at) if looked_at else ahead


def too_late(lane: str, wish: Wish, told: Forecast, over_s: float, ahead: int) -> Refusal:
    """The refusal of a run that does not fit now."""
    left_s = wish.left_s
    if left_s is not None and told.start_p50_s <= left_s:
        used, limit, what = told.finish_p50_s, left_s, "finish"
    else:
        used, limit, what = told.start_p50_s, min(one for one in (left_s, wish.queue_s) if one is not None), "start"
    return Refusal(
        Reason.TOO_LATE,
        f"lane:{lane}",
        f"it would {what} in about {used:.1f} s and has {limit:.1f} s",
        limit=round(limit, 3),
        used=round(used, 3),
        retry_after_ms=max(1, round(1000 * over_s)),
        unit="seconds",
        ahead=ahead,
    )
