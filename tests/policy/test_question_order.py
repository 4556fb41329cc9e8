"""What waits for people is shown in the order in which it should be answered."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headgate.policy.question_order import Place, gives_way, place

NOW = 1_000_000


def _at(**changes: Any) -> Place:
    ordinary: dict[str, Any] = {"rank": 1, "asked_ms": NOW - 50, "expires_ms": NOW + 90_000, "deadline_ms": None}
    return place(**{**ordinary, **changes}, now_ms=NOW, takes_ms=20_000)


def test_lanes_come_first_then_need_then_age() -> None:
    order = [
        _at(rank=0, expires_ms=NOW + 500_000),
        _at(expires_ms=NOW + 40_000),
        _at(deadline_ms=NOW + 60_000),
        _at(asked_ms=NOW - 60, deadline_ms=NOW + 900_000),
        _at(),
        _at(rank=2, expires_ms=NOW + 30_000),
    ]
    assert order == sorted(order[3:] + order[:3])


def test_what_can_hardly_be_answered_in_time_comes_after_all_others() -> None:
    late = _at(rank=0, deadline_ms=NOW + 19_999)
    assert late.late
    assert not _at(rank=0, deadline_ms=NOW + 20_000).late
    assert late > _at(rank=7)


_PLACES = st.builds(
    lambda rank, asked, expires, deadline: _at(
        rank=rank, asked_ms=asked, expires_ms=NOW + expires, deadline_ms=None if deadline is None else NOW + deadline
    ),
    st.integers(0, 4),
    st.integers(0, NOW),
    st.integers(-9, 10**6),
    st.none() | st.integers(-9, 10**6),
)


@given(_PLACES, _PLACES)
def test_nothing_gives_way_to_its_own_or_a_later_lane(last: Place, new: Place) -> None:
    assert gives_way(last, new) == (new.rank < last.rank)
    assert not (gives_way(last, new) and gives_way(new, last))
