"""Forecasts of runs, their calibration, and what is feasible."""

import dataclasses
from math import exp
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.model.promise import Promise, read_promise
from headgate.policy import calibration, eta, retry_after, throughput
from headgate.policy.calibration import Spread, error, spread
from headgate.policy.eta import WORKERS, Ahead, Line, Prospect, drain_s, forecast
from headgate.policy.feasibility import Fit, Wish, judge, judge_idle
from headgate.policy.retry_after import FAR_HORIZON_MS, Honesty, Promises
from headgate.policy.throughput import Seen, Throughput

SECONDS = st.floats(0.01, 1000)
RATES = st.floats(0.01, 100)
LINES = st.builds(Line, st.sampled_from([WORKERS, "tool"]), SECONDS, RATES, RATES, st.floats(0, 10))
SPREADS = st.builds(lambda low, more: Spread(low, low * more), st.floats(0.25, 4), st.floats(1, 5))
PROSPECTS = st.builds(
    Prospect,
    path_s=SECONDS,
    slots=st.integers(1, 50),
    lines=st.lists(LINES, max_size=3).map(tuple),
    straight=st.builds(eta.Spreads, SPREADS, SPREADS),
)
COUNTS = st.integers(0, 5000)
AHEAD = st.builds(lambda lane, earlier, running: Ahead(lane, earlier, running, running), COUNTS, COUNTS, COUNTS)


@given(PROSPECTS, AHEAD)
def test_a_forecast_is_in_order(prospect: Prospect, ahead: Ahead) -> None:
    told = forecast(prospect, ahead)
    assert 0 <= told.start_p50_s <= told.start_p90_s
    assert told.start_p50_s <= told.finish_p50_s <= told.finish_p90_s
    assert told.expected_finish_s >= prospect.path_s


@given(PROSPECTS, AHEAD, st.integers(1, 100), st.integers(0, 100))
def test_more_ahead_is_never_expected_earlier(prospect: Prospect, ahead: Ahead, more: int, earlier: int) -> None:
    later = forecast(prospect, dataclasses.replace(ahead, lane=ahead.lane + more, earlier=ahead.earlier + earlier))
    now = forecast(prospect, ahead)
    assert later.expected_start_s >= now.expected_start_s
    assert later.expected_finish_s >= now.expected_finish_s - 1e-9


@given(st.floats(0, 1e6), RATES, RATES)
def test_work_drains_at_the_current_rate_for_a_minute(work_s: float, rate: float, healthy: float) -> None:
    took_s = drain_s(work_s, rate, healthy)
    done_s = rate * min(took_s, 60.0) + max(rate, healthy) * max(0.0, took_s - 60.0)
    assert done_s == pytest.approx(work_s, rel=1e-6, abs=1e-6)


def test_a_free_slot_is_not_waited_for() -> None:
    prospect = Prospect(2.0, 4, (Line(WORKERS, 2.0, 4.0, 4.0),))
    told = forecast(prospect, Ahead(0, 0, 3, 3))
    assert (told.expected_start_s, told.expected_finish_s, told.waits) == (0.0, 2.0, False)
    assert forecast(prospect, Ahead(0, 0, 4, 4)).waits


def test_the_slowest_resource_counts() -> None:
    workers, tool = Line(WORKERS, 1.0, 10.0, 10.0), Line("tool", 4.0, 2.0, 2.0)
    told = forecast(Prospect(1.0, 10, (workers, tool)), Ahead(30, 0, 10, 10))
    assert told.expected_finish_s == pytest.approx((30 + 5) * 4 / 2 + 0.25)


def test_a_lane_has_its_own_slots_whatever_waits_before_it() -> None:
    line = Line(WORKERS, 1.0, 1.0, 1.0, own_rate=0.5)
    assert forecast(Prospect(1.0, 1, (line,)), Ahead(0, 10_000, 1, 0)).expected_start_s == pytest.approx(2.0)


