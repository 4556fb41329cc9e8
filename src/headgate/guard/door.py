"""The door of a resource: who stands in line, what has room, and for whom there is no use in joining.

Called under the resource's lock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from headgate.config.settings import ResourceSettings, WaitQueueSettings
from headgate.guard.call_rate import CallRate
from headgate.guard.controls import Controls
from headgate.guard.evidence import Evidence
from headgate.guard.fleet import FleetSlots, Told
from headgate.guard.model_tokens import TokenHolds
from headgate.guard.refusals import Denial
from headgate.guard.sized_latencies import median_at_least, size_class
from headgate.guard.slot import Slot, SlotState
from headgate.model.reason import Reason
from headgate.observe.histogram import WindowedHistogram
from headgate.policy.breaker import BreakerState
from headgate.policy.urgency import reachable, urgency
from headgate.policy.wait_queue import WaitQueue

LATENCY_UNKNOWN_S = 1.0
"""Assumed length of a call while none has ended."""
PAUSE_UNKNOWN_S = 30.0
"""When to come back to a resource that is paused until somebody resumes it."""
USUAL_LEAST = 8
"""Calls that must have ended well lately before their median is taken as known."""
USUAL_FRESH_S = 0.5
"""How old that median may be."""
RELEASE = math.inf
"""The wait of a slot that only somebody's release can help."""


TOO_LATE = Denial(Reason.DEADLINE_UNREACHABLE, terminal=True)


class Line(WaitQueue[Slot]):
    """The waiting slots, which knows how many model tokens they are going to take."""

    __slots__ = ("tokens",)

    def __init__(self, settings: WaitQueueSettings, weights: Mapping[str, float]) -> None:
        super().__init__(settings.depth, most_bytes=settings.bytes, weights=weights)
        self.tokens = 0.0

    def push(self, waiter: Slot) -> bool:
        joined = super().push(waiter)
        if joined:
            self.tokens += waiter.tokens
        return joined

    def discard(self, waiter: Slot) -> bool:
        left = super().discard(waiter)
        if left:
            self.tokens = self.tokens - waiter.tokens if self else 0.0
        return left


