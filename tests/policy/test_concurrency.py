"""How limits move."""

import pytest

from headgate.policy.concurrency.adaptive import AdaptiveLimiter
from headgate.policy.concurrency.fixed import FixedLimiter
from headgate.policy.concurrency.protocol import Change


def calls(
    limiter: AdaptiveLimiter, count: int, *, now: float, bound: bool = True, ran_s: float = 1.0
) -> list[Change]:
    changes = []
    for _ in range(count):
        change = limiter.on_success(generation=limiter.generation, ran_s=ran_s, bound=bound, now=now)
        if change is not None:
            changes.append(change)
    return changes


def test_it_starts_small_within_its_bounds() -> None:
    assert [AdaptiveLimiter(*bounds).limit for bounds in ((1, 64), (1, 2), (8, 64))] == [4, 2, 8]


def test_it_climbs_by_half_until_the_first_cut_and_by_one_afterwards() -> None:
    limiter = AdaptiveLimiter(1, 64)
    assert [(change.old, change.new) for change in calls(limiter, 4 + 6 + 9, now=1.0)] == [(4, 6), (6, 9), (9, 13)]
    cut = limiter.on_overload(generation=limiter.generation, inflight=13, now=2.0)
    assert cut is not None
    assert (cut.old, cut.new, cut.reason) == (13, 9, "overload")
    assert cut.inputs == {"inflight": 13.0}
    assert [change.new for change in calls(limiter, 9 + 10 + 11, now=10.0)] == [10, 11, 12]


def test_it_does_not_climb_while_it_holds_nobody_back() -> None:
    limiter = AdaptiveLimiter(1, 64)
    assert calls(limiter, 100, now=1.0, bound=False) == []
    assert limiter.limit == 4


def test_it_does_not_climb_through_failures() -> None:
    limiter = AdaptiveLimiter(1, 64)
    for _ in range(20):
        calls(limiter, 3, now=1.0)
        assert limiter.on_failure(generation=0, now=1.0) is None
    assert limiter.limit == 4


def test_one_overload_is_one_cut_however_many_calls_it_hits() -> None:
    limiter = AdaptiveLimiter(1, 64)
    calls(limiter, 200, now=1.0)
    before = limiter.limit
    sent_before = limiter.generation
    cuts = [limiter.on_overload(generation=sent_before, inflight=30, now=100.0 + n) for n in range(30)]
    assert sum(cut is not None for cut in cuts) == 1
    assert limiter.limit == int(before * 0.7)


def test_a_new_generation_cuts_again_only_after_the_pause() -> None:
    limiter = AdaptiveLimiter(1, 64)
    calls(limiter, 200, now=1.0)
    assert limiter.on_timeout(generation=limiter.generation, inflight=9, now=10.0) is not None
    assert limiter.on_overload(generation=limiter.generation, inflight=9, now=11.9) is None
    assert limiter.on_overload(generation=limiter.generation, inflight=9, now=12.0) is not None


def test_it_never_leaves_its_bounds() -> None:
    limiter = AdaptiveLimiter(2, 9)
    calls(limiter, 500, now=1.0)
    assert limiter.limit == 9
    for n in range(20):
        limiter.on_overload(generation=limiter.generation, inflight=9, now=10.0 + 3 * n)
    assert limiter.limit == 2


def test_a_high_p95_takes_two_off_and_names_its_reason() -> None:
    limiter = AdaptiveLimiter(1, 64, latency_high_s=2.0)
    calls(limiter, 10, now=1.0)
    assert limiter.limit == 9
    (change,) = calls(limiter, 9, now=10.0, ran_s=5.0)
    assert (change.old, change.new, change.reason) == (9, 7, "latency")
    assert change.inputs["p95_s"] == 5.0


def test_after_an_outage_it_restarts_at_a_quarter() -> None:
    limiter = AdaptiveLimiter(1, 64)
    calls(limiter, 200, now=1.0)
    before = limiter.limit
    change = limiter.on_restart(now=50.0)
    assert change is not None
    assert change.new == before // 4
    fixed = FixedLimiter(8)
    assert fixed.on_restart(now=0.0) == Change(8, 2, "restart", {"full": 8.0})
    limits = []
    for _ in range(8):
        fixed.on_success(generation=fixed.generation, ran_s=1.0, bound=True, now=1.0)
        limits.append(fixed.limit)
    assert limits == [3, 4, 5, 6, 7, 8, 8, 8]


def test_a_fixed_limit_is_not_moved_by_anything_else() -> None:
    limiter = FixedLimiter(3)
    assert limiter.on_overload(generation=0, inflight=3, now=0.0) is None
    assert limiter.on_timeout(generation=0, inflight=3, now=0.0) is None
    assert limiter.on_failure(generation=0, now=0.0) is None
    assert limiter.on_success(generation=0, ran_s=1.0, bound=True, now=0.0) is None
    assert limiter.limit == 3


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="least"):
        AdaptiveLimiter(5, 4)
    with pytest.raises(ValueError, match="limit"):
        FixedLimiter(0)
