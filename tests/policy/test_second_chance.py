"""A hanging call is given up while something else can still answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate.policy.second_chance import most_s


def test_half_of_the_time_goes_to_the_first_try() -> None:
    assert most_s(left_s=40.0, slow_s=2.0) == 20.0


def test_what_is_only_slow_is_not_cut() -> None:
    assert most_s(left_s=40.0, slow_s=8.0) == 24.0
    assert most_s(left_s=4.0, slow_s=8.0) == 24.0, "the deadline ends it before"


def test_a_probe_has_nothing_to_go_by() -> None:
    assert most_s(left_s=40.0, slow_s=0.0) == 20.0


_SECONDS = st.floats(0.001, 1e6)


@given(_SECONDS, _SECONDS, _SECONDS)
def test_more_time_left_is_never_less_time_to_run(left_s: float, more_s: float, slow_s: float) -> None:
    before, after = most_s(left_s=left_s, slow_s=slow_s), most_s(left_s=left_s + more_s, slow_s=slow_s)
    assert 0 < before <= after
    assert before > slow_s, "a call of ordinary length is not cut"