def test_what_runs_needs_what_is_left_and_a_quarter_when_overdue() -> None:
    prospect = Prospect(8.0, 1, (), straight=eta.Spreads(finish=Spread(1.0, 2.0)))
    assert eta.rest_s(prospect, 3.0) == pytest.approx((5.0, 13.1))
    assert eta.rest_s(prospect, 100.0)[0] == pytest.approx(2.0)


@given(st.integers(0, 2**32), st.floats(-1.0, 1.0), st.floats(0.1, 1.0))
def test_calibration_finds_the_quantiles(seed: int, bias: float, sigma: float) -> None:
    rng = Random(seed)
    learned = spread([rng.gauss(bias, sigma) for _ in range(100)])
    later = [rng.gauss(bias, sigma) for _ in range(400)]
    below = [sum(exp(one) <= bound for one in later) / len(later) for bound in (learned.p50, learned.p90)]
    assert below[0] == pytest.approx(0.5, abs=0.25)
    assert below[1] == pytest.approx(0.9, abs=0.2)


@given(st.lists(st.floats(-3, 3), max_size=100), st.lists(st.sampled_from([0.0, 1.0]), max_size=100))
def test_a_p90_is_never_before_its_p50(errors: list[float], kept: list[float]) -> None:
    learned = spread(errors, kept)
    assert 0.25 <= learned.p50 <= 4.0
    assert learned.p90 >= learned.p50


@given(st.floats(0.1, 4), st.floats(0.1, 50), SECONDS)
def test_never_shorter_makes_no_time_shorter(p50: float, p90: float, expected_s: float) -> None:
    spread = Spread(p50, max(p50, p90))
    for told, before in zip(spread.never_shorter().times_s(expected_s), spread.times_s(expected_s), strict=True):
        assert told >= max(expected_s, before) - 1e-9


def test_broken_promises_raise_the_level() -> None:
    assert calibration.level([]) == 0.9
    assert calibration.level([1.0] * 100) < 0.9 < calibration.level([0.0] * 20 + [1.0] * 80)


@given(SECONDS, SECONDS)
def test_an_error_undone_gives_the_actual(expected_s: float, actual_s: float) -> None:
    off = error(expected_s, actual_s)
    told, _ = Spread(exp(off), exp(off)).times_s(expected_s)
    if abs(off) < 3.9:
        assert told == pytest.approx(actual_s, rel=1e-6, abs=1e-6)


WISHES = st.builds(
    Wish,
    plain=PROSPECTS,
    cheaper=st.none() | PROSPECTS,
    may_degrade=st.booleans(),
    left_s=st.none() | SECONDS,
    queue_s=st.none() | SECONDS,
    tolerance=st.sampled_from([1.0, 1.3]),
)


@given(WISHES, AHEAD)
def test_what_is_let_in_as_it_is_fits(wish: Wish, ahead: Ahead) -> None:
    judged = judge(wish, ahead)
    if judged.fit is Fit.YES and wish.left_s is not None:
        assert judged.forecast.finish_p50_s <= wish.left_s * wish.tolerance + 1e-9
    if judged.fit is Fit.LATE:
        assert judged.over_s > 0
    if judged.fit is Fit.DEGRADED:
        assert wish.may_degrade


@given(WISHES, AHEAD)
def test_without_a_bound_nothing_is_late(wish: Wish, ahead: Ahead) -> None:
    free = dataclasses.replace(wish, left_s=None, queue_s=None)
    assert judge(free, ahead).fit is Fit.YES
    assert judge_idle(free).fit is Fit.YES
    assert judge(dataclasses.replace(wish, refuse=False), ahead).fit is Fit.YES


