"""Rates: never more than burst plus rate, and honest waits."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.policy.token_bucket import RateTake, arrival_if_room, give_back, take

TEN_A_MINUTE = RateTake("k", "tenant:acme", per_window=10, window_ms=60_000)


def test_a_rested_bucket_grants_its_whole_window_at_once_and_then_waits_for_one() -> None:
    arrival = None
    for left in range(9, -1, -1):
        taken = take(arrival, TEN_A_MINUTE, now_ms=1_000)
        assert taken.granted
        assert taken.remaining == pytest.approx(left)
        arrival = taken.arrival_ms
    refused = take(arrival, TEN_A_MINUTE, now_ms=1_000)
    assert not refused.granted
    assert refused.arrival_ms == arrival
    assert refused.wait_ms == pytest.approx(6_000)


def test_the_told_wait_is_exactly_enough() -> None:
    arrival = None
    while (taken := take(arrival, TEN_A_MINUTE, now_ms=0)).granted:
        arrival = taken.arrival_ms
    assert not take(arrival, TEN_A_MINUTE, now_ms=taken.wait_ms - 1).granted
    assert take(arrival, TEN_A_MINUTE, now_ms=taken.wait_ms).granted


def test_more_than_the_bucket_never_fits() -> None:
    wish = RateTake("k", "n", per_window=10, window_ms=1_000, amount=11)
    assert take(None, wish, now_ms=0).never
    assert not take(None, TEN_A_MINUTE, now_ms=0).never


def test_what_is_given_back_can_be_taken_again() -> None:
    wish = RateTake("k", "n", per_window=10, window_ms=1_000, amount=10)
    taken = take(None, wish, now_ms=0)
    assert not take(taken.arrival_ms, wish, now_ms=0).granted
    assert take(give_back(taken.arrival_ms, wish, amount=10), wish, now_ms=0).granted


@pytest.mark.parametrize("field", ["per_window", "window_ms", "burst"])
def test_zero_is_an_error_and_never_means_off(field: str) -> None:
    values: dict[str, Any] = {"per_window": 1.0, "window_ms": 1.0, "burst": 1.0, field: 0.0}
    with pytest.raises(ValueError, match="positive"):
        take(None, RateTake("k", "n", **values), now_ms=0)


@given(
    per_window=st.floats(0.5, 1000),
    window_ms=st.floats(10, 3_600_000),
    burst=st.floats(1, 100),
    steps=st.lists(st.tuples(st.floats(0, 5_000), st.floats(0.1, 5)), min_size=1, max_size=60),
)
def test_over_any_run_at_most_burst_plus_rate_is_granted(
    per_window: float, window_ms: float, burst: float, steps: list[tuple[float, float]]
) -> None:
    arrival, now, granted = None, 1e6, 0.0
    begin = now
    for gap, amount in steps:
        now += gap
        wish = RateTake("k", "n", per_window, window_ms, amount=amount, burst=burst)
        taken = take(arrival, wish, now_ms=now)
        if taken.granted:
            granted += amount
            arrival = taken.arrival_ms
        elif not taken.never:
            assert taken.wait_ms > 0
        assert granted <= burst + per_window * (now - begin) / window_ms + 1e-6 * (1 + granted)
        assert -1e-6 <= taken.remaining <= burst + 1e-6


@given(
    st.one_of(st.none(), st.floats(0, 1e7)),
    st.floats(0, 1e7),
    st.floats(0, 50),
    st.floats(0.1, 100),
    st.one_of(st.none(), st.floats(0.1, 100)),
)
def test_the_quick_look_grants_what_a_take_grants(
    arrival: float | None, now_ms: float, amount: float, per_window: float, burst: float | None
) -> None:
    wish = RateTake("k", "n", per_window=per_window, window_ms=1_000, burst=burst)
    taken = take(arrival, wish, now_ms=now_ms, amount=amount)
    after = arrival_if_room(arrival, wish, now_ms=now_ms, amount=amount)
    assert (after is not None) == taken.granted
    if after is not None:
        assert after == pytest.approx(taken.arrival_ms)
