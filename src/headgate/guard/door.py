"""The door of a resource: who stands in line, what has room, and for whom there is no use in joining.

Called under the resource's lock.
"""

from __future__ import annotations

import math

from headgate.config.settings import ResourceSettings
from headgate.guard.call_rate import CallRate
from headgate.guard.controls import Controls
from headgate.guard.evidence import Evidence
from headgate.guard.fleet import FleetSlots, Told
from headgate.guard.model_tokens import TokenHolds
from headgate.guard.refusals import Denial
from headgate.guard.slot import Slot
from headgate.model.reason import Reason
from headgate.policy.wait_queue import WaitQueue

LATENCY_UNKNOWN_S = 1.0
"""Assumed length of a call while none has ended."""
PAUSE_UNKNOWN_S = 30.0
"""When to come back to a resource that is paused until somebody resumes it."""
RELEASE = math.inf
"""The wait of a slot that only somebody's release can help."""


class Door:
    """The line, and the places kept for calls that wait for a moment which they have reserved."""

    __slots__ = ("_down_since", "_evidence", "_fleet", "_max_age_down_s", "_tokens", "controls", "queue", "reserved")

    def __init__(
        self,
        name: str,
        settings: ResourceSettings,
        evidence: Evidence,
        *,
        tokens: TokenHolds | None,
        fleet: FleetSlots | None,
    ) -> None:
        self.queue: WaitQueue[Slot] = WaitQueue(settings.queue.depth)
        self.controls = Controls(name, CallRate(name, settings.rate) if settings.rate is not None else None)
        self.reserved = 0
        self._max_age_down_s = settings.queue.max_age_down
        self._down_since: float | None = None
        self._evidence = evidence
        self._tokens = tokens
        self._fleet = fleet

    @property
    def waiting(self) -> int:
        """Everybody who waits."""
        return len(self.queue) + self.reserved

    def limit(self, now: float) -> int:
        """Calls that may be in flight."""
        return self.controls.limit(self._evidence.limiter.limit, now)

    def take_room(self, slot: Slot, now: float, *, inflight: int, who: Told) -> float:
        """Take everything scarce for the slot if all of it has room: 0; else seconds to the next chance, or
        `RELEASE`; then nothing is taken. ``who`` hears when the fleet has room again."""
        evidence, controls = self._evidence, self.controls
        breaker = evidence.breaker
        if (pause := controls.paused(now)) is not None:
            return RELEASE if pause.until is None else pause.until - now
        if inflight >= controls.limit(evidence.limiter.limit, now):
            return controls.next_change_s(now)
        if breaker is not None and not breaker.may_start(now):
            return breaker.reopens_in(now) or RELEASE
        if now < evidence.paced_until:
            return evidence.paced_until - now
        rate = controls.rate(now)
        if rate is not None and (wait_s := rate.wait_s(now)) > 0:
            return min(wait_s, controls.next_change_s(now))
        if self._tokens is not None and (wait_s := self._tokens.take(slot, now)) > 0:
            return wait_s
        if self._fleet is not None and not self._fleet.take(who):
            if self._tokens is not None:
                self._tokens.give_back_shared(slot)
            return RELEASE
        if rate is not None:
            rate.take()
        return 0.0

    def take_anyway(self, slot: Slot, now: float) -> None:
        """Count a call that starts whether or not there is room (shadow mode)."""
        if (rate := self.controls.rate(now)) is not None:
            rate.wait_s(now)
            rate.take()
        if self._tokens is not None:
            self._tokens.take(slot, now, anyway=True)
        if self._fleet is not None:
            self._fleet.take_anyway()

    # refusing

    def denial(self, slot: Slot, now: float, *, inflight: int) -> Denial | None:
        """Why there is no use in waiting, if there is none."""
        if (shut := self.shut(slot, now)) is not None:
            return shut
        if self._tokens is not None and (small := self._tokens.never_fits(slot)) is not None:
            return Denial(Reason.NEVER_FITS, None, small.name, small.size, slot.tokens, terminal=True)
        patience_s = max(0.0, slot.wait_until - now)
        known_s = self.known_wait_s(now)
        if known_s > patience_s or patience_s == 0:
            if slot.late_reason is Reason.DEADLINE_UNREACHABLE:
                return late(slot)
            if known_s > patience_s:
                return Denial(Reason.RATE_LIMITED, known_s)
            return Denial(Reason.CONCURRENCY, limit=self.limit(now), used=inflight)
        return None

    def shut(self, slot: Slot, now: float) -> Denial | None:
        """The refusal of a slot that comes while nothing is there or the line is at its bound."""
        if (down := self.down(now)) is not None and now >= self.down_until(slot, now):
            return down
        waiting = len(self.queue) + self.reserved
        if waiting >= self.queue.depth:
            return Denial(Reason.QUEUE_FULL, limit=self.queue.depth, used=waiting)
        return None

    def shadow_denial(self, slot: Slot, now: float, *, inflight: int) -> Denial | None:
        """What would have been refused if nothing is: the line is imagined, as the calls beyond the limit."""
        over = inflight - self.limit(now)
        denial = self.denial(slot, now, inflight=inflight)
        if denial is not None and denial.reason is Reason.CONCURRENCY and over < 0:
            return None
        if denial is None and over >= self.queue.depth:
            return Denial(Reason.QUEUE_FULL, limit=self.queue.depth, used=over)
        return denial

    def down(self, now: float) -> Denial | None:
        """The refusal to be given while nothing is there: paused, or the breaker open."""
        denial: Denial | None = None
        breaker = self._evidence.breaker
        if (pause := self.controls.paused(now)) is not None:
            denial = Denial(Reason.PAUSED, PAUSE_UNKNOWN_S if pause.until is None else pause.until - now)
        elif breaker is not None and breaker.refuses(now):
            denial = Denial(Reason.BREAKER_OPEN, breaker.reopens_in(now))
        if denial is None:
            self._down_since = None
        elif self._down_since is None:
            self._down_since = now
        return denial

    def down_until(self, slot: Slot, now: float) -> float:
        """How long the slot may wait for a resource that is down: ``queue.max_age_down`` from when it came or the
        resource went down, whichever is later, and never longer than it may wait at all."""
        if self._max_age_down_s is None:
            return now
        since = max(slot.asked_at, now if self._down_since is None else self._down_since)
        return min(slot.wait_until, since + self._max_age_down_s)

    # estimating

    def known_wait_s(self, now: float) -> float:
        """The wait that is certain for one more call behind the line: the provider's pace, and the rate."""
        wait_s = max(0.0, self._evidence.paced_until - now)
        rate = self.controls.rate(now)
        return wait_s if rate is None else max(wait_s, rate.wait_behind_s(now, len(self.queue)))

    def estimate_s(self, now: float) -> float:
        """When whoever is refused now should find room: the time in which the line and one more are served."""
        mean_s = self._evidence.latencies.mean(now) or LATENCY_UNKNOWN_S
        served_s = mean_s * (self.waiting + 1) / self.limit(now)
        return max(served_s, self.known_wait_s(now))


def late(slot: Slot) -> Denial:
    """The refusal of a slot that waited as long as it may."""
    return Denial(slot.late_reason, terminal=slot.late_reason is Reason.DEADLINE_UNREACHABLE)
