"""Drain rates, promises to refused callers, and pressure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.policy import eta, pressure, retry_after
from headgate.policy.pressure import Pressure
from headgate.policy.retry_after import HORIZON_MS, UNKNOWN_MS, Promises


def test_the_rate_follows_a_steady_counter() -> None:
    rate = None
    for second in range(60):
        rate = eta.sample(rate, at_ms=1000 * second, started=4 * second, waiting=True)
    assert rate is not None
    assert rate.rate == pytest.approx(4.0)
    assert eta.wait_ms(20, rate.rate) == 5000


def test_an_idle_queue_does_not_make_the_workers_look_slow() -> None:
    rate = None
    for second in range(30):
        rate = eta.sample(rate, at_ms=1000 * second, started=4 * second, waiting=True)
    for second in range(30, 300):
        rate = eta.sample(rate, at_ms=1000 * second, started=4 * 29, waiting=False)
    assert rate is not None
    assert rate.rate == pytest.approx(4.0)


def test_nothing_is_promised_while_nothing_is_known() -> None:
    assert eta.wait_ms(3, None) is None
    assert eta.wait_ms(0, None) == 0
    assert retry_after.promise(Promises(), now_ms=0, rate=None, chance=0.0)[1] == UNKNOWN_MS


def test_refused_callers_are_spread_over_the_room_to_come() -> None:
    book, told = Promises(), []
    for _ in range(10):
        book, wait = retry_after.promise(book, now_ms=1_000_000, rate=2.0, chance=0.0)
        told.append(wait)
    assert told == [500 * n for n in range(1, 11)]


@given(st.floats(0.01, 1000), st.floats(0, 0.999), st.integers(1, 300))
def test_a_promise_is_never_now_and_never_beyond_the_horizon(rate: float, chance: float, refused: int) -> None:
    book, wait = Promises(), 0
    for _ in range(refused):
        book, wait = retry_after.promise(book, now_ms=5, rate=rate, chance=chance)
        assert 500 <= wait <= HORIZON_MS


def test_pressure_rises_at_once_and_falls_slowly() -> None:
    high = pressure.follow(Pressure(0), Pressure(1000, queue=0.9))
    assert high.level == 0.9
    later = pressure.follow(high, Pressure(2000))
    assert later.level == pytest.approx(0.81)
    assert pressure.follow(later, Pressure(120_000)).level < 0.01


def test_a_sick_resource_moves_ladders_but_not_the_door() -> None:
    sick = pressure.follow(Pressure(0), Pressure(1000, resources=1.0))
    assert (sick.level, sick.intake) == (1.0, 0.0)


def test_each_of_many_rises_at_once_falls_slowly_and_is_forgotten() -> None:
    high = pressure.follow_each({}, {"tiny": 1.2, "other": 0.5, "idle": 0.0}, elapsed_s=1)
    assert high == {"tiny": 1.0, "other": 0.5}
    later = pressure.follow_each(high, {"other": 0.9}, elapsed_s=1)
    assert later == {"tiny": pytest.approx(0.9), "other": 0.9}
    assert pressure.follow_each(later, {}, elapsed_s=60) == {}


def test_shedding_has_hysteresis() -> None:
    assert not pressure.shedding(False, 0.84, shed_at=0.85)
    assert pressure.shedding(False, 0.85, shed_at=0.85)
    assert pressure.shedding(True, 0.76, shed_at=0.85)
    assert not pressure.shedding(True, 0.74, shed_at=0.85)


def test_callers_who_never_return_do_not_push_back_the_others_without_end() -> None:
    book = Promises()
    told = []
    for _ in range(1000):
        book, wait = retry_after.promise(book, now_ms=0, rate=5.0, chance=0.5, room=20)
        told.append(wait)
    assert max(told) <= 2 * 20 / 5.0 * 1000 * 1.25


def test_those_who_share_the_last_moment_do_not_come_back_together() -> None:
    full = Promises(until_ms=60_000.0)
    waits = {retry_after.promise(full, now_ms=0, rate=0.01, chance=chance / 100)[1] for chance in range(100)}
    assert len(waits) == 100
    assert min(waits) >= 30_000


def test_workers_that_come_back_are_believed_soon() -> None:
    rate = eta.DrainRate(0, 0, rate=0.02)
    for second in range(1, 7):
        rate = eta.sample(rate, at_ms=1000 * second, started=5 * second, waiting=True)
    assert rate.rate is not None
    assert rate.rate > 4


def test_broken_promises_of_room_make_the_next_ones_longer() -> None:
    book = Promises(until_ms=0, multiplier=4.0)
    assert retry_after.promise(book, now_ms=0, rate=2.0, chance=0.0)[1] == 2000
    full = Promises(until_ms=HORIZON_MS, multiplier=4.0)
    assert retry_after.promise(full, now_ms=0, rate=2.0, chance=0.0)[1] == 4 * HORIZON_MS
