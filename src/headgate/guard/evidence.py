"""What a resource has learned from how its calls ended: latencies, errors, the limit, the breaker, the pace.

Called only under the turnstile's lock. Each ending is one piece of evidence, given once.
"""

from __future__ import annotations

import logging
import math
import random
from dataclasses import dataclass
from typing import Any

from headgate.config.settings import ResourceSettings
from headgate.guard.sized_latencies import SizedLatencies
from headgate.guard.slot import Slot
from headgate.model.outcome import CallResult, Outcome
from headgate.observe.histogram import WindowedHistogram, placed
from headgate.policy.breaker import Breaker, BreakerChange, BreakerRules, BreakerState
from headgate.policy.concurrency.cohort import CohortLimiter
from headgate.policy.concurrency.fixed import FixedLimiter
from headgate.policy.concurrency.plain import PlainLimiter, PlainRules
from headgate.policy.concurrency.protocol import Change, Limiter
from headgate.policy.outcome_window import OutcomeWindow
from headgate.policy.retry_budget import RetryBudget

WINDOW_S = 60.0
"""How far statistics reach back."""
P95_FRESH_S = 0.5
"""How old the p95 of a decision's line may be; a quantile costs more than the rest of a call."""
COOLDOWN_AT_MOST_S = 600.0
"""The longest cooldown on a provider's word (``Retry-After``)."""
WINDOW_COOLDOWN_AT_MOST_S = 60.0
"""The longest cooldown for a used-up window: its reset names the moment it is full again, room comes sooner."""

GOOD_SHARE = 0.1
"""Calls go well while at most this part of the last minute's ended badly."""
GOOD_FOR_S = 600.0
"""After an outage that was longer in coming, the limit counts at which the breaker opened."""
LOOK_S = 1.0
"""How often a limiter is told of the time while calls come or are watched."""

SIZES_FOR_MEAN = 64
"""Calls of known size whose mean stands for sizes that are not known."""
RULE_UNSEEN_S = 10.0
"""After so long in use without an open gate, a resource says that nobody looks at its ``pause_when``."""

EventNote = tuple[str, dict[str, Any]]
"""An event to be told once the lock is released."""

log = logging.getLogger("headgate.guard")


@dataclass(frozen=True, slots=True)
class Cooldown:
    """The dependency itself asked for no calls until a moment. Moments are seconds on the clock's monotonic scale."""

    why: str
    """What it said, such as ``Retry-After 30 s``."""
    since: float
    until: float


