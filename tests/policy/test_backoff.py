"""Delays before retries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.policy.backoff import delay_s


def test_the_ceiling_doubles_and_jitter_takes_the_whole_range() -> None:
    ceilings = [delay_s(n, base_s=0.5, most_s=30, jitter=1.0) for n in range(8)]
    assert ceilings == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert delay_s(3, base_s=0.5, most_s=30, jitter=0.0) == 0.0
    assert delay_s(3, base_s=0.5, most_s=30, jitter=0.25) == 1.0


def test_a_hint_is_the_least_wait_and_is_clamped() -> None:
    assert delay_s(0, base_s=0.5, most_s=30, jitter=0.5, hint_s=12) == 12
    assert delay_s(0, base_s=0.5, most_s=30, jitter=0.5, hint_s=3600) == 30
    assert delay_s(6, base_s=0.5, most_s=30, jitter=1.0, hint_s=1) == 30
    assert delay_s(0, base_s=0.5, most_s=30, jitter=1.0, hint_s=0) == 0.5


@given(st.integers(0, 10_000), st.floats(0, 1), st.one_of(st.none(), st.floats(-1, 1e9)), st.floats(0.001, 1e4))
def test_it_never_waits_longer_than_the_most(retry: int, jitter: float, hint: float | None, most: float) -> None:
    assert 0 <= delay_s(retry, base_s=0.5, most_s=most, jitter=jitter, hint_s=hint) <= most


@pytest.mark.parametrize(("retry", "jitter"), [(-1, 0.5), (0, 1.5), (0, -0.1)])
def test_nonsense_is_refused(retry: int, jitter: float) -> None:
    with pytest.raises(ValueError, match="jitter"):
        delay_s(retry, base_s=1, most_s=10, jitter=jitter)
