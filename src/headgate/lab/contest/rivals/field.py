"""Which policy is made of what.

All of them get what headgate's configuration declares: the worker slots, the range or knee of each dependency, its
timeout, depth and rate, and what may stand in for it. All give a run up at its deadline, in line as well as at work.

What the publications leave open is filled in alike, and kindly:

* A failed call has three tries with exponential backoff and full jitter, and waits for a ``Retry-After``.
  Answers that are unusable are repeated as well, but count as good with limiters and breakers, which look at the
  status.
* Policies with a limit have worker slots and a bounded line of runs in front of them (`INTAKE`); policies that are
  about calls only start every run at once.
* A call that was in vain goes to the stand-in, if one is declared; every one of them does better with it.
* Refusals name no moment to come back; polite users then back off by themselves (`users.BACKOFF_S`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from headgate.clock import Clock
from headgate.lab.baselines.aimd import AimdRule
from headgate.lab.baselines.envoy import EnvoyRule
from headgate.lab.baselines.gradient2 import Gradient2Rule
from headgate.lab.baselines.sample_rule import FixedRule
from headgate.lab.baselines.vegas import VegasRule
from headgate.lab.contest.rivals.facts import DependencyFacts, WorldFacts
from headgate.lab.contest.rivals.guarded import Rules
from headgate.lab.contest.rivals.line import ByRank, CodelLifo, Fifo, Line, Order
from headgate.lab.contest.rivals.rules import (
    ActiveShare,
    ClientThrottle,
    FreeRetries,
    Pacer,
    RequestShare,
    RetryAllowance,
    VolumeBreaker,
)
from headgate.policy.concurrency.plain import PlainLimiter, PlainRules
from headgate.policy.concurrency.protocol import CallLimiter

TRIES = 3
INTAKE = 2.0
"""Runs that may wait in line for a worker slot, as a multiple of the slots."""
WRONG = 3.0
"""How far off the wrong fixed limits are."""
BURST_S = 1.0
"""A declared rate may be spent this many seconds' worth at once."""
TARGET = 0.5
"""CoDel's target as a part of what the work behind the line takes; …"""
INTERVALS = 20.0
"""… its interval is this many targets, as published (5 ms and 100 ms)."""
SLOW, FAST = 1.5, 1.25
"""Thresholds of the p95 rule, as multiples of the p95 of the undisturbed dependency."""

Limiters = Callable[[DependencyFacts, Random], CallLimiter]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One policy."""

    name: str
    title: str
    limiter: Limiters | None = None
    """With one come worker slots and lines."""
    order: str = "fifo"
    """Of its lines: ``fifo``, ``codel-lifo`` or ``lane``."""
    retries: Callable[[], RetryAllowance] = FreeRetries
    throttle: bool = False
    breaker: bool = False

    def rules(self, facts: DependencyFacts, rng: Random) -> Rules:
        """Around one dependency."""
        rate = facts.rate
        pacer = None
        if rate is not None:
            per_s = rate.amount / rate.window_s
            pacer = Pacer(per_s, burst=max(1.0, BURST_S * per_s))
        return Rules(
            retries=self.retries(),
            tries=TRIES,
            backoff=True,
            timeout_s=facts.timeout_s,
            limiter=None if self.limiter is None else self.limiter(facts, rng),
            order=None if self.limiter is None else self._order(facts.mean_s),
            depth=facts.depth,
            throttle=ClientThrottle() if self.throttle else None,
            breaker=VolumeBreaker() if self.breaker else None,
            pacer=pacer,
        )

    def intake(self, facts: WorldFacts, clock: Clock) -> Line | None:
        """The line in front of the worker slots."""
        if self.limiter is None:
            return None
        return Line(lambda: facts.slots, round(INTAKE * facts.slots), self._order(facts.run_s), clock)

    @property
    def tells_late(self) -> bool:
        """CoDel answers who waits when it serves or drops him, and not before."""
        return self.order == "codel-lifo"

    def _order(self, work_s: float) -> Order:
        if self.order == "lane":
            return ByRank()
        if self.order == "codel-lifo":
            return CodelLifo(target_s=TARGET * work_s, interval_s=INTERVALS * TARGET * work_s)
        return Fifo()


def _fixed(times: float) -> Limiters:
    return lambda facts, rng: FixedRule(max(1, round(times * facts.knee)))


def _plain(facts: DependencyFacts, rng: Random) -> CallLimiter:
    rules = PlainRules(slow_s=SLOW * facts.p95_s, fast_s=FAST * facts.p95_s)
    return PlainLimiter(facts.concurrency.least, facts.concurrency.most, rules)


def _aimd(facts: DependencyFacts, rng: Random) -> CallLimiter:
    return AimdRule(facts.concurrency.least, facts.concurrency.most, facts.timeout_s)


def _vegas(facts: DependencyFacts, rng: Random) -> CallLimiter:
    return VegasRule(facts.concurrency.least, facts.concurrency.most, rng)


def _gradient2(facts: DependencyFacts, rng: Random) -> CallLimiter:
    return Gradient2Rule(facts.concurrency.least, facts.concurrency.most)


def _envoy(facts: DependencyFacts, rng: Random) -> CallLimiter:
    return EnvoyRule(facts.concurrency.least, facts.concurrency.most)


def recipes() -> tuple[Recipe, ...]:
    """All rivals, in order."""
    return (
        Recipe("fixed", "right fixed concurrency, bounded queue", _fixed(1.0)),
        Recipe("fixed-low", "fixed concurrency, a third of right", _fixed(1 / WRONG)),
        Recipe("fixed-high", "fixed concurrency, three times right", _fixed(WRONG)),
        Recipe("fixed-by-lane", "right fixed concurrency, queues by lane", _fixed(1.0), order="lane"),
        Recipe("p95-rule", "p95 and error thresholds", _plain),
        Recipe("aimd", "AIMD (Netflix)", _aimd),
        Recipe("vegas", "Vegas (Netflix)", _vegas),
        Recipe("gradient2", "Gradient2 (Netflix)", _gradient2),
        Recipe("envoy-gradient", "gradient (Envoy)", _envoy),
        Recipe("codel-lifo", "CoDel and adaptive LIFO (Facebook)", _fixed(1.0), order="codel-lifo"),
        Recipe(
            "client-throttling", "adaptive throttling, retries 10 % (Google SRE)", throttle=True, retries=RequestShare
        ),
        Recipe("breaker-only", "circuit breaker (Hystrix)", breaker=True),
        Recipe("retry-budget-only", "retry budget 20 % (Envoy)", retries=ActiveShare),
        Recipe("assembled-stack", "semaphore, token bucket, breaker, retries, timeout", _fixed(1.0), breaker=True),
    )
