"""The fixed limit, and what every rule of the port does."""

import pytest

from headgate.model.outcome import Outcome
from headgate.policy.concurrency.cohort import CohortLimiter
from headgate.policy.concurrency.fixed import FixedLimiter
from headgate.policy.concurrency.plain import PlainLimiter, PlainRules
from headgate.policy.concurrency.protocol import Change, Limiter

RULES = PlainRules(slow_s=8.0, fast_s=4.0)


def ok(limiter: Limiter, now: float) -> Change | None:
    stamp = limiter.begin(inflight=1, size=None, now=now)
    return limiter.end(stamp, Outcome.OK, inflight=1, now=now + 1)


def test_after_an_outage_a_fixed_limit_restarts_at_a_quarter_and_climbs() -> None:
    fixed = FixedLimiter(8)
    before = fixed.begin(inflight=1, size=None, now=0.0)
    assert fixed.restart(good=8, now=1.0) == Change(8, 2, "restart", {"full": 8.0})
    assert fixed.end(before, Outcome.OK, inflight=1, now=1.5) is None  # sent before the outage: proves nothing
    limits = []
    for _ in range(8):
        ok(fixed, 2.0)
        limits.append(fixed.limit)
    assert limits == [3, 4, 5, 6, 7, 8, 8, 8]


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_fixed_limit_is_not_moved_by_any_ending(outcome: Outcome) -> None:
    limiter = FixedLimiter(3)
    stamp = limiter.begin(inflight=3, size=None, now=0.0)
    assert limiter.end(stamp, outcome, inflight=3, now=1.0) is None
    assert limiter.tick(now=100.0) is None
    assert limiter.press(1.0, now=100.0) is None
    assert limiter.limit == 3


@pytest.mark.parametrize("limiter", [CohortLimiter(1, 64, start=40), PlainLimiter(1, 64, RULES)])
def test_every_rule_restarts_at_about_a_quarter(limiter: Limiter) -> None:
    before = limiter.limit
    change = limiter.restart(good=24, now=1.0)
    assert change is not None
    assert (change.old, change.reason) == (before, "restart")
    assert change.new == limiter.limit == 6


def test_memory_pressure_cuts_and_is_named() -> None:
    limiter = CohortLimiter(1, 64, start=40)
    assert limiter.press(0.5, now=1.0) is None
    change = limiter.press(0.99, now=2.0)
    assert change is not None
    assert change.reason == "memory"
    assert limiter.limit < 40


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="least"):
        CohortLimiter(5, 4)
    with pytest.raises(ValueError, match="least"):
        PlainLimiter(5, 4, RULES)
    with pytest.raises(ValueError, match="limit"):
        FixedLimiter(0)
