"""The door of a resource: who stands in line, and for whom there is no use in joining.

Called under the resource's lock.
"""

from __future__ import annotations

from headgate.config.settings import ResourceSettings
from headgate.guard.call_rate import CallRate
from headgate.guard.evidence import Evidence
from headgate.guard.model_tokens import TokenHolds
from headgate.guard.refusals import Denial
from headgate.guard.slot import Slot
from headgate.model.reason import Reason
from headgate.policy.wait_queue import WaitQueue

LATENCY_UNKNOWN_S = 1.0
"""Assumed length of a call while none has ended."""


class Door:
    """The line, and the places kept for calls that wait for a moment which they have reserved."""

    __slots__ = ("_evidence", "_tokens", "queue", "rate", "reserved")

    def __init__(self, name: str, settings: ResourceSettings, evidence: Evidence, tokens: TokenHolds | None) -> None:
        self.queue: WaitQueue[Slot] = WaitQueue(settings.queue.depth)
        self.rate = CallRate(name, settings.rate) if settings.rate is not None else None
        self.reserved = 0
        self._evidence = evidence
        self._tokens = tokens

    @property
    def waiting(self) -> int:
        """Everybody who waits."""
        return len(self.queue) + self.reserved

    def denial(self, slot: Slot, now: float, *, inflight: int) -> Denial | None:
        """Why there is no use in waiting, if there is none."""
        if (shut := self.shut(now)) is not None:
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
            return Denial(Reason.CONCURRENCY, limit=self._evidence.limiter.limit, used=inflight)
        return None

    def shut(self, now: float) -> Denial | None:
        """The refusal of whoever comes while the breaker is open or the line at its bound."""
        breaker = self._evidence.breaker
        if breaker is not None and breaker.refuses(now):
            return Denial(Reason.BREAKER_OPEN, breaker.reopens_in(now))
        waiting = len(self.queue) + self.reserved
        if waiting >= self.queue.depth:
            return Denial(Reason.QUEUE_FULL, limit=self.queue.depth, used=waiting)
        return None

    def shadow_denial(self, slot: Slot, now: float, *, inflight: int) -> Denial | None:
        """What would have been refused if nothing is: the line is imagined, as the calls beyond the limit."""
        over = inflight - self._evidence.limiter.limit
        denial = self.denial(slot, now, inflight=inflight)
        if denial is not None and denial.reason is Reason.CONCURRENCY and over < 0:
            return None
        if denial is None and over >= self.queue.depth:
            return Denial(Reason.QUEUE_FULL, limit=self.queue.depth, used=over)
        return denial

    def known_wait_s(self, now: float) -> float:
        """The wait that is certain for one more call behind the line: the provider's pace, and the rate."""
        wait_s = max(0.0, self._evidence.paced_until - now)
        return wait_s if self.rate is None else max(wait_s, self.rate.wait_behind_s(now, len(self.queue)))

    def estimate_s(self, now: float) -> float:
        """When whoever is refused now should find room: the time in which the line and one more are served."""
        mean_s = self._evidence.latencies.mean(now) or LATENCY_UNKNOWN_S
        served_s = mean_s * (self.waiting + 1) / self._evidence.limiter.limit
        return max(served_s, self.known_wait_s(now))


def late(slot: Slot) -> Denial:
    """The refusal of a slot that waited as long as it may."""
    return Denial(slot.late_reason, terminal=slot.late_reason is Reason.DEADLINE_UNREACHABLE)