class Evidence:
    """The learning part of one resource."""

    __slots__ = (
        "_cooldown",
        "_good_at",
        "_good_limit",
        "_log_sizes",
        "_name",
        "_p95_at",
        "_p95_s",
        "_rng",
        "_rule_unseen",
        "_sizes",
        "breaker",
        "busy_s",
        "done",
        "latencies",
        "limiter",
        "look_at",
        "notes",
        "outcomes",
        "paced_until",
        "retry_budget",
        "sized",
    )

    def __init__(self, name: str, settings: ResourceSettings, rng: random.Random, now: float) -> None:
        self._name = name
        self.limiter = _limiter(settings)
        self.look_at = now + LOOK_S
        """When the limiter is to be told of the time again."""
        self._sizes, self._log_sizes = 0, 0.0
        """Calls of known size, at most `SIZES_FOR_MEAN`, and the sum of the logs of their sizes."""
        self._rule_unseen: float | None = None if settings.pause_when is None else math.inf
        """Since when calls come and nobody looks at the pause rule; ``None``: no rule, or somebody does."""
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
        self.sized = SizedLatencies(WINDOW_S)
        self.outcomes = OutcomeWindow(WINDOW_S)
        self.done = 0
        """Calls that ended well, since the beginning."""
        self.busy_s = 0.0
        """Seconds that these took."""
        self.retry_budget = RetryBudget(share=settings.retry.budget, now=now)
        self.paced_until = 0.0
        """Nothing starts before this: the dependency asked for a cooldown."""
        self._cooldown: Cooldown | None = None
        self.notes: list[EventNote] = []
        """Changes that nobody was told of yet."""
        self._good_limit = self.limiter.limit
        """The limit at which calls went well last."""
        self._good_at = now
        self._rng = rng
        self._p95_s: float | None = None
        self._p95_at = float("-inf")

    def begin(self, slot: Slot, *, inflight: int, now: float) -> None:
        """A call starts; ``inflight`` includes it."""
        slot.limit = self.limiter.limit
        slot.stamp = self.limiter.begin(inflight=inflight, size=self._size(slot.given_tokens), now=now)

    def _size(self, given: float | None) -> float | None:
        """The size that the limiter is to know a call by. One without a size gets the mean of the known ones, which
        is no evidence about size; taken for small, it would make the large ones look slow."""
        if not given:
            return math.exp(self._log_sizes / self._sizes) if self._sizes else None
        if self._sizes < SIZES_FOR_MEAN:
            self._sizes += 1
            self._log_sizes += math.log(given)
        return given

    def look(self, now: float) -> None:
        """Tell the limiter of the time: a dependency that has stopped answering gives no other sign."""
        self.look_at = now + LOOK_S
        change = self.limiter.tick(now=now)
        if change is not None:
            self._note_limit(change)
        if self._rule_unseen is not None:
            self._mind_rule(self._rule_unseen, now)

    def _mind_rule(self, since: float, now: float) -> None:
        self._rule_unseen = min(since, now)
        if now - self._rule_unseen >= RULE_UNSEEN_S:
            self._rule_unseen = None
            words = "resource:%s has a pause_when, but no gate is open here to look at it; await gate.open()"
            log.warning(words, self._name)

    def press(self, pressure: float, now: float) -> None:
        """Tell the limiter of memory pressure, 0..1. Whoever does that also looks at pause rules."""
        self._rule_unseen = None
        change = self.limiter.press(pressure, now=now)
        if change is not None:
            self._note_limit(change)

    def learn(self, slot: Slot, result: CallResult, *, inflight: int, now: float) -> None:
        """Take one ending in. ``inflight`` includes the call."""
        outcome = result.outcome
        if outcome is Outcome.CALLER_ERROR and result.status is None:
            outcome = Outcome.IGNORED  # our own bug: nobody answered, and whether the dependency lives is not known
        if outcome is Outcome.OK:
            if slot.paid is None:
                self.retry_budget.deposit()
            else:
                self.retry_budget.refund(slot.paid)
            ran_s = now - slot.started_at
            self.done += 1
            self.busy_s += ran_s
            bucket, seconds = placed(ran_s)
            self.latencies.add_at(bucket, seconds, now)
            if slot.given_tokens:
                self.sized.add(slot.given_tokens, bucket, seconds, now)
            outcomes = self.outcomes
            outcomes.add(True, now)
            # unless too many others did not end well, that under which it began is a limit to come back to after an
            # outage; the present one may have been cut by the first refusals of the outage already
            if (self.breaker is None or self.breaker.state is BreakerState.CLOSED) and (
                not outcomes.bad or outcomes.bad <= GOOD_SHARE * (outcomes.good + outcomes.bad)
            ):
                self._good_limit, self._good_at = slot.limit, now
        elif outcome is not Outcome.IGNORED:
            bad = outcome in (Outcome.FAILED, Outcome.TIMEOUT, Outcome.OVERLOADED)
            self.outcomes.add(not bad, now)
        if slot.stamp is not None:
            told = Outcome.IGNORED if outcome is Outcome.OVERLOADED and _about_a_rate(result) else outcome
            change = self.limiter.end(slot.stamp, told, inflight=inflight, now=now)
            slot.stamp = None
            if change is not None:
                self._note_limit(change)
        if self.breaker is not None:
            self._tell_breaker(self.breaker, outcome, result, slot.epoch, slot.probe, now)
        if result.windows or result.retry_after_s is not None:
            self._cool_down(result, now)

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

    def usual_s(self, now: float, size: float | None, *, least: int, or_smaller: bool) -> float | None:
        """The p95 of recent successes of that size (in seconds; see `SizedLatencies.like`), or of all where none is
        given; ``None`` while fewer than ``least`` are known."""
        if size is not None:
            like = self.sized.like(size, now, least=least, or_smaller=or_smaller)
            return None if like is None else like.quantile(0.95, now)
        return self.p95_s(now) if self.latencies.count(now) >= least else None

    def _tell_breaker(
        self, breaker: Breaker, outcome: Outcome, result: CallResult, epoch: int, probe: bool, now: float
    ) -> None:
        change: BreakerChange | None
        if outcome is Outcome.OK or result.no_use:
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
        if change.old is BreakerState.CLOSED and now - self._good_at > GOOD_FOR_S:
            self._good_limit = self.limiter.limit
        self._note_breaker(change, self.outcomes.bad_share(now))
        if change.new is BreakerState.CLOSED:
            restart = self.limiter.restart(good=self._good_limit, now=now)
            if restart is not None:
                self._note_limit(restart)

    def cooldown(self, now: float) -> Cooldown | None:
        """The cooldown that is under way."""
        return self._cooldown if now < self.paced_until else None

    def end_cooldown(self) -> None:
        """Calls may start, whatever the dependency has asked for."""
        self.paced_until, self._cooldown = 0.0, None

    def _cool_down(self, result: CallResult, now: float) -> None:
        """Honour what the dependency says for the whole resource, not only for the call that was told."""
        most_s, why = 0.0, ""
        if result.retry_after_s is not None and result.outcome is Outcome.OVERLOADED:
            most_s, why = min(result.retry_after_s, COOLDOWN_AT_MOST_S), f"Retry-After {result.retry_after_s:.3g} s"
        for window in result.windows:
            if window.remaining == 0 and window.reset_s is not None:
                wait_s = min(window.reset_s, WINDOW_COOLDOWN_AT_MOST_S)
                if wait_s > most_s:
                    most_s, why = wait_s, f"its window of {window.unit} is used up"
        if now + most_s > max(now, self.paced_until):
            known = self.cooldown(now)
            self.paced_until = now + most_s
            self._cooldown = Cooldown(why, now if known is None else known.since, self.paced_until)

    def _note_limit(self, change: Change) -> None:
        inputs = ",".join(f"{name}:{value:.4g}" for name, value in change.inputs.items())
        fields = {"old": change.old, "new": change.new, "reason": change.reason, "inputs": inputs}
        self.notes.append(("limit_changed", fields))

    def _note_breaker(self, change: BreakerChange, error_rate: float) -> None:
        fields: dict[str, Any] = {"old": str(change.old), "new": str(change.new), "reason": change.reason}
        fields["error_rate"] = error_rate
        if change.open_for_s:
            fields["retry_after_ms"] = round(change.open_for_s * 1000)
        self.notes.append(("breaker_changed", fields))


def _limiter(settings: ResourceSettings) -> Limiter:
    least, most = settings.concurrency
    if settings.concurrency.fixed:
        return FixedLimiter(most)
    rule = settings.plain
    if rule is None:
        return CohortLimiter(least, most)
    return PlainLimiter(least, most, PlainRules(rule.slow, rule.fast, rule.errors_high, rule.errors_low))


def _about_a_rate(result: CallResult) -> bool:
    """Whether an overload answer was about calls or tokens per window: pacing answers that, not fewer at once."""
    return not result.refused_concurrency and any(window.remaining == 0 for window in result.windows)