class Door:
    """The line, and the places kept for calls that wait for a moment which they have reserved."""

    __slots__ = (
        "_down_since",
        "_evidence",
        "_fleet",
        "_max_age_down_s",
        "_surely",
        "_tokens",
        "_usual_at",
        "_usual_s",
        "controls",
        "queue",
        "reserved",
    )

    def __init__(
        self,
        name: str,
        settings: ResourceSettings,
        evidence: Evidence,
        *,
        tokens: TokenHolds | None,
        fleet: FleetSlots | None,
        weights: Mapping[str, float],
    ) -> None:
        self.queue = Line(settings.queue, weights)
        self.controls = Controls(name, CallRate(name, settings.rate) if settings.rate is not None else None)
        self.reserved = 0
        self._max_age_down_s = settings.queue.max_age_down
        self._usual_s: float | None = None
        self._usual_at = -math.inf
        self._surely: dict[int | None, tuple[float, float | None]] = {}
        """Per size class, when it was worked out and what came of it; ``None``: calls without a size."""
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

    def full_up(self, inflight: int) -> bool:
        """Whether only a release can help: a quick look before anything is worked out."""
        return inflight >= self._evidence.limiter.limit and not self.controls.active

    def take_room(self, slot: Slot, now: float, *, inflight: int, who: Told) -> float:
        """Take everything scarce for the slot if all of it has room: 0; else seconds to the next chance, or
        `RELEASE`; then nothing is taken. ``who`` hears when the fleet has room again."""
        evidence, controls = self._evidence, self.controls
        breaker = evidence.breaker
        if controls.active:
            if (pause := controls.paused(now)) is not None:
                return RELEASE if pause.until is None else pause.until - now
            if inflight >= controls.limit(evidence.limiter.limit, now):
                return controls.next_change_s(now)
        elif inflight >= evidence.limiter.limit:
            return RELEASE
        if breaker is not None and breaker.state is not BreakerState.CLOSED and not breaker.may_start(now):
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

    def join(self, slot: Slot, now: float) -> list[Slot]:
        """Put the slot in line (`shut` let it in); whoever had to leave for it comes out."""
        left = self.queue.makes_room_in_bytes_for(slot) or []
        for one in left:
            self.queue.discard(one)
        left += self._make_room(slot)
        whose = slot.whose
        slot.urgency = urgency(
            slot.asked_at, deadline=whose.deadline, remaining_s=whose.remaining_s, progress=whose.progress
        )
        self.queue.push(slot)
        slot.state = SlotState.WAITING
        if self.down(now) is not None:
            slot.nudge_at = self.down_until(slot, now)
        return left

    def reserve(self, slot: Slot) -> list[Slot]:
        """Keep a place for a slot that waits for a moment it has reserved; as `join`, otherwise."""
        left = self._make_room(slot)
        self.reserved += 1
        return left

    def _make_room(self, slot: Slot) -> list[Slot]:
        left = self.queue.makes_room_for(slot) if self.waiting >= self.queue.depth else None
        if left is None:
            return []
        self.queue.discard(left)
        return [left]

    def charge(self, slot: Slot, now: float) -> None:
        """The slot's call starts: its tenant pays for the usual time."""
        usual_s = self.usual_s(now)
        slot.charged = LATENCY_UNKNOWN_S if usual_s is None else usual_s
        self.queue.charge(slot, slot.charged)

    def correct(self, slot: Slot, now: float) -> None:
        """The slot's call has ended: its tenant pays for the time that it took."""
        self.queue.correct(slot, now - slot.started_at - slot.charged)

    # refusing

    def unreachable(self, slot: Slot, now: float) -> bool:
        """Whether a call that starts now could hardly end by its deadline."""
        whose = slot.whose
        return whose.deadline is not None and not reachable(
            now, deadline=whose.deadline, remaining_s=whose.remaining_s, usual_s=self.surely_s(slot, now)
        )

    def denial(self, slot: Slot, now: float, *, inflight: int) -> Denial | None:
        """Why there is no use in waiting, if there is none."""
        if (shut := self.shut(slot, now)) is not None:
            return shut
        if self._tokens is not None and (small := self._tokens.never_fits(slot)) is not None:
            return Denial(Reason.NEVER_FITS, None, small.name, small.size, slot.tokens, terminal=True)
        patience_s = max(0.0, slot.wait_until - now)
        known = self.known_wait(now, slot)
        if known is not None and (known.wait_s or 0.0) <= patience_s:
            known = None
        if known is not None or patience_s == 0:
            if slot.late_reason is Reason.DEADLINE_UNREACHABLE:
                return late(slot)
            if known is not None:
                return known
            return Denial(Reason.CONCURRENCY, limit=self.limit(now), used=inflight)
        return None

    def shut(self, slot: Slot, now: float) -> Denial | None:
        """The refusal of a slot that comes while nothing is there or the line is at its bound."""
        if (down := self.down(now)) is not None and now >= self.down_until(slot, now):
            return down
        queue = self.queue
        if slot.bytes and queue.makes_room_in_bytes_for(slot) is None:
            return Denial(Reason.QUEUE_FULL, limit=queue.most_bytes, used=queue.bytes)
        if self.waiting >= queue.depth and queue.makes_room_for(slot) is None:
            return self.full()
        return None

    def full(self) -> Denial:
        """The refusal of a slot for which a line at its depth has no place."""
        return Denial(Reason.QUEUE_FULL, limit=self.queue.depth, used=self.waiting)

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
        if not self.controls.active and (breaker is None or breaker.state is BreakerState.CLOSED):
            self._down_since = None
            return None
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

    def usual_s(self, now: float) -> float | None:
        """The median length of calls that ended well lately; ``None`` while too few are known."""
        if now - self._usual_at >= USUAL_FRESH_S:
            latencies = self._evidence.latencies
            self._usual_at = now
            self._usual_s = latencies.quantile(0.5, now) if latencies.count(now) >= USUAL_LEAST else None
        return self._usual_s

    def surely_s(self, slot: Slot, now: float) -> float | None:
        """What the median length of calls of the slot's size is almost certainly not below; ``None`` while too little
        is known of that."""
        size, evidence = slot.given_tokens, self._evidence
        place = size_class(size) if size else None
        known = self._surely.get(place)
        if known is not None and now - known[0] < USUAL_FRESH_S:
            return known[1]
        latencies: WindowedHistogram | None = evidence.latencies
        if size:
            latencies = evidence.sized.like(size, now, least=USUAL_LEAST, or_smaller=True)
        elif evidence.latencies.count(now) < USUAL_LEAST:
            latencies = None
        surely_s = None if latencies is None else median_at_least(latencies, now)
        self._surely[place] = now, surely_s
        return surely_s

    def known_wait(self, now: float, slot: Slot) -> Denial | None:
        """The wait that is certain for one more call behind the line, as the refusal of who cannot wait so long: the
        dependency's cooldown, the rate, or the model tokens; ``None`` without any."""
        known: Denial | None = None
        longest_s = 0.0
        if (cooling_s := self._evidence.paced_until - now) > longest_s:
            longest_s, known = cooling_s, Denial(Reason.COOLDOWN, cooling_s)
        rate = self.controls.rate(now)
        if rate is not None and (wait_s := rate.wait_behind_s(now, len(self.queue))) > longest_s:
            longest_s, known = wait_s, Denial(Reason.RATE_LIMITED, wait_s)
        if self._tokens is not None:
            wait_s, bucket = self._tokens.wait(slot, now, ahead=self.queue.tokens)
            if bucket is not None and wait_s > longest_s:
                known = Denial(Reason.RATE_LIMITED, wait_s, bucket.name)
        return known

    def estimate_s(self, now: float, slot: Slot) -> float:
        """When whoever is refused now should find room: the time in which the line and one more are served."""
        mean_s = self._evidence.latencies.mean(now) or LATENCY_UNKNOWN_S
        served_s = mean_s * (self.waiting + 1) / self.limit(now)
        known = self.known_wait(now, slot)
        return served_s if known is None else max(served_s, known.wait_s or 0.0)


def late(slot: Slot) -> Denial:
    """The refusal of a slot that waited as long as it may."""
    return Denial(slot.late_reason, terminal=slot.late_reason is Reason.DEADLINE_UNREACHABLE)
