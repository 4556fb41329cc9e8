"""New runs are slowed while people do not keep up, and not otherwise."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate.policy.people import Trend, answers_per_s, follow, refused_share


def _seen(*waiting: int, every_ms: int = 5_000) -> Trend:
    trend = Trend()
    for n, count in enumerate(waiting):
        trend = follow(trend, waiting=count, oldest_ms=0 if count else None, now_ms=n * every_ms)
    return trend


def test_nothing_is_refused_below_half_or_while_people_keep_up() -> None:
    assert refused_share(Trend(), depth=1) == 0.0
    assert refused_share(_seen(0, 2, 5), depth=10) == 0.0
    assert refused_share(_seen(9, 9, 8), depth=10) == 0.0
    assert refused_share(_seen(*([9] * 30)), depth=10) == 0.0


def test_the_fuller_it_gets_the_more_is_refused_until_all_is() -> None:
    shares = [refused_share(_seen(0, waiting), depth=10) for waiting in range(11)]
    assert [round(share, 1) for share in shares] == [0, 0, 0, 0, 0, 0, 0.2, 0.4, 0.6, 0.8, 1.0]


def test_what_happened_more_than_a_minute_ago_is_no_trend() -> None:
    assert refused_share(_seen(0, *([8] * 14)), depth=10) == 0.0
    assert refused_share(_seen(0, *([8] * 10)), depth=10) > 0.5


def test_the_rate_of_answers_follows_from_the_wait() -> None:
    assert answers_per_s(Trend()) is None
    assert answers_per_s(Trend(waiting=6, oldest_ms=0, at_ms=60_000)) == 0.1


@given(st.lists(st.integers(0, 60), min_size=1, max_size=200), st.integers(1, 50), st.integers(1, 20_000))
def test_the_share_stays_in_bounds_and_memory_is_small(waiting: list[int], depth: int, every_ms: int) -> None:
    trend = _seen(*waiting, every_ms=every_ms)
    share = refused_share(trend, depth=depth)
    assert 0.0 <= share <= 1.0
    assert (share == 1.0) == (waiting[-1] >= depth)
    assert len(trend.marks) <= 14


def test_only_as_many_are_refused_as_will_ask() -> None:
    full = _seen(0, 20)
    assert refused_share(full, depth=20, asks=0.4) == 0.4
    assert refused_share(full, depth=20, asks=3.0) == 1.0
    assert refused_share(full, depth=20, asks=0.0) == 0.1  # what is learned may be too little
    assert refused_share(_seen(0, 15), depth=20, asks=0.4) == 0.2
