"""Degrade ladders: which rungs are taken, and what they add up to."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.config.settings import DegradeStep
from headgate.policy.degrade import (
    EASE,
    NOTHING,
    SHARE,
    add_up,
    expected_answer_s,
    expected_wait_s,
    for_slack,
    in_order,
    leave_below,
    remaining_path_s,
    rungs_taken,
)

LADDER = (
    DegradeStep(at=0.60, knobs={"hits": 5}),
    DegradeStep(at=0.75, knobs={"hits": 2}, models={"large": "small"}),
    DegradeStep(at=0.85, skip=("enrich",), postpone=("crm",), require_approval={"publish": "replies"}),
)


def at(pressure: float, before: int | frozenset[int] = 0) -> frozenset[int]:
    known = frozenset(range(before)) if isinstance(before, int) else before
    return rungs_taken(LADDER, [pressure] * len(LADDER), before=known)


def test_rungs_are_taken_at_their_pressure() -> None:
    assert [len(at(pressure)) for pressure in (0.0, 0.59, 0.6, 0.8, 0.85, 1.0)] == [0, 0, 1, 2, 3, 3]


def test_a_rung_is_left_only_ten_points_below() -> None:
    assert [len(at(*one)) for one in ((0.76, 3), (0.74, 3), (0.64, 2), (0.49, 1))] == [3, 2, 1, 0]


def test_a_low_rung_can_be_left_too() -> None:
    ladder = (DegradeStep(at=0.05),)
    assert leave_below(0.05) == 0.025
    assert rungs_taken(ladder, [0.03], before={0}) == {0}
    assert rungs_taken(ladder, [0.0], before={0}) == frozenset()


def test_each_rung_goes_by_its_own_pressure() -> None:
    assert rungs_taken(LADDER, [0.1, 1.0, 0.1], before=()) == {1}


def test_rungs_add_up_and_higher_ones_win() -> None:
    assert add_up(LADDER, ()) == NOTHING
    two = add_up(LADDER, {0, 1})
    assert (dict(two.knobs), dict(two.models), two.skip) == ({"hits": 2}, {"large": "small"}, frozenset())
    three = add_up(LADDER, {0, 1, 2})
    assert (three.rungs, three.skip, three.postpone) == (3, {"enrich"}, {"crm"})
    assert dict(three.require_approval) == {"publish": "replies"}


def test_what_only_the_slack_asks_for_is_told_apart() -> None:
    both = add_up(LADDER, {0}, own=2)
    assert dict(both.knobs) == {"hits": 2}
    assert both.hurried == {("knob", "hits"), ("model", "large")}
    assert add_up(LADDER, {0, 1}, own=1).hurried == frozenset()
    assert add_up(LADDER, {1}, own=1).hurried == frozenset()  # the value is that of the rung which pressure took


def test_a_ladder_is_sorted_by_pressure() -> None:
    assert [rung.at for rung in in_order(LADDER[::-1])] == [0.60, 0.75, 0.85]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_a_steady_pressure_settles(pressures: list[float]) -> None:
    taken: frozenset[int] = frozenset()
    for pressure in pressures:
        taken = at(pressure, taken)
        assert at(pressure, taken) == taken
        assert taken >= at(pressure)
        assert taken == frozenset(range(len(taken)))  # no gaps where all see the same pressure


PRESSURES = st.lists(st.floats(0, 1), min_size=3, max_size=3)


@given(PRESSURES, PRESSURES, st.frozensets(st.integers(0, 2)))
def test_more_pressure_never_takes_fewer_rungs(some: list[float], more: list[float], before: frozenset[int]) -> None:
    higher = [max(pair) for pair in zip(some, more, strict=True)]
    assert rungs_taken(LADDER, some, before=before) <= rungs_taken(LADDER, higher, before=before)


SECONDS = st.floats(0.001, 1e6)
TAKEN = st.frozensets(st.integers(0, 2))


@given(st.integers(0, 3), TAKEN, SECONDS, st.floats(0, 1), st.floats(0.01, 1))
def test_ample_slack_takes_no_rung(
    own: int, taken: frozenset[int], slack_s: float, part: float, share: float
) -> None:
    need_s = part * share * slack_s
    after = for_slack(own, rungs=3, taken=taken, need_s=need_s, slack_s=slack_s, share=share)
    assert after <= own


@given(st.integers(0, 3), TAKEN, SECONDS, SECONDS, SECONDS)
def test_more_need_never_takes_fewer_rungs(
    own: int, taken: frozenset[int], need_s: float, more_s: float, slack_s: float
) -> None:
    less, more = (
        for_slack(own, rungs=3, taken=taken, need_s=one, slack_s=slack_s, share=SHARE)
        for one in (need_s, need_s + more_s)
    )
    assert less <= more
    assert 0 <= less <= more <= 3


@given(st.integers(0, 3), st.frozensets(st.integers(0, 2)), st.floats(0, 1e6), SECONDS)
def test_a_steady_need_does_not_flutter(own: int, taken: frozenset[int], need_s: float, slack_s: float) -> None:
    seen = [own]
    for _ in range(8):
        seen.append(for_slack(seen[-1], rungs=3, taken=taken, need_s=need_s, slack_s=slack_s, share=SHARE))
    assert seen in (sorted(seen), sorted(seen, reverse=True))
    assert seen[-1] == seen[-2]


@given(st.lists(st.floats(EASE * SHARE, SHARE, exclude_min=True), max_size=20), st.integers(0, 3))
def test_a_need_between_taking_and_leaving_moves_nothing(needs: list[float], own: int) -> None:
    for need in needs:
        assert for_slack(own, rungs=3, taken=(), need_s=need, slack_s=1.0, share=SHARE) == own


def test_a_run_takes_the_lowest_rung_that_pressure_has_not_taken() -> None:
    late = {"rungs": 3, "need_s": 9.0, "slack_s": 10.0, "share": SHARE}
    assert for_slack(0, taken={0}, **late) == 2  # type: ignore[arg-type]
    assert for_slack(0, taken={0, 1, 2}, **late) == 0  # type: ignore[arg-type]
    assert for_slack(3, taken=(), **late | {"slack_s": -1.0}) == 3  # type: ignore[arg-type]


def test_slack_that_returns_restores_one_rung_at_a_time() -> None:
    seen = [3]
    for _ in range(4):
        seen.append(for_slack(seen[-1], rungs=3, taken=(), need_s=1.0, slack_s=100.0, share=SHARE))
    assert seen == [3, 2, 1, 0, 0]


def test_the_expected_wait_is_what_is_ahead_at_the_rate_of_the_limit() -> None:
    assert expected_wait_s(waiting=0, inflight=1, limit=2, usual_s=4.0, oldest_s=0.0) == 0.0
    assert expected_wait_s(waiting=0, inflight=2, limit=2, usual_s=4.0, oldest_s=0.0) == 2.0
    assert expected_wait_s(waiting=9, inflight=2, limit=2, usual_s=4.0, oldest_s=3.0) == 20.0
    assert expected_wait_s(waiting=9, inflight=2, limit=2, usual_s=None, oldest_s=3.0) == 3.0


@given(st.floats(0, 1e4), st.floats(0, 100), st.integers(0, 200), st.floats(0, 1e4))
def test_the_remaining_path_lies_within_the_usual_one(path: float, calls: float, done: int, worked: float) -> None:
    left = remaining_path_s(path_s=path, calls=calls, done_calls=done, worked_s=worked)
    assert 0 <= left <= path
    assert left <= max(0.0, path - worked)


def test_what_fails_half_of_the_time_takes_twice_as_long_and_what_refuses_for_ever() -> None:
    assert expected_answer_s(wait_s=1.0, usual_s=2.0, error_rate=0.0, refuses=False) == 3.0
    assert expected_answer_s(wait_s=1.0, usual_s=2.0, error_rate=0.5, refuses=False) == 6.0
    assert expected_answer_s(wait_s=1.0, usual_s=None, error_rate=1.0, refuses=False) == pytest.approx(10.0)
    assert expected_answer_s(wait_s=0.0, usual_s=2.0, error_rate=0.0, refuses=True) == math.inf
