"""Counting over a sliding window."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.policy.outcome_window import OutcomeWindow


def test_it_forgets() -> None:
    window = OutcomeWindow(10.0, slices=10)
    window.add(False, 0.5)
    window.add(True, 5.0)
    assert window.bad_share(9.0) == 0.5
    assert window.bad_share(10.5) == 0.0
    assert window.bad_share(30.0) == 0.0
    assert window.good == window.bad == 0


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 4)), max_size=200))
def test_it_agrees_with_a_list_of_everything(steps: list[tuple[bool, float]]) -> None:
    window, seen, now = OutcomeWindow(10.0, slices=10), deque[tuple[int, bool]](), 100.0
    for good, passed in steps:
        now += passed
        window.add(good, now)
        seen.append((int(now), good))
        kept = [one for place, one in seen if place > int(now) - 10]
        assert (window.good, window.bad) == (kept.count(True), kept.count(False))
        assert window.bad_share(now) == pytest.approx(kept.count(False) / len(kept))
