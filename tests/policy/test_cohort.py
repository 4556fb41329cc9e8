"""The cohort limiter's promises, call by call."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.model.outcome import Outcome
from headgate.policy.concurrency.cohort import CohortLimiter
from headgate.policy.concurrency.group import LEAST_CALLS
from headgate.policy.concurrency.protocol import Change, Stamp


def fill(limiter: CohortLimiter, now: float, *, size: float | None = None) -> list[Stamp]:
    """As many calls as the limit lets in."""
    return [limiter.begin(inflight=i + 1, size=size, now=now) for i in range(limiter.limit)]


def rounds(limiter: CohortLimiter, count: int, now: float, *, latency_s: float = 1.0, seed: int = 0) -> float:
    """Full rounds of calls that all end well; the time after them."""
    rng = Random(seed)
    for _ in range(count):
        for i, stamp in enumerate(fill(limiter, now)):
            took = latency_s * math.exp(rng.gauss(0, 0.1))
            limiter.end(stamp, Outcome.OK, inflight=limiter.limit - i, now=now + took)
        now += 2 * latency_s
    return now


@pytest.mark.parametrize(("least", "most"), [(0, 4), (5, 4), (-1, 1)])
def test_an_impossible_range_is_refused(least: int, most: int) -> None:
    with pytest.raises(ValueError, match="1 <= least <= most"):
        CohortLimiter(least, most)


def test_it_grows_while_the_limit_binds_and_nothing_slows_down() -> None:
    limiter = CohortLimiter(1, 64)
    start = limiter.limit
    rounds(limiter, 30, 0.0)
    assert limiter.limit > 4 * start


def test_it_does_not_grow_while_the_limit_is_not_reached() -> None:
    limiter = CohortLimiter(1, 64, start=20)
    now = 0.0
    for _ in range(200):
        stamp = limiter.begin(inflight=1, size=None, now=now)
        now += 1
        assert limiter.end(stamp, Outcome.OK, inflight=1, now=now) is None
    assert limiter.limit == 20


def test_a_burst_of_refusals_is_one_cut() -> None:
    limiter = CohortLimiter(1, 64, start=20)
    changes = [
        limiter.end(stamp, Outcome.OVERLOADED, inflight=20, now=0.05) for stamp in reversed(fill(limiter, 0.0))
    ]
    (change,) = [change for change in changes if change is not None]
    assert (change.old, change.new, change.reason) == (20, 19, "overload")
    assert change.inputs["inflight"] == 20
    assert limiter.generation == 1


def test_refusals_of_calls_from_before_the_cut_do_not_cut_again() -> None:
    limiter = CohortLimiter(1, 64, start=20)
    old = fill(limiter, 0.0)
    assert limiter.end(old.pop(), Outcome.OVERLOADED, inflight=20, now=0.1) is not None
    for stamp in old:
        assert limiter.end(stamp, Outcome.OVERLOADED, inflight=19, now=60.0) is None
    assert limiter.limit == 19


def test_refusals_after_the_cut_cut_deeper() -> None:
    limiter = CohortLimiter(1, 64, start=20)
    limiter.end(fill(limiter, 0.0).pop(), Outcome.OVERLOADED, inflight=20, now=0.1)
    again = limiter.begin(inflight=15, size=None, now=5.0)
    change = limiter.end(again, Outcome.OVERLOADED, inflight=15, now=5.1)
    assert change is not None
    assert change.new == round(0.7 * 14)


@pytest.mark.parametrize(("good", "limit"), [(6, 2), (7, 2), (11, 3), (4, 1)])
def test_the_nearest_whole_number_is_enforced(good: int, limit: int) -> None:
    limiter = CohortLimiter(1, 64, start=20)
    limiter.restart(good=good, now=1.0)
    assert limiter.limit == limit


def test_silence_is_cut_once_for_a_generation() -> None:
    limiter = CohortLimiter(1, 64)
    now = rounds(limiter, 10, 0.0)
    limit = limiter.limit
    fill(limiter, now)
    changes = [limiter.tick(now=now + second) for second in range(1, 120)]
    (change,) = [change for change in changes if change is not None]
    assert (change.old, change.new, change.reason) == (limit, round(0.7 * limit), "stall")
    assert changes.index(change) < 6, "calls of a second are overdue after a few"


def test_no_stall_is_seen_while_answers_come() -> None:
    limiter = CohortLimiter(1, 8, start=8)
    rng = Random(3)
    now = 0.0
    live: dict[Any, Any] = {}
    for _ in range(4000):
        while len(live) < limiter.limit:
            stamp = limiter.begin(inflight=len(live) + 1, size=None, now=now)
            live[stamp] = now + 10 * math.exp(rng.gauss(0, 0.8))
        now += 1
        for stamp in [stamp for stamp, until in live.items() if until <= now]:
            inflight, until = len(live), live.pop(stamp)
            limiter.end(stamp, Outcome.OK, inflight=inflight, now=until)
        change = limiter.tick(now=now)
        assert change is None or change.reason != "stall"


def test_one_call_that_takes_long_is_no_stall() -> None:
    limiter = CohortLimiter(1, 64)
    now = rounds(limiter, 10, 0.0)
    limiter.begin(inflight=1, size=None, now=now)
    assert all(limiter.tick(now=now + second) is None for second in range(1, 600))


def test_empty_answers_in_no_time_are_not_fast() -> None:
    limiter = CohortLimiter(1, 64)
    now = rounds(limiter, 12, 0.0)
    limit = limiter.limit
    for _ in range(50):
        for stamp in fill(limiter, now):
            limiter.end(stamp, Outcome.FAILED, inflight=limit, now=now + 0.018)
        now += 0.02
    assert limiter.limit == limit
    rounds(limiter, 6, now)
    assert limiter.limit >= 0.8 * limit, "a base learned from empty answers would have cut to the floor"


def test_timeouts_count_as_slow() -> None:
    """Sixteen calls at once are served; the others of a round get no answer."""
    limiter = CohortLimiter(1, 64)
    now = rounds(limiter, 8, 0.0)
    assert limiter.limit > 32
    for _ in range(20):
        stamps = fill(limiter, now)
        for i, stamp in enumerate(stamps):
            inflight = len(stamps) - i
            served = i % max(1, len(stamps) // 16) == 0
            limiter.end(
                stamp, Outcome.OK if served else Outcome.TIMEOUT, inflight=inflight, now=now + (1 if served else 20)
            )
        now += 21.0
    assert limiter.limit <= 40


def test_what_we_cancelled_says_nothing() -> None:
    limiter = CohortLimiter(1, 64, start=20)
    for _ in range(20):
        for stamp in fill(limiter, 0.0):
            assert limiter.end(stamp, Outcome.IGNORED, inflight=20, now=0.01) is None
    assert (limiter.limit, limiter.generation) == (20, 0)


def test_an_ending_counts_once() -> None:
    limiter = CohortLimiter(1, 64, start=20)
    stamp = fill(limiter, 0.0).pop()
    assert limiter.end(stamp, Outcome.OVERLOADED, inflight=20, now=0.1) is not None
    assert limiter.end(stamp, Outcome.OVERLOADED, inflight=20, now=9.0) is None


def test_memory_pressure_cuts_with_pauses_and_holds_growth() -> None:
    limiter = CohortLimiter(1, 64, start=20)
    change = limiter.press(0.95, now=0.0)
    assert change is not None
    assert (change.new, change.reason) == (14, "memory")
    assert limiter.press(0.99, now=5.0) is None
    assert limiter.press(0.84, now=20.0) is None, "below 85 %, but growth resumes only below 80 %"
    now = rounds(limiter, 20, 20.0)
    assert limiter.limit <= 14
    limiter.press(0.5, now=now)
    rounds(limiter, 20, now)
    assert limiter.limit > 14


def test_a_restart_begins_at_a_quarter() -> None:
    limiter = CohortLimiter(1, 64, start=20)
    change = limiter.restart(good=20, now=1.0)
    assert change is not None
    assert (change.old, change.new, change.reason) == (20, 5, "restart")


@pytest.mark.parametrize(("crowded", "limit"), [(False, 8), (True, 4)])
def test_a_restart_looks_at_what_went_well_not_at_what_the_outage_left(crowded: bool, limit: int) -> None:
    limiter = CohortLimiter(1, 64, start=4)
    limiter.press(0.9 if crowded else 0.1, now=0.5)
    limiter.restart(good=32, now=1.0)
    assert limiter.limit == limit


def test_after_an_outage_it_climbs_with_every_good_answer_to_what_went_well() -> None:
    limiter = CohortLimiter(1, 64, start=20)
    limiter.restart(good=20, now=1.0)
    now, limits = 1.0, [limiter.limit]
    for _ in range(3):
        for stamp in fill(limiter, now):
            limiter.end(stamp, Outcome.OK, inflight=limiter.limit, now=now + 1)
        limits.append(limiter.limit)
        now += 1
    assert limits[0] == 5
    assert limits[1] >= 9, "one more for each good answer"
    assert limits[2] >= 16


def test_the_climb_after_an_outage_ends_with_a_cut() -> None:
    limiter = CohortLimiter(1, 64, start=20)
    limiter.restart(good=20, now=1.0)
    stamps = fill(limiter, 1.0)
    limiter.press(0.95, now=1.5)
    after_cut = limiter.limit
    for stamp in stamps + fill(limiter, 1.6):
        limiter.end(stamp, Outcome.OK, inflight=5, now=2.0)
    assert limiter.limit == after_cut


def test_refusals_of_everything_leave_no_wall_behind() -> None:
    """An outage that refuses even a call that is alone says nothing about numbers of calls."""
    limiter = CohortLimiter(1, 64, start=16)
    now = 0.0
    while now < 60:
        for stamp in reversed(fill(limiter, now)):
            limiter.end(stamp, Outcome.OVERLOADED, inflight=stamp.inflight, now=now + 0.01)
        now += 1.0
    for _ in range(6):
        for stamp in fill(limiter, now):
            limiter.end(stamp, Outcome.OK, inflight=limiter.limit, now=now + 1)
        now += 1.0
    assert limiter.limit >= 8, "it climbs with the answers instead of waiting below a wall"


@pytest.mark.parametrize("failure", [Outcome.FAILED, Outcome.OVERLOADED, Outcome.IGNORED])
def test_quick_failures_do_not_hide_how_slow_the_answers_are(failure: Outcome) -> None:
    """Capacity falls to 8 while three of four calls fail at once: how slow the answers are is what counts."""
    limiter = CohortLimiter(1, 64)
    now = rounds(limiter, 10, 0.0)
    limit = limiter.limit
    assert limit >= 32
    rng, live = Random(9), dict[Stamp, float]()
    for _ in range(1200):
        sent_at = now
        while len(live) < limiter.limit:
            sent_at += 1e-4
            stamp = limiter.begin(inflight=len(live) + 1, size=None, now=sent_at)
            if rng.random() < 0.75:
                limiter.end(stamp, failure, inflight=len(live) + 1, now=sent_at)
                continue
            live[stamp] = math.exp(rng.gauss(0, 0.1))
        now += 0.1
        for stamp in list(live):
            live[stamp] -= 0.1 * min(1.0, 8 / len(live))
        for stamp in [stamp for stamp, left in live.items() if left <= 0]:
            inflight = len(live)
            del live[stamp]
            limiter.end(stamp, Outcome.OK, inflight=inflight, now=now)
    assert 6 <= limiter.limit <= 16


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_a_share_of_refusals_that_is_the_same_at_every_limit_does_not_hold_it_down(share: float) -> None:
    limiter = CohortLimiter(1, 32)
    now = rounds(limiter, 12, 0.0)
    assert limiter.limit == 32
    rng, live, limits = Random(5), list[tuple[float, Stamp]](), []
    while now < 600:
        while len(live) < limiter.limit:
            stamp = limiter.begin(inflight=len(live) + 1, size=None, now=now)
            if rng.random() < share:
                limiter.end(stamp, Outcome.OVERLOADED, inflight=len(live) + 1, now=now + 0.01)
                break
            live.append((now + math.exp(rng.gauss(0, 0.1)), stamp))
        now += 0.05
        for until, stamp in [one for one in live if one[0] <= now]:
            inflight = len(live)
            live.remove((until, stamp))
            limiter.end(stamp, Outcome.OK, inflight=inflight, now=now)
        limits.append(limiter.limit)
    assert sum(limits) / len(limits) >= 0.8 * 32


def test_another_range_keeps_the_limit_where_it_fits() -> None:
    limiter = CohortLimiter(1, 64, start=20)
    change = limiter.configure(1, 10)
    assert change is not None
    assert (change.new, change.reason) == (10, "config")
    assert limiter.configure(1, 100) is None
    rounds(limiter, 30, 0.0)
    assert limiter.limit > 10


@pytest.mark.parametrize("size", [0.0, -1.0, math.inf, math.nan, None])
def test_a_size_that_is_none_counts_as_unknown(size: float | None) -> None:
    limiter = CohortLimiter(1, 64)
    assert limiter.begin(inflight=1, size=size, now=0.0).size == 1.0


OUTCOMES = st.sampled_from(list(Outcome))
EVENTS = st.tuples(st.integers(0, 9), OUTCOMES, st.floats(0.0, 300.0), st.floats(0.01, 1000.0))


@settings(max_examples=60, deadline=None)
@given(least=st.integers(1, 4), span=st.integers(0, 40), events=st.lists(EVENTS, max_size=400))
def test_whatever_happens_the_limit_stays_in_range_and_tells_the_truth(
    least: int, span: int, events: list[tuple[int, Outcome, float, float]]
) -> None:
    limiter = CohortLimiter(least, least + span)
    live: list[Stamp] = []
    now, generation = 0.0, 0
    for which, outcome, wait_s, size in events:
        before = limiter.limit
        now += wait_s
        change: Change | None = None
        if which < 6 and len(live) < limiter.limit:
            live.append(limiter.begin(inflight=len(live) + 1, size=size, now=now))
        elif which < 9 and live:
            inflight = len(live)
            change = limiter.end(live.pop(which % inflight), outcome, inflight=inflight, now=now)
        else:
            change = limiter.tick(now=now)
        assert least <= limiter.limit <= least + span
        assert limiter.generation - generation in (0, 1)
        if change is None:
            assert limiter.limit == before
        else:
            assert (change.old, change.new) == (before, limiter.limit)
            assert change.new != change.old or change.reason == "provider_slow"
            assert change.inputs
        generation = limiter.generation
    assert LEAST_CALLS > 0
