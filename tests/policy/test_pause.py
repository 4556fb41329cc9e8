"""A rule begins on evidence, after a while, and ends below lower thresholds, after a while."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from headgate.policy.pause import NOTHING_HELD, HeldBack, PauseRule, Seen, Watch, follow

RULE = PauseRule(p95_s=8.0, until_p95_s=4.0, error_rate=0.5, breaker=True, after_s=10.0, least_calls=8)
CALM = Seen(1.0, 0.0, False, 100)
SLOW = Seen(9.0, 0.0, False, 100)


def looks(watch: Watch, seen: Callable[[int], Seen], seconds: int, *, start: int, rule: PauseRule = RULE) -> Watch:
    for second in range(start, start + seconds):
        watch = follow(watch, rule, seen(second), now_s=float(second))
    return watch


def busy(p95_s: float | None, error_rate: float = 0.0, *, broken: bool = False) -> Callable[[int], Seen]:
    """One call a second."""
    return lambda second: Seen(p95_s, error_rate, broken, second)


def test_it_begins_after_a_while_and_says_why() -> None:
    watch = looks(Watch(), busy(1.0), 60, start=0)
    assert not watch.on
    watch = looks(watch, busy(9.5), 10, start=60)
    assert not watch.on
    watch = looks(watch, busy(9.5), 1, start=70)
    assert watch.on
    assert watch.why == "p95 9.5 s, above 8 s"


def test_one_good_look_starts_the_wait_again() -> None:
    watch = looks(Watch(), busy(1.0), 60, start=0)
    watch = looks(watch, busy(9.5), 9, start=60)
    watch = looks(watch, busy(1.0), 1, start=69)
    assert not looks(watch, busy(9.5), 10, start=70).on


def test_it_ends_below_the_lower_threshold_only() -> None:
    watch = looks(Watch(), busy(9.5), 60, start=0)
    assert watch.on
    watch = looks(watch, busy(5.0), 60, start=60)
    assert watch.on, "between the two thresholds nothing changes"
    watch = looks(watch, busy(3.9), 10, start=120)
    assert watch.on
    assert not looks(watch, busy(3.9), 1, start=130).on


def test_the_lower_threshold_is_half_by_default() -> None:
    rule = PauseRule(error_rate=0.5, after_s=1.0)
    watch = looks(Watch(), busy(None, 0.6), 60, start=0, rule=rule)
    assert watch.on
    assert watch.why == "error rate 60%, above 50%"
    assert looks(watch, busy(None, 0.3), 5, start=60, rule=rule).on
    assert not looks(watch, busy(None, 0.2), 5, start=60, rule=rule).on


def test_a_few_calls_are_no_evidence() -> None:
    def rare(second: int) -> Seen:
        return Seen(30.0, 1.0, False, second // 10)

    assert not looks(Watch(), rare, 300, start=0).on


def test_an_open_breaker_is_evidence_enough() -> None:
    watch = looks(Watch(), lambda _: Seen(None, 0.0, True, 0), 11, start=0)
    assert watch.on
    assert watch.why == "its breaker is not closed"


def test_a_breaker_that_waits_for_a_probe_lets_the_held_back_work_make_it() -> None:
    watch = looks(Watch(), lambda _: Seen(None, 0.0, True, 9), 30, start=0)
    assert watch.on
    shut = looks(watch, lambda _: Seen(None, 0.0, True, 9, untried=False), 300, start=30)
    assert shut.on, "it turns calls away"
    ended = looks(shut, lambda _: Seen(None, 0.0, True, 9, untried=True), 11, start=330)
    assert not ended.on
    idle = looks(ended, lambda _: Seen(None, 0.0, True, 9, untried=True), 300, start=341)
    assert not idle.on, "nobody has tried since"
    assert looks(idle, lambda _: Seen(None, 0.0, True, 10), 11, start=641).on


def test_held_back_work_that_makes_no_calls_is_tried_again() -> None:
    watch = looks(Watch(), busy(9.5), 60, start=0)
    assert watch.on
    assert not looks(watch, lambda _: Seen(None, 0.0, False, 60), 11, start=60).on


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 1), st.booleans(), st.integers(0, 5)), max_size=200))
def test_it_never_turns_faster_than_it_may_and_remembers_little(script: list[tuple[float, float, bool, int]]) -> None:
    watch, calls, turned = Watch(), 0, 0.0
    for second, (p95_s, errors, broken, more) in enumerate(script):
        calls += more
        after = follow(watch, RULE, Seen(p95_s, errors, broken, calls), now_s=float(second))
        if after.on != watch.on:
            assert second - turned >= RULE.after_s
            turned = float(second)
        assert len(after.marks) <= 14
        watch = after


def test_a_thinned_lane_keeps_at_least_one_slot_and_a_paused_one_none() -> None:
    held = HeldBack(lanes={"background": 0.1, "standard": 0.0})
    assert [held.open_slots(lane, 4) for lane in ("background", "standard", "critical")] == [1, 0, 4]
    assert held.open_slots("background", 40) == 4
    assert NOTHING_HELD.open_slots("background", 4) == 4
