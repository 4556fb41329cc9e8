"""What a resource has learned from how its calls ended: latencies, errors, the limit, the breaker, the pace.

Called only under the turnstile's lock. Each ending is one piece of evidence, given once.
"""

from __future__ import annotations

import random
from typing import Any

from headgate.config.settings import ResourceSettings
from headgate.guard.slot import Slot
from headgate.model.outcome import CallResult, Outcome
from headgate.observe.histogram import WindowedHistogram
from headgate.policy.breaker import Breaker, BreakerChange, BreakerRules, BreakerState
from headgate.policy.concurrency.adaptive import AdaptiveLimiter
from headgate.policy.concurrency.fixed import FixedLimiter
from headgate.policy.concurrency.protocol import Change, Limiter
from headgate.policy.outcome_window import OutcomeWindow
from headgate.policy.retry_budget import RetryBudget

WINDOW_S = 60.0
"""How far statistics reach back."""
P95_FRESH_S = 0.5
"""How old the p95 of a decision's line may be; a quantile costs more than the rest of a call."""
PACE_AT_MOST_S = 600.0
"""The longest pause on a provider's word (``Retry-After``)."""
WINDOW_PACE_AT_MOST_S = 60.0
"""The longest pause on a used-up window: its reset names the moment it is full again, room comes sooner."""

EventNote = tuple[str, dict[str, Any]]
"""An event to be told once the lock is released."""


class Evidence:
    """The learning part of one resource."""

    __slots__ = (
        "_p95_at",
        "_p95_s",
        "_rng",
        "breaker",
        "latencies",
        "limiter",
        "notes",
        "outcomes",
        "paced_until",
        "retry_budget",
    )

    def __init__(self, settings: ResourceSettings, rng: random.Random, now: float) -> None:
        least, most = settings.concurrency
        self.limiter: Limiter = (
            FixedLimiter(most)
            if settings.concurrency.fixed
            else AdaptiveLimiter(least, most, latency_high_s=settings.latency_high)
        )
        self.breaker: Breaker | None = None
        if (rules := settings.breaker) is not None:
            soft = rules.kind == "soft"
            self.breaker = Breaker(
                BreakerRules(
                    rules.failure_rate,
                    rules.minimum_calls,
                    rules.consecutive,
                    rules.window,
                    rules.probe_every if soft else rules.open_for,
                    rules.probe_at_most if soft else rules.open_at_most,
                    probes=2 if soft else 1,
                )
            )
        self.latencies = WindowedHistogram(WINDOW_S, 6)
        self.outcomes = OutcomeWindow(WINDOW_S)
        self.retry_budget = RetryBudget(share=settings.retry.budget, now=now)
        self.paced_until = 0.0
        """Nothing starts before this: the provider asked for a pause."""
        self.notes: list[EventNote] = []
        """Changes that nobody was told of yet."""
        self._rng = rng
        self._p95_s: float | None = None
        self._p95_at = float("-inf")

    def learn(self, slot: Slot, result: CallResult, *, inflight: int, bound: bool, now: float) -> None:
        """Take one ending in. ``inflight`` includes the call; ``bound``: the limit held work back meanwhile."""
        generation = slot.generation
        outcome = result.outcome
        change: Change | None = None
        if outcome is Outcome.OK:
            if slot.paid is None:
                self.retry_budget.deposit()
            else:
                self.retry_budget.refund(slot.paid)
            ran_s = now - slot.started_at
            self.latencies.add(ran_s, now)
            self.outcomes.add(True, now)
            change = self.limiter.on_success(generation=generation, ran_s=ran_s, bound=bound, now=now)
        elif outcome is not Outcome.IGNORED:
            bad = outcome in (Outcome.FAILED, Outcome.TIMEOUT, Outcome.OVERLOADED)
            self.outcomes.add(not bad, now)
            if outcome is Outcome.OVERLOADED:
                change = self.limiter.on_overload(generation=generation, inflight=inflight, now=now)
            elif outcome is Outcome.TIMEOUT:
                change = self.limiter.on_timeout(generation=generation, inflight=inflight, now=now)
            else:
                change = self.limiter.on_failure(generation=generation, now=now)
        if change is not None:
            self._note_limit(change)
        if self.breaker is not None:
            self._tell_breaker(self.breaker, result, slot.epoch, slot.probe, now)
        if result.windows or result.retry_after_s is not None:
            self._pace(result, now)

    def begin_probe(self, now: float) -> bool:
        """Make the call that starts now the breaker's probe; ``False`` when it may not be one."""
        if self.breaker is None or not self.breaker.may_start(now):
            return False
        change = self.breaker.begin_probe()
        if change is not None:
            self._note_breaker(change, self.outcomes.bad_share(now))
        return True

    def p95_s(self, now: float) -> float | None:
        """The 95th percentile of recent successes in seconds, at most `P95_FRESH_S` old; ``None`` while unknown."""
        if now - self._p95_at >= P95_FRESH_S:
            self._p95_at = now
            self._p95_s = self.latencies.quantile(0.95, now)
        return self._p95_s

    def _tell_breaker(self, breaker: Breaker, result: CallResult, epoch: int, probe: bool, now: float) -> None:
        outcome = result.outcome
        change: BreakerChange | None
        if outcome is Outcome.OK:
            change = breaker.on_alive(now, epoch=epoch, probe=probe)
        elif outcome is Outcome.IGNORED:
            breaker.on_nothing(probe=probe)
            return
        elif outcome in (Outcome.FAILED, Outcome.TIMEOUT):
            change = breaker.on_failure(
                now, epoch=epoch, jitter=self._rng.random(), probe=probe, hint_s=result.retry_after_s
            )
        elif outcome is Outcome.OVERLOADED and result.status != 429:
            change = breaker.on_full(
                now, epoch=epoch, jitter=self._rng.random(), probe=probe, hint_s=result.retry_after_s
            )
        elif outcome is Outcome.OVERLOADED and not probe:
            return  # a 429: full is not broken, and not a success either
        else:
            change = breaker.on_alive(now, epoch=epoch, probe=probe)
        if change is None:
            return
        self._note_breaker(change, self.outcomes.bad_share(now))
        if change.new is BreakerState.CLOSED:
            restart = self.limiter.on_restart(now=now)
            if restart is not None:
                self._note_limit(restart)

    def _pace(self, result: CallResult, now: float) -> None:
        """Honour what the provider says by pausing the whole resource, not only the call that was told."""
        pause = 0.0
        if result.retry_after_s is not None and result.outcome is Outcome.OVERLOADED:
            pause = min(result.retry_after_s, PACE_AT_MOST_S)
        for window in result.windows:
            if window.remaining == 0 and window.reset_s is not None:
                pause = max(pause, min(window.reset_s, WINDOW_PACE_AT_MOST_S))
        if pause > 0:
            self.paced_until = max(self.paced_until, now + pause)

    def _note_limit(self, change: Change) -> None:
        self.notes.append(("limit_changed", {"old": change.old, "new": change.new, "reason": change.reason}))

    def _note_breaker(self, change: BreakerChange, error_rate: float) -> None:
        fields: dict[str, Any] = {"old": str(change.old), "new": str(change.new), "reason": change.reason}
        fields["error_rate"] = error_rate
        if change.open_for_s:
            fields["retry_after_ms"] = round(change.open_for_s * 1000)
        self.notes.append(("breaker_changed", fields))
