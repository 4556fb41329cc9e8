"""Holdback: lower lanes borrow less as higher ones are pressed."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from headgate.policy.holdback import BEGINS, PLAY, Strain, follow, lent, levels, most

LANES = ("critical", "interactive", "standard", "background")
part = st.floats(0, 1)
lines = st.fixed_dictionaries(dict.fromkeys(LANES, part))
strains = st.builds(Strain, part, part)
busy = st.frozensets(st.sampled_from(LANES))


def test_the_lowest_lane_borrows_less_first() -> None:
    same = dict.fromkeys(LANES, 0.75)
    parts = lent(LANES, same)
    assert parts["critical"] == parts["interactive"] == parts["standard"] == 1.0
    assert 0.4 < parts["background"] < 0.6
    assert lent(LANES, dict.fromkeys(LANES, 1.0)) == {
        "critical": 1.0, "interactive": 0.0, "standard": 0.0, "background": 0.0,
    }  # fmt: skip


def test_resources_hold_nobody_back_for_nobody() -> None:
    alone = levels(LANES, {}, frozenset({"background"}), Strain(resources=1.0))
    assert alone == dict.fromkeys(LANES, 0.0)
    beside = levels(LANES, {}, frozenset({"background", "standard"}), Strain(resources=1.0))
    assert beside == {"critical": 0.0, "interactive": 0.0, "standard": 0.0, "background": 1.0}


@given(lines, busy, strains, st.sampled_from(LANES), part)
def test_a_lane_is_not_held_back_by_its_own_line_or_lower_ones(
    line: dict[str, float], occupied: frozenset[str], strain: Strain, lane: str, other: float
) -> None:
    place = LANES.index(lane)
    changed = {name: other if LANES.index(name) >= place else value for name, value in line.items()}
    before = levels(LANES, line, occupied, strain)[lane]
    assert levels(LANES, changed, occupied ^ frozenset({lane}), strain)[lane] == before


@given(lines, busy, strains)
def test_a_higher_lane_is_left_no_less_than_a_lower_one(
    line: dict[str, float], occupied: frozenset[str], strain: Strain
) -> None:
    parts = lent(LANES, levels(LANES, line, occupied, strain))
    assert list(parts.values()) == sorted(parts.values())
    assert parts["critical"] == 1.0


@given(part, part)
def test_what_is_its_own_is_never_touched_and_nothing_is_made_up(share: float, rest: float) -> None:
    assert share <= most(share, rest) <= 1.0 + 1e-9
    assert math.isclose(most(share, 1.0), 1.0)
    assert most(share, 0.0) == share


@given(part, st.lists(part, max_size=30))
def test_a_level_that_trembles_moves_nothing(start: float, looks: list[float]) -> None:
    level = start
    for now in looks:
        before, level = level, follow(level, now)
        assert now <= level <= max(before, now)
        assert level <= now + PLAY + 1e-9
        if before - PLAY <= now <= before:
            assert level == before


@given(st.floats(0, BEGINS))
def test_without_pressure_everything_is_lent(level: float) -> None:
    assert set(lent(LANES, dict.fromkeys(LANES, level)).values()) == {1.0}
