"""The histogram keeps its promises: 1 % error, exact merging, bounded memory, forgetting on time."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.observe.histogram import LARGEST, RELATIVE_ERROR, Histogram, WindowedHistogram

VALUES = st.floats(min_value=1e-5, max_value=1e11)
SHARES = st.floats(min_value=0, max_value=1)


def of(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(st.lists(VALUES, min_size=1, max_size=60), SHARES)
def test_a_quantile_is_within_one_percent_of_the_value_at_its_rank(values: list[float], q: float) -> None:
    exact = sorted(values)[math.floor(q * (len(values) - 1))]
    found = of(values).quantile(q)
    assert found is not None
    assert abs(found - exact) <= RELATIVE_ERROR * exact * (1 + 1e-9)


@given(st.lists(VALUES, max_size=30), st.lists(VALUES, max_size=30), SHARES)
def test_merging_is_the_same_as_adding_everything_to_one(left: list[float], right: list[float], q: float) -> None:
    merged, both = of(left), of(left + right)
    merged.merge(of(right))
    assert merged.count == both.count == len(left) + len(right)
    assert merged.total == pytest.approx(both.total)
    assert merged.quantile(q) == both.quantile(q)


@given(st.lists(VALUES, max_size=30), st.lists(VALUES, min_size=1, max_size=30), SHARES)
def test_taking_out_what_was_merged_leaves_what_was_there(kept: list[float], gone: list[float], q: float) -> None:
    histogram = of(kept)
    histogram.merge(of(gone))
    histogram.take_out(of(gone))
    assert histogram.count == len(kept)
    assert histogram.quantile(q) == of(kept).quantile(q)
    assert histogram.buckets == of(kept).buckets


def test_memory_stays_bounded_whatever_is_added() -> None:
    histogram, rng = Histogram(), random.Random(3)
    for _ in range(50_000):
        histogram.add(10 ** rng.uniform(-30, 30))
    assert histogram.count == 50_000
    assert histogram.buckets < 2_200


def test_extremes_are_counted_at_the_ends() -> None:
    histogram = of([-5.0, 0.0, 1e-9])
    assert histogram.quantile(1) == 0.0
    assert histogram.total == pytest.approx(1e-9)
    assert of([1e30]).quantile(0.5) == pytest.approx(LARGEST, rel=RELATIVE_ERROR)
    assert of([math.inf]).quantile(0.5) == pytest.approx(LARGEST, rel=RELATIVE_ERROR)


def test_nothing_has_no_quantile_and_no_mean() -> None:
    assert Histogram().quantile(0.5) is None
    assert Histogram().mean() is None
    assert WindowedHistogram(10, 5).quantile(0.5, now=100.0) is None


def test_what_is_no_number_or_no_share_is_refused_and_changes_nothing() -> None:
    histogram = of([1.0])
    with pytest.raises(ValueError, match="not a number"):
        histogram.add(math.nan)
    with pytest.raises(ValueError, match="between 0 and 1"):
        histogram.quantile(1.5)
    assert histogram.count == 1
    with pytest.raises(ValueError, match="positive length"):
        WindowedHistogram(0, 3)


def test_cumulative_counts_never_fall_and_end_at_all() -> None:
    histogram = of([0.01, 0.2, 0.2, 3.0, 40.0])
    assert histogram.at_or_below([0.001, 0.05, 1.0, 10.0, math.inf]) == [0, 1, 3, 4, 5]


def test_a_copy_is_independent() -> None:
    original = of([1.0])
    twin = original.copy()
    twin.add(2.0)
    assert (original.count, twin.count) == (1, 2)


def test_the_window_forgets_a_slice_at_a_time() -> None:
    window = WindowedHistogram(60, slices=6)
    window.add(1.0, now=0.0)
    window.add(100.0, now=30.0)
    assert window.count(now=59.0) == 2
    assert window.count(now=60.0) == 1
    assert window.quantile(0.5, now=60.0) == pytest.approx(100.0, rel=RELATIVE_ERROR)
    assert window.mean(now=60.0) == pytest.approx(100.0)
    assert window.count(now=1000.0) == 0
    assert window.mean(now=1000.0) is None


def test_an_earlier_moment_counts_as_the_latest_one() -> None:
    window = WindowedHistogram(60, slices=6)
    window.add(5.0, now=100.0)
    window.add(7.0, now=20.0)
    assert window.count(now=20.0) == 2


@given(
    st.lists(st.tuples(VALUES, st.floats(min_value=0, max_value=300)), min_size=1, max_size=60),
    st.floats(min_value=0, max_value=100),
)
def test_the_window_remembers_at_most_its_length_and_at_least_all_but_a_slice(
    events: list[tuple[float, float]], later: float
) -> None:
    events = sorted(events, key=lambda event: event[1])
    window = WindowedHistogram(60, slices=6)
    for value, at in events:
        window.add(value, at)
    now = events[-1][1] + later
    remembered = window.count(now)
    assert sum(at > now - 50 for _, at in events) <= remembered <= sum(at > now - 60 - 1e-6 for _, at in events)


@given(st.lists(st.floats(0, 1e6), max_size=60), st.lists(st.floats(0, 1), max_size=5))
def test_several_quantiles_in_one_pass_are_those_of_one_each(values: list[float], shares: list[float]) -> None:
    histogram, shares = of(values), sorted(shares)
    assert histogram.quantiles(shares) == [histogram.quantile(q) for q in shares]


def test_quantiles_follow_what_came_and_went() -> None:
    window = WindowedHistogram(60, slices=6)
    window.add(1.0, now=0.0)
    assert window.quantiles((0.0, 1.0), now=0.0) == pytest.approx([1.0, 1.0], rel=RELATIVE_ERROR)
    window.add(100.0, now=30.0)
    assert window.quantiles((0.0, 1.0), now=30.0) == pytest.approx([1.0, 100.0], rel=RELATIVE_ERROR)
    assert window.quantiles((0.0, 1.0), now=65.0) == pytest.approx([100.0, 100.0], rel=RELATIVE_ERROR)


def test_quantiles_that_were_asked_for_before_are_of_now() -> None:
    shares = (0.0, 0.4, 0.5, 0.7, 1.0)
    histogram, more = of([1.0, 2.0]), of([2.0, 2.0, 1.0])
    assert histogram.quantiles(shares) == of([1.0, 2.0]).quantiles(shares)
    histogram.add(2.0)
    assert histogram.quantiles(shares) == of([1.0, 2.0, 2.0]).quantiles(shares)
    histogram.merge(more)
    assert histogram.quantiles(shares) == of([1.0, 1.0, 2.0, 2.0, 2.0, 2.0]).quantiles(shares)
    histogram.take_out(more)
    assert histogram.quantiles(shares) == of([1.0, 2.0, 2.0]).quantiles(shares)
    histogram.take_out(of([1.0]))
    assert histogram.quantiles(shares) == of([2.0, 2.0]).quantiles(shares)


def test_quantiles_that_do_not_ascend_are_refused() -> None:
    with pytest.raises(ValueError, match="ascend"):
        of([1.0]).quantiles((0.9, 0.5))
