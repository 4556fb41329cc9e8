"""What one tenant asks for beyond its fair share."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.policy.tenant_excess import LEAST_ROOM, MOST_ROOM, above, level, move, refused_parts

COSTS = st.floats(0, 100)
ASKED = st.dictionaries(st.text("abcdef", min_size=1, max_size=2), COSTS, max_size=12)
WEIGHTS = st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.floats(0.1, 10), max_size=12)
LANES = ("first", "second", "third")
BY_LANE = st.dictionaries(st.sampled_from(LANES), COSTS)


@given(st.floats(0.01, 500), ASKED, WEIGHTS)
def test_the_level_gives_away_all_that_there_is_and_no_more(
    capacity: float, asked: dict[str, float], weights: dict[str, float]
) -> None:
    share = level(capacity, asked, weights)
    if share is None:
        assert sum(asked.values()) <= capacity * (1 + 1e-9)
    else:
        given = sum(min(cost, share * weights.get(tenant, 1.0)) for tenant, cost in asked.items())
        assert given == pytest.approx(capacity, rel=1e-6)


@given(st.floats(0.01, 500), ASKED, WEIGHTS)
def test_only_few_are_above_and_nobody_below_is_named(
    capacity: float, asked: dict[str, float], weights: dict[str, float]
) -> None:
    share = level(capacity, asked, weights)
    found = above(share or 0.0, asked, weights)
    assert len(found) <= max(1, len(asked) / 5)
    assert len(found) < max(1, len(asked)) or not found
    assert all(asked[tenant] > (share or 0.0) * weights.get(tenant, 1.0) for tenant in found)


@given(COSTS, BY_LANE)
def test_a_tenant_keeps_its_share_and_loses_its_last_lanes_first(keeps: float, asked: dict[str, float]) -> None:
    parts = refused_parts(keeps, LANES, asked)
    kept = sum((1 - part) * asked.get(lane, 0.0) for lane, part in parts.items())
    assert kept == pytest.approx(min(keeps, sum(asked.values())), rel=1e-6, abs=1e-6)
    wanted = [lane for lane in LANES if asked.get(lane, 0.0) > 0]
    for lane, after in itertools.pairwise(wanted):
        assert parts[lane] == 0 or parts[after] == pytest.approx(1)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 60))))
def test_the_room_stays_within_bounds_and_goes_the_right_way(looks: list[tuple[bool, float]]) -> None:
    room = MOST_ROOM
    for hurt, elapsed_s in looks:
        before, room = room, move(room, hurt=hurt, elapsed_s=elapsed_s)
        assert LEAST_ROOM <= room <= MOST_ROOM
        assert room <= before if hurt else room >= before


def test_one_of_twenty_is_above_and_an_overload_of_all_is_nobodys() -> None:
    quiet = {f"t{n}": 0.04 for n in range(19)}
    share = level(1.0, {**quiet, "loud": 2.0}, {})
    assert share == pytest.approx(0.24)
    assert above(share or 0.0, {**quiet, "loud": 2.0}, {}) == {"loud"}
    flood = {f"t{n}": 0.1 * (n + 1) for n in range(10)}
    share = level(0.5, flood, {})
    assert share is not None
    assert above(share, flood, {}) == frozenset()
