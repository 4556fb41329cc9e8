"""What fits, with a margin for those who have to wait."""

from __future__ import annotations

from dataclasses import replace

from headgate.policy.calibration import Spread
from headgate.policy.eta import WORKERS, Ahead, Line, Prospect, Spreads
from headgate.policy.feasibility import WAITING_TAKES, Fit, Wish, judge, tightness

PLAIN = Spreads(Spread(1.0, 2.0), Spread(1.0, 2.0))
PROSPECT = Prospect(10.0, 4, (Line(WORKERS, 10.0, 4.0, 4.0),), PLAIN, PLAIN)
"""Four slots, runs of ten seconds."""


def wish(left_s: float, **changes: object) -> Wish:
    return replace(Wish(PROSPECT, None, False, left_s), **changes)  # type: ignore[arg-type]


def waiting(runs: int) -> Ahead:
    return Ahead(runs, 0, 4, 4)


def test_who_need_not_wait_may_take_all_of_its_time() -> None:
    assert judge(wish(10.6), Ahead(0, 0, 0, 0)).fit is Fit.YES
    assert judge(wish(9.9), Ahead(0, 0, 0, 0)).fit is Fit.LATE


def test_who_has_to_wait_keeps_a_margin() -> None:
    finish_s = judge(wish(1000.0), waiting(20)).forecast.finish_p50_s
    assert judge(wish(1.01 * finish_s), waiting(20)).fit is Fit.LATE
    assert judge(wish(1.01 * finish_s / WAITING_TAKES), waiting(20)).fit is Fit.YES


def test_the_first_lane_has_no_margin() -> None:
    finish_s = judge(wish(1000.0), waiting(20)).forecast.finish_p50_s
    assert judge(wish(0.8 * finish_s, tolerance=1.3), waiting(20)).fit is Fit.YES


def test_an_unknown_cheaper_path_needs_time_as_well() -> None:
    """Only its start was asked for: who would start in the last second was taken in."""
    told = judge(wish(1000.0), waiting(20)).forecast
    hurried = wish((told.start_p50_s + 0.01) / WAITING_TAKES, may_degrade=True)
    assert judge(hurried, waiting(20)).fit is Fit.LATE
    saves_s = told.finish_p50_s - 5.0
    assert judge(replace(hurried, left_s=(saves_s - 0.1) / WAITING_TAKES), waiting(20)).fit is Fit.LATE
    assert judge(replace(hurried, left_s=(saves_s + 0.1) / WAITING_TAKES), waiting(20)).fit is Fit.DEGRADED


def test_tightness_is_the_part_of_its_waiting_time_that_a_run_needs() -> None:
    room_s = WAITING_TAKES * 40 - 10
    assert tightness(wish(40.0), 8.0) == 0.0
    assert tightness(wish(40.0), 10 + room_s / 2) == 0.5
    assert tightness(wish(40.0), 100.0) == 1.0
    assert tightness(wish(12.0), 11.0) is None  # it can afford no wait at all: no sign of an overload
    assert tightness(replace(wish(1.0), left_s=None), 5.0) is None
