"""Degrade ladders: which rungs are taken, and what they add up to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate.config.settings import DegradeStep
from headgate.policy.degrade import NOTHING, add_up, in_order, leave_below, rungs_taken

LADDER = (
    DegradeStep(at=0.60, knobs={"hits": 5}),
    DegradeStep(at=0.75, knobs={"hits": 2}, models={"large": "small"}),
    DegradeStep(at=0.85, skip=("enrich",)),
)


def test_rungs_are_taken_at_their_pressure() -> None:
    assert [rungs_taken(LADDER, pressure, before=0) for pressure in (0.0, 0.59, 0.6, 0.8, 0.85, 1.0)] == [
        0, 0, 1, 2, 3, 3,
    ]  # fmt: skip


def test_a_rung_is_left_only_ten_points_below() -> None:
    assert rungs_taken(LADDER, 0.76, before=3) == 3
    assert rungs_taken(LADDER, 0.74, before=3) == 2
    assert rungs_taken(LADDER, 0.64, before=2) == 1
    assert rungs_taken(LADDER, 0.49, before=1) == 0


def test_a_low_rung_can_be_left_too() -> None:
    ladder = (DegradeStep(at=0.05),)
    assert leave_below(0.05) == 0.025
    assert rungs_taken(ladder, 0.03, before=1) == 1
    assert rungs_taken(ladder, 0.0, before=1) == 0


def test_rungs_add_up_and_higher_ones_win() -> None:
    assert add_up(LADDER, 0) == NOTHING
    two = add_up(LADDER, 2)
    assert (dict(two.knobs), dict(two.models), two.skip) == ({"hits": 2}, {"large": "small"}, frozenset())
    assert add_up(LADDER, 3).skip == {"enrich"}


def test_a_ladder_is_sorted_by_pressure() -> None:
    assert [rung.at for rung in in_order(LADDER[::-1])] == [0.60, 0.75, 0.85]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_a_steady_pressure_settles(pressures: list[float]) -> None:
    taken = 0
    for pressure in pressures:
        taken = rungs_taken(LADDER, pressure, before=taken)
        assert rungs_taken(LADDER, pressure, before=taken) == taken
        assert taken >= rungs_taken(LADDER, pressure, before=0)
