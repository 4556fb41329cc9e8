"""The cursor refuses what matters least first, as much as it must, and lets go without swinging."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headgate.policy import shedding
from headgate.policy.shedding import Cursor

ORDER = ("background", "standard", "interactive", "critical")
KEY = b"key of the fleet"
amounts = st.floats(0, 1000)


@given(st.floats(0, 0.95), st.fixed_dictionaries({}, optional=dict.fromkeys(ORDER, amounts)))
def test_a_lane_is_refused_only_after_all_before_it(share: float, offered: dict[str, float]) -> None:
    parts = list(shedding.refused_parts(share, ORDER, offered).values())
    assert all(0 <= part <= 1 for part in parts)
    for lesser, greater in itertools.pairwise(parts):
        assert greater == 0 or lesser == 1 or (not sum(offered.values()))
        assert greater <= lesser


@given(st.floats(0, 0.95), st.fixed_dictionaries({lane: st.floats(0.1, 1000) for lane in ORDER}))
@example(1e-9, {"background": 1.0, "standard": 1.0, "interactive": 1.0, "critical": 997.0})  # little, but not nothing
def test_together_the_parts_are_the_share(share: float, offered: dict[str, float]) -> None:
    parts = shedding.refused_parts(share, ORDER, offered)
    refused = sum(parts[lane] * offered[lane] for lane in ORDER)
    assert refused == pytest.approx(share * sum(offered.values()), abs=1e-6)


@given(st.floats(0.01, 0.95), st.floats(0.01, 1000), st.text(min_size=1, max_size=40), st.integers(0, 10**13))
def test_critical_is_never_refused_while_a_lesser_lane_is_taken_in(
    share: float, critical: float, tenant: str, now_ms: int
) -> None:
    parts = shedding.refused_parts(share, ORDER, {"critical": critical, "standard": 1.0})
    of_cohort = shedding.cohort(tenant, key=KEY, now_ms=now_ms)
    if shedding.refuses(parts["critical"], of_cohort):
        assert all(parts[lane] == 1.0 for lane in ORDER[:3])


@given(st.lists(st.floats(0, 100), max_size=200))
def test_the_share_stays_within_its_bounds_and_falls_only_when_calm(overloads: list[float]) -> None:
    cursor = Cursor()
    for number, overload in enumerate(overloads, 1):
        before, cursor = cursor, shedding.move(cursor, overload, now_ms=number * 5000)
        assert 0 <= cursor.share <= shedding.MOST
        if cursor.share < before.share:
            assert overload < 0.9
        if cursor.share > before.share:
            assert overload > 1


def test_it_moves_every_five_seconds_at_most() -> None:
    moved = shedding.move(Cursor(), 2.0, now_ms=5000)
    assert moved.share == pytest.approx(0.05)
    assert shedding.move(moved, 9.0, now_ms=9999) is moved
    assert shedding.move(moved, 9.0, now_ms=10_000).share == pytest.approx(0.25)


def test_a_tenant_stays_in_its_cohort_for_the_hour_and_cohorts_are_even() -> None:
    hour = shedding.HOUR_MS
    assert {shedding.cohort("acme", key=KEY, now_ms=hour * 7 + ms) for ms in (0, 1, hour - 1)} == {
        shedding.cohort("acme", key=KEY, now_ms=hour * 7)
    }
    counts = [0] * shedding.COHORTS
    for number in range(20_000):
        counts[shedding.cohort(f"t{number}", key=KEY, now_ms=0)] += 1
    assert 120 < min(counts) <= max(counts) < 290
    moved = [shedding.cohort(f"t{n}", key=KEY, now_ms=0) != shedding.cohort(f"t{n}", key=KEY, now_ms=hour)
             for n in range(100)]  # fmt: skip
    assert sum(moved) > 90


def step_load(
    *, rate: float, high: float, low: float, target_s: float, high_s: int
) -> tuple[list[float], list[float]]:
    """A queue that drains at ``rate`` a second, offered ``high`` and then ``low`` runs a second: share and overload,
    second by second."""
    cursor, waiting, shares, overloads = Cursor(), 0.0, [], []
    for second in range(high_s + 3000):
        offered = high if second < high_s else low
        waiting = max(0.0, waiting + offered * (1 - cursor.share) - rate)
        overloads.append(waiting / rate / target_s)
        cursor = shedding.move(cursor, overloads[-1], now_ms=1000 * (second + 10))
        shares.append(cursor.share)
    return shares, overloads


@settings(max_examples=25)
@given(st.floats(1.2, 8), st.floats(0, 0.7), st.sampled_from([10.0, 30.0, 120.0]), st.sampled_from([5.0, 50.0]))
def test_after_a_step_load_it_lets_go_once_and_for_all(high: float, low: float, target_s: float, rate: float) -> None:
    high_s = 1800
    shares, overloads = step_load(rate=rate, high=rate * high, low=rate * low, target_s=target_s, high_s=high_s)
    assert max(shares[:high_s]) > 0
    assert max(overloads) < math.inf
    after = [share > 0 for share in shares[high_s:]]
    changes = sum(one != other for one, other in itertools.pairwise(after))
    assert changes <= 1
    assert not after[-1]


@settings(max_examples=15)
@given(st.floats(1.3, 4), st.sampled_from([30.0, 120.0]))
def test_under_a_lasting_overload_the_queue_is_held(high: float, target_s: float) -> None:
    shares, overloads = step_load(rate=20, high=20 * high, low=0, target_s=target_s, high_s=3600)
    late, needed = overloads[1800:3600], 1 - 1 / high
    assert max(late) < 3
    assert sum(shares[1800:3600]) / 1800 == pytest.approx(needed, abs=0.15)


@given(st.floats(0, 0.95), st.dictionaries(st.sampled_from(ORDER), st.floats(0.1, 100), min_size=1))
@example(0.75, {"critical": 30.0, "background": 1.0, "standard": 30.81683918422231})  # rounding leaves a little over
def test_an_overload_of_a_lane_reaches_no_lane_before_it(share: float, offered: dict[str, float]) -> None:
    reached = list(ORDER[:2])
    cursor = shedding.bounded(shedding.Cursor(share), reached, offered)
    assert cursor.share <= share
    parts = shedding.refused_parts(cursor.share, ORDER, offered)
    assert all(parts[lane] < 1e-6 for lane in ORDER[2:])
