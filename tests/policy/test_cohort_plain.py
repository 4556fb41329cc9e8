"""The rule that an operator can explain, in the words in which it is explained."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.model.outcome import Outcome
from headgate.policy.concurrency.plain import PlainLimiter, PlainRules
from headgate.policy.concurrency.protocol import Change

RULES = PlainRules(slow_s=8.0, fast_s=4.0, calls=20)


def window(
    limiter: PlainLimiter, *, bad: int = 0, latency_s: float = 1.0, inflight: int | None = None
) -> Change | None:
    """Twenty calls, of which ``bad`` fail."""
    change = None
    for i in range(20):
        stamp = limiter.begin(inflight=inflight or limiter.limit, size=None, now=0.0)
        outcome = Outcome.FAILED if i < bad else Outcome.OK
        change = limiter.end(stamp, outcome, inflight=1, now=latency_s) or change
    return change


@pytest.mark.parametrize(
    ("bad", "latency_s", "limit", "reason"),
    [(3, 1.0, 4, "errors"), (0, 9.0, 6, "latency"), (0, 1.0, 9, "growth"), (3, 9.0, 4, "errors")],
)
def test_errors_halve_slowness_takes_two_calm_adds_one(bad: int, latency_s: float, limit: int, reason: str) -> None:
    change = window(PlainLimiter(1, 64, RULES), bad=bad, latency_s=latency_s)
    assert change is not None
    assert (change.old, change.new, change.reason) == (8, limit, reason)
    assert change.inputs == {"error_rate": bad / 20, "p95_s": latency_s}


@pytest.mark.parametrize(("bad", "latency_s"), [(2, 1.0), (1, 1.0), (0, 5.0)])
def test_in_between_nothing_moves(bad: int, latency_s: float) -> None:
    assert window(PlainLimiter(1, 64, RULES), bad=bad, latency_s=latency_s) is None


def test_it_does_not_grow_unless_the_limit_held_work_back() -> None:
    assert window(PlainLimiter(1, 64, RULES), inflight=3) is None


def test_it_stays_in_range_and_judges_only_calls_since_the_last_change() -> None:
    limiter = PlainLimiter(3, 8, RULES)
    old = [limiter.begin(inflight=8, size=None, now=0.0) for _ in range(40)]
    assert window(limiter) is None, "it is at most already"
    assert window(limiter, bad=20) is not None
    assert window(limiter, bad=20) is not None
    assert all(limiter.end(stamp, Outcome.FAILED, inflight=8, now=1.0) is None for stamp in old)
    assert limiter.limit == 3


@pytest.mark.parametrize("rules", [{"slow_s": 1.0, "fast_s": 2.0}, {"slow_s": 2.0, "fast_s": 0.0}])
def test_impossible_thresholds_are_refused(rules: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a possible rule"):
        PlainRules(**rules)
