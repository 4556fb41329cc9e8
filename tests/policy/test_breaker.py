"""The circuit breaker, driven by plain numbers."""

from random import Random

import pytest

from headgate.policy.breaker import Breaker, BreakerRules, BreakerState, wilson_lower

RULES = BreakerRules(
    failure_rate=0.5, minimum_calls=8, consecutive=5, window_s=60, open_for_s=10, open_at_most_s=60, probes=1
)
MIDDLE = 0.5
"""The jitter that changes nothing."""


def fail(breaker: Breaker, now: float, times: int = 1) -> None:
    for _ in range(times):
        breaker.on_failure(now, epoch=breaker.epoch, jitter=MIDDLE)


def opened() -> Breaker:
    breaker = Breaker(RULES)
    fail(breaker, 0.0, 5)
    assert breaker.state is BreakerState.OPEN
    return breaker


def test_one_of_three_does_not_open_it() -> None:
    breaker = Breaker(RULES)
    for _ in range(2):
        breaker.on_alive(0.0, epoch=0)
    fail(breaker, 0.0)
    assert breaker.state is BreakerState.CLOSED
    assert breaker.may_start(0.0)


def test_failures_in_a_row_open_it() -> None:
    breaker = Breaker(RULES)
    fail(breaker, 1.0, 4)
    assert not breaker.refuses(1.0)
    change = breaker.on_failure(1.0, epoch=0, jitter=MIDDLE)
    assert change is not None
    assert (change.old, change.new, change.reason) == ("closed", "open", "consecutive_failures")
    assert breaker.refuses(1.0)
    assert breaker.reopens_in(1.0) == 10.0


def test_a_share_of_failures_opens_it_once_there_is_evidence() -> None:
    assert verdict(6, 2, failure_rate=0.5) is BreakerState.CLOSED
    assert verdict(7, 2, failure_rate=0.5) is BreakerState.OPEN


def verdict(bad: int, good: int, **rules: float) -> BreakerState:
    """The state after these endings, failures last in groups that are never many in a row."""
    breaker = Breaker(BreakerRules(consecutive=1000, **rules))  # type: ignore[arg-type]  # plain numbers
    for _ in range(good):
        breaker.on_alive(0.0, epoch=0)
    fail(breaker, 0.0, bad)
    return breaker.state


@pytest.mark.parametrize(
    ("bad", "good", "rate", "opens"),
    [
        (1, 2, 0.15, False),
        (2, 6, 0.15, False),
        (4, 4, 0.15, True),
        (14, 86, 0.15, False),
        (23, 77, 0.15, True),
        (7, 1, 0.8, True),
        (6, 2, 0.8, False),
        (5, 0, 0.8, False),
        (60, 40, 0.8, False),
        (85, 15, 0.8, True),
    ],
)
def test_it_opens_on_evidence_and_not_on_accidents(bad: int, good: int, rate: float, opens: bool) -> None:
    assert (verdict(bad, good, failure_rate=rate) is BreakerState.OPEN) == opens


@pytest.mark.parametrize(("bad", "total", "lower"), [(0, 0, 0.0), (0, 9, 0.0), (5, 6, 0.497), (7, 10, 0.442)])
def test_the_wilson_interval_is_the_published_one(bad: int, total: int, lower: float) -> None:
    assert wilson_lower(bad, total) == pytest.approx(lower, abs=0.002)


def test_a_soft_breaker_keeps_a_trickle_going_and_closes_after_two_clean_probes() -> None:
    breaker, now, gaps = Breaker(BreakerRules()), 0.0, []
    fail(breaker, now, 8)
    for _ in range(7):
        gaps.append(breaker.reopens_in(now))
        now += gaps[-1]
        breaker.begin_probe()
        assert not breaker.may_start(now)  # one at a time
        breaker.on_failure(now, epoch=breaker.epoch, jitter=MIDDLE, probe=True)
    assert gaps == [1, 2, 4, 8, 16, 30, 30]
    now += breaker.reopens_in(now)
    breaker.begin_probe()
    assert breaker.on_alive(now, epoch=breaker.epoch, probe=True) is None
    assert breaker.may_start(now)
    breaker.begin_probe()
    closed = breaker.on_alive(now, epoch=breaker.epoch, probe=True)
    assert closed is not None
    assert closed.new is BreakerState.CLOSED


def test_two_clean_probes_of_the_last_four_close_it() -> None:
    breaker, now = Breaker(BreakerRules()), 0.0
    fail(breaker, now, 8)
    states = []
    for clean in (True, False, False, False, True, False, True):
        now += breaker.reopens_in(now)
        breaker.begin_probe()
        if clean:
            breaker.on_alive(now, epoch=breaker.epoch, probe=True)
        else:
            breaker.on_failure(now, epoch=breaker.epoch, jitter=MIDDLE, probe=True)
        states.append(breaker.state)
    assert BreakerState.CLOSED not in states[:-1]
    assert states[-1] is BreakerState.CLOSED