def test_the_degraded_path_is_taken_when_it_fits_or_is_unknown() -> None:
    slow, quick = Prospect(10.0, 4, ()), Prospect(2.0, 4, ())
    wish = Wish(slow, quick, may_degrade=True, left_s=5.0)
    nobody = Ahead(0, 0, 0, 0)
    assert judge(wish, nobody).fit is Fit.DEGRADED
    assert judge(dataclasses.replace(wish, cheaper=None), nobody).fit is Fit.DEGRADED
    assert judge(dataclasses.replace(wish, cheaper=slow), nobody).fit is Fit.LATE
    assert judge_idle(dataclasses.replace(wish, may_degrade=False)).fit is Fit.NEVER


LOOKS = st.lists(
    st.tuples(st.floats(0.1, 20), st.integers(0, 50), st.floats(0, 1), st.booleans(), st.integers(0, 100)),
    max_size=60,
)


@given(LOOKS)
def test_a_rate_stays_within_the_limits(looks: list[tuple[float, int, float, bool, int]]) -> None:
    known: Throughput | None = None
    at_ms = 0.0
    for elapsed_s, limit, fill, saturated, done in looks:
        at_ms += 1000 * elapsed_s
        seen = Seen(int(at_ms), limit, 64, fill * limit, saturated, done, 0.5 * done)
        known = throughput.follow(known, seen)
        assert 0 <= known.rate <= min(2 * limit, 64) + 1e-9
        assert known.healthy >= 0


def test_an_outage_shows_as_a_smaller_rate_and_leaves_the_healthy_one() -> None:
    known: Throughput | None = None
    for second in range(60):
        known = throughput.follow(known, Seen(1000 * second, 8, 8, 8, True, 8, 8.0))
    for second in range(60, 100):
        known = throughput.follow(known, Seen(1000 * second, 8, 8, 8, True, 1, 1.0))
    assert known is not None
    assert known.rate < 3
    assert known.healthy > 6
    assert known.troubled
    assert known.call_s == pytest.approx(1.0)


def test_an_idle_limit_is_a_lower_bound() -> None:
    assert throughput.follow(None, Seen(0, 4, 32, 0, False, 0, 0.0)).rate == 8
    assert throughput.follow(None, Seen(0, 4, 4, 0, False, 0, 0.0)).rate == 4


@given(st.lists(st.booleans(), max_size=300))
def test_the_multiplier_stays_within_bounds(kept: list[bool]) -> None:
    book, honesty = Promises(), Honesty()
    for one in kept:
        book, honesty = retry_after.audited(book, kept=one), honesty.heard(one)
        assert 0.5 <= book.multiplier <= 8.0
        assert 0 <= (honesty.share or 0.0) <= 1
        assert honesty.audited <= 201


def test_waits_grow_until_most_promises_are_kept() -> None:
    """Room comes after 10 s; the forecast says 4."""
    book, kept = Promises(), []
    for n in range(200):
        book, told = retry_after.promise(book, now_ms=10**6 * n, rate=None, chance=0.0, over_ms=4000)
        kept.append(told >= 10_000)
        book = retry_after.audited(book, kept=kept[-1])
    assert sum(kept[50:]) / 150 >= 0.75


@given(st.floats(0, 1e9), st.floats(0, 0.999))
def test_the_late_are_told_their_own_wait(over_ms: float, chance: float) -> None:
    _, told = retry_after.promise(Promises(), now_ms=0, rate=2.0, chance=chance, over_ms=over_ms)
    assert told >= min(over_ms, FAR_HORIZON_MS) - 1
    assert 500 <= told <= FAR_HORIZON_MS


@given(st.text(max_size=60) | st.none())
def test_a_damaged_promise_is_none(text: str | None) -> None:
    assert read_promise(text) is None or read_promise(text) == read_promise((read_promise(text) or _NONE).text())


_NONE = Promise(0, 0, 0, 0, 0, 0, False)


def test_a_promise_survives_its_text() -> None:
    promise = Promise(10, 2000, 12, 40, 2100, 4000, True)
    assert read_promise(promise.text()) == promise
