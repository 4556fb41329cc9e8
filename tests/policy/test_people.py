"""New runs are slowed while people do not keep up, and not otherwise."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate.policy.people import (
    ANSWERS_REMEMBERED,
    Answered,
    Pace,
    Trend,
    follow,
    likely,
    pace,
    short_of_room,
    slowed,
    wait_s,
    would_fail,
)


def _seen(*waiting: int, every_ms: int = 5_000) -> Trend:
    trend = Trend()
    for n, count in enumerate(waiting):
        trend = follow(trend, waiting=count, now_ms=n * every_ms)
    return trend


def test_nothing_is_refused_below_half_or_while_people_keep_up() -> None:
    assert short_of_room(Trend(), depth=1) == 0.0
    assert short_of_room(_seen(0, 2, 5), depth=10) == 0.0
    assert short_of_room(_seen(9, 9, 8), depth=10) == 0.0
    assert short_of_room(_seen(*([9] * 30)), depth=10) == 0.0


def test_the_fuller_it_gets_the_more_is_refused_until_all_is() -> None:
    shares = [short_of_room(_seen(0, waiting), depth=10) for waiting in range(11)]
    assert [round(share, 1) for share in shares] == [0, 0, 0, 0, 0, 0, 0.2, 0.4, 0.6, 0.8, 1.0]


def test_what_happened_more_than_a_minute_ago_is_no_trend() -> None:
    assert short_of_room(_seen(0, *([8] * 14)), depth=10) == 0.0
    assert short_of_room(_seen(0, *([8] * 10)), depth=10) > 0.5


def test_only_as_many_are_refused_as_will_ask() -> None:
    assert [likely(asks) for asks in (0.4, 3.0)] == [0.4, 1.0]
    assert likely(0.0) == 0.1, "what is learned may be too little"


@given(st.lists(st.integers(0, 60), min_size=1, max_size=200), st.integers(1, 50), st.integers(1, 20_000))
def test_the_share_stays_in_bounds_and_memory_is_small(waiting: list[int], depth: int, every_ms: int) -> None:
    trend = _seen(*waiting, every_ms=every_ms)
    share = short_of_room(trend, depth=depth)
    assert 0.0 <= share <= 1.0
    assert (share == 1.0) == (waiting[-1] >= depth)
    assert len(trend.marks) <= 14


def test_three_people_who_take_twenty_seconds_are_three_people() -> None:
    """They answer what was asked long before, one after the other."""
    answers = [Answered(0, 7_000 * who + 20_000 * nth, f"p{who}") for nth in range(1, 6) for who in range(3)]
    known = pace(answers[3:] + answers[:3])
    assert known is not None
    assert (known.people, known.takes_s, known.mostly_s) == (3, 20.0, 20.0)
    assert known.per_s == 0.15


def test_an_idle_person_is_not_taken_to_be_slow() -> None:
    """Between the answers of somebody who waits for questions lie hours."""
    known = pace([Answered(3_600_000 * nth, 3_600_000 * nth + 15_000, "ann") for nth in range(5)])
    assert known is not None
    assert (known.people, known.takes_s) == (1, 15.0)


def test_a_few_answers_tell_nothing() -> None:
    assert pace([]) is None
    assert pace([Answered(0, 9, "ann"), Answered(1, 10, "bob")]) is None


def test_a_pace_is_not_believed_through_a_long_silence() -> None:
    known = Pace(people=3, takes_s=20.0, mostly_s=25.0)
    assert [slowed(known, silent_s=silent) for silent in (0.0, 20.0, 60.0)] == [0.15, 0.15, 0.05]


def test_a_question_waits_for_those_before_it_and_for_what_comes_in_earlier_lanes() -> None:
    known = Pace(people=3, takes_s=20.0, mostly_s=25.0)
    assert wait_s(known, per_s=0.15, before=2) == 20.0, "somebody is free"
    assert round(wait_s(known, per_s=0.15, before=5), 6) == 40.0
    assert round(wait_s(known, per_s=0.15, before=5, comes_per_s=0.1), 6) == 80.0
    assert round(wait_s(known, per_s=0.15, before=5, comes_per_s=9.0), 6) == 220.0, "a tenth is always left"


def test_a_run_is_refused_only_if_it_would_probably_ask_and_be_too_late() -> None:
    assert would_fail(asks=1.0, wait_s=61.0, longest_s=60.0)
    assert would_fail(asks=0.5, wait_s=61.0, longest_s=60.0)
    assert not would_fail(asks=0.5, wait_s=60.0, longest_s=60.0)
    assert not would_fail(asks=0.4, wait_s=9_999.0, longest_s=60.0), "most such runs need nobody"


_ANSWERS = st.lists(
    st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from(["ann", "bob", ""])).map(
        lambda one: Answered(one[0], one[0] + one[1], one[2])
    ),
    max_size=90,
)


@given(_ANSWERS, st.floats(0, 10**6), st.floats(0, 500), st.floats(0, 500), st.floats(0, 9))
def test_waits_are_sane(answers: list[Answered], silent_s: float, fewer: float, more: float, comes: float) -> None:
    known = pace(answers)
    assert (known is None) == (len(answers) < 3)
    if known is None:
        return
    assert 1 <= known.people <= min(3, ANSWERS_REMEMBERED)
    assert 0 < known.takes_s <= known.mostly_s
    per_s = slowed(known, silent_s=silent_s)
    assert 0 < per_s <= known.per_s
    short, long = sorted((fewer, fewer + more))
    assert (
        known.takes_s
        <= wait_s(known, per_s=per_s, before=short, comes_per_s=comes)
        <= wait_s(known, per_s=per_s, before=long, comes_per_s=comes)
    )