def test_a_clean_probe_brings_the_next_one_soon() -> None:
    breaker, now = Breaker(BreakerRules()), 0.0
    fail(breaker, now, 8)
    waits = []
    for clean in (False, False, False, True, False):
        now += breaker.reopens_in(now)
        breaker.begin_probe()
        if clean:
            breaker.on_alive(now, epoch=breaker.epoch, probe=True)
        else:
            breaker.on_failure(now, epoch=breaker.epoch, jitter=MIDDLE, probe=True)
        waits.append(breaker.reopens_in(now))
    assert waits[:3] == [2.0, 4.0, 8.0]
    assert waits[4] == 2.0


def test_a_row_of_failures_is_no_evidence_where_half_of_the_calls_fail_anyway() -> None:
    """With every other call failing by chance, rows of eight come every few minutes; they opened it, and it stayed
    away for a minute and more from a dependency that did half of its work."""
    opened = {8: 0, 1000: 0}
    for consecutive in opened:
        for seed in range(20):
            rng, breaker, now = Random(seed), Breaker(BreakerRules(consecutive=consecutive)), 0.0
            for _ in range(1500):
                now += 0.1
                if breaker.state is not BreakerState.CLOSED:
                    opened[consecutive] += 1
                    break
                if rng.random() < 0.5:
                    breaker.on_alive(now, epoch=breaker.epoch)
                else:
                    breaker.on_failure(now, epoch=breaker.epoch, jitter=MIDDLE)
    assert opened[1000] <= 1
    assert opened[8] <= 3


def test_a_row_of_failures_opens_at_once_what_was_well() -> None:
    breaker, now = Breaker(BreakerRules()), 0.0
    for _ in range(200):
        now += 0.1
        breaker.on_alive(now, epoch=breaker.epoch)
    fail(breaker, now, 7)
    assert breaker.state is BreakerState.CLOSED
    fail(breaker, now, 1)
    assert breaker.state is BreakerState.OPEN


def test_one_clean_probe_of_four_does_not_close_it() -> None:
    breaker, now = Breaker(BreakerRules()), 0.0
    fail(breaker, now, 8)
    for clean in (True, False, False, False, True):
        now += breaker.reopens_in(now)
        breaker.begin_probe()
        if clean:
            breaker.on_alive(now, epoch=breaker.epoch, probe=True)
        else:
            breaker.on_failure(now, epoch=breaker.epoch, jitter=MIDDLE, probe=True)
    assert breaker.state is BreakerState.PROBING


def test_old_failures_are_forgotten() -> None:
    breaker = Breaker(RULES)
    fail(breaker, 0.0, 4)
    breaker.on_alive(1.0, epoch=0)
    for call in range(6):
        breaker.on_alive(100.0 + call, epoch=0)
    fail(breaker, 110.0, 2)
    assert breaker.state is BreakerState.CLOSED


def test_full_counts_only_while_nothing_succeeds() -> None:
    breaker = Breaker(RULES)
    breaker.on_alive(0.0, epoch=0)
    for _ in range(50):
        breaker.on_full(1.0, epoch=0, jitter=MIDDLE)
    assert breaker.state is BreakerState.CLOSED
    for _ in range(5):
        breaker.on_full(100.0, epoch=0, jitter=MIDDLE)  # the success has left the window
    assert breaker.state is BreakerState.OPEN


def test_it_lets_a_single_probe_through_and_closes_on_success() -> None:
    breaker = opened()
    assert not breaker.may_start(9.9)
    assert breaker.may_start(10.0)
    change = breaker.begin_probe()
    assert change is not None
    assert change.new is BreakerState.PROBING
    assert not breaker.may_start(10.0)
    assert not breaker.refuses(10.0)
    closed = breaker.on_alive(11.0, epoch=breaker.epoch, probe=True)
    assert closed is not None
    assert closed.new is BreakerState.CLOSED
    assert breaker.may_start(11.0)


def test_a_failed_probe_opens_it_for_twice_as_long_up_to_the_most() -> None:
    breaker, now, lengths = opened(), 0.0, []
    for _ in range(5):
        now += breaker.reopens_in(now)
        breaker.begin_probe()
        change = breaker.on_failure(now, epoch=breaker.epoch, jitter=MIDDLE, probe=True)
        assert change is not None
        lengths.append(change.open_for_s)
    assert lengths == [20, 40, 60, 60, 60]


def test_open_times_are_jittered_by_a_quarter_and_obey_a_hint() -> None:
    def length(jitter: float, hint_s: float | None = None) -> float:
        breaker = Breaker(RULES)
        fail(breaker, 0.0, 4)
        breaker.on_failure(0.0, epoch=0, jitter=jitter, hint_s=hint_s)
        return breaker.reopens_in(0.0)

    assert [length(0.0), length(1.0), length(0.5, 33.0), length(0.5, 2.0)] == [7.5, 12.5, 33.0, 10.0]


def test_endings_from_before_the_last_change_are_no_evidence() -> None:
    breaker = opened()
    breaker.begin_probe()
    breaker.on_alive(11.0, epoch=breaker.epoch, probe=True)
    for _ in range(20):
        breaker.on_failure(12.0, epoch=0, jitter=MIDDLE)
    assert breaker.state is BreakerState.CLOSED


def test_an_abandoned_probe_can_be_made_again() -> None:
    breaker = opened()
    breaker.begin_probe()
    breaker.on_nothing(probe=True)
    assert breaker.state is BreakerState.PROBING
    assert breaker.may_start(10.0)
