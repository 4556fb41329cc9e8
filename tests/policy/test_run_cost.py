"""What a run costs: seconds of resource time, at least a little."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate.policy.run_cost import LEAST_S, UNKNOWN_S, estimated, spent


def test_an_estimate_is_the_expected_time_by_the_factor() -> None:
    assert estimated(2.0, 30.0) == 60.0
    assert estimated(2.0, None) == 2.0 * UNKNOWN_S
    assert estimated(2.0, 0.0) == 2.0 * LEAST_S


def test_calls_count_and_without_them_the_slot() -> None:
    assert spent(1.0, calls_s=4.0, slot_s=9.0, called=True) == 4.0
    assert spent(1.0, calls_s=0.0, slot_s=9.0, called=False) == 9.0


@given(st.floats(0.01, 100), st.floats(0, 1000), st.floats(0, 1000), st.booleans())
def test_nothing_is_free(factor: float, calls_s: float, slot_s: float, called: bool) -> None:
    assert spent(factor, calls_s=calls_s, slot_s=slot_s, called=called) >= factor * LEAST_S > 0
