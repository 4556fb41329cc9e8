"""Depth and byte bounds."""

from hypothesis import given
from hypothesis import strategies as st

from headgate.policy.admission import HELD_BACK, Waiting, decide, places_left_to
from headgate.store.protocols import DepthBound

TEN = DepthBound("workflow:w", workflow="w", depth=10)


def test_the_first_full_bound_is_named() -> None:
    roomy = DepthBound("workflow:w", workflow="w", depth=100)
    verdict = decide([roomy, TEN, TEN], [Waiting(10, 0), Waiting(10, 0), Waiting(99, 0)], size_bytes=1)
    assert verdict.full == 1
    assert verdict.unit == "runs"


def test_exactly_the_depth_fits() -> None:
    assert decide([TEN], [Waiting(9, 0)], size_bytes=1).full is None
    assert decide([TEN], [Waiting(10, 0)], size_bytes=1).full == 0


def test_bytes_are_a_bound_of_their_own() -> None:
    bound = DepthBound("workflow:w", workflow="w", bytes=100)
    assert decide([bound], [Waiting(1, 60)], size_bytes=40).full is None
    full = decide([bound], [Waiting(1, 60)], size_bytes=41)
    assert (full.full, full.unit) == (0, "content-bytes")


def test_a_shadow_bound_reports_and_lets_in() -> None:
    shadow = DepthBound("workflow:w", workflow="w", depth=1, shadow=True)
    verdict = decide([shadow], [Waiting(5, 0)], size_bytes=1)
    assert verdict.full is None
    assert verdict.shadowed == (0,)


def test_near_the_bound_runs_come_in_degraded() -> None:
    bound = DepthBound("workflow:w", workflow="w", depth=10, degrade_from=8)
    assert not decide([bound], [Waiting(7, 0)], size_bytes=1).degraded
    assert decide([bound], [Waiting(8, 0)], size_bytes=1).degraded
    assert decide([bound], [Waiting(10, 0)], size_bytes=1).full == 0


@given(depth=st.integers(1, 100_000), higher=st.integers(0, 20))
def test_each_lane_before_keeps_places_of_its_own(depth: int, higher: int) -> None:
    left = places_left_to(depth, higher)
    assert 1 <= left <= depth
    assert left <= places_left_to(depth, max(0, higher - 1))
    assert places_left_to(depth, 0) == depth
    assert depth - left <= HELD_BACK * higher * depth
