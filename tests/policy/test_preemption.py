"""Preemption: who makes room for whom, and that it stays within its bounds."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from headgate.policy.preemption import Bounds, CallTimes, Candidate, Head, Use, average, may_ask, victim, wanted

BOUNDS = Bounds()
ENTITLED = {"critical": 2.0, "standard": 6.0, "background": 2.0}
RANKS = {lane: rank for rank, lane in enumerate(ENTITLED)}


def use(running: dict[str, int], **averages: float) -> dict[str, Use]:
    """Ten slots; where no average is given, it has been so for long."""
    return {
        lane: Use(running.get(lane, 0), share, averages.get(lane, running.get(lane, 0)))
        for lane, share in ENTITLED.items()
    }


FULL = use({"background": 10})
HEAD = Head("critical", 0, 5.0)


def candidate(key: int = 1, lane: str = "background", **fields: object) -> Candidate:
    return replace(Candidate(key, lane, RANKS[lane]), **fields)  # type: ignore[arg-type]


def test_the_highest_head_that_has_waited_long_enough_is_helped() -> None:
    heads = [Head("standard", 1, 9.0), Head("critical", 0, 1.5)]
    assert wanted(heads, FULL, BOUNDS, others_s=1.2) == heads[1]
    assert wanted(heads, FULL, BOUNDS, others_s=1.6) == heads[0]


def test_a_lane_with_its_share_waits_for_the_longer_time() -> None:
    running = {"critical": 2, "background": 8}
    assert wanted([Head("critical", 0, 1.9)], use(running), BOUNDS, others_s=1.0) is None
    assert wanted([Head("critical", 0, 2.0)], use(running), BOUNDS, others_s=1.0) is not None


def test_nobody_waits_longer_than_the_longer_time_because_others_are_slow() -> None:
    assert wanted([Head("critical", 0, 2.0)], FULL, BOUNDS, others_s=50.0) is not None


def test_the_lowest_lane_goes_first_then_the_cheapest_to_stop() -> None:
    running = {"standard": 8, "background": 3}
    cheap = candidate(1, "standard", to_step_s=0.1)
    far, near = candidate(2, to_step_s=9.0), candidate(3, to_step_s=3.0, redo_s=1.0)
    assert victim([cheap, far, near], HEAD, use(running), BOUNDS) == near
    assert victim([cheap, far], HEAD, use(running), BOUNDS) == far
    assert victim([cheap], HEAD, use(running), BOUNDS) == cheap


def test_runs_near_their_end_are_spared_but_not_those_that_overrun() -> None:
    assert victim([candidate(done=0.9)], HEAD, FULL, BOUNDS) is None
    assert victim([candidate(remaining_s=1.0, to_step_s=2.0)], HEAD, FULL, BOUNDS) is None
    overrun = candidate(done=1.0, remaining_s=0.0)
    assert victim([overrun], HEAD, FULL, BOUNDS) == overrun


def test_a_lane_within_its_share_is_left_alone() -> None:
    assert victim([candidate()], HEAD, use({"background": 2}), BOUNDS) is None
    assert victim([candidate()], HEAD, use({"background": 3}), BOUNDS) is not None


def test_a_single_slot_is_taken_from_a_lane_that_had_more_than_its_share_lately() -> None:
    idle = Use(0, 0.2, 0.0)
    assert victim([candidate()], HEAD, {"critical": idle, "background": Use(1, 0.1, 0.09)}, BOUNDS) is None
    assert victim([candidate()], HEAD, {"critical": idle, "background": Use(1, 0.1, 0.5)}, BOUNDS) is not None
    served = Use(0, 0.2, 0.3)
    assert victim([candidate()], HEAD, {"critical": served, "background": Use(1, 0.1, 0.5)}, BOUNDS) is None


def test_a_lane_with_its_share_gets_only_whole_slots_that_are_lent() -> None:
    lanes = {"critical": Use(2, 1.5, 2.0), "background": Use(2, 1.5, 2.0)}
    assert victim([candidate()], HEAD, lanes, BOUNDS) is None
    assert victim([candidate()], HEAD, {**lanes, "background": Use(3, 1.5, 2.0)}, BOUNDS) is not None


@given(st.lists(st.tuples(st.floats(0.01, 100), st.integers(0, 20)), min_size=1, max_size=50))
def test_the_average_stays_among_what_was_seen_and_begins_evenly(looks: list[tuple[float, int]]) -> None:
    value = age_s = 0.0
    for elapsed_s, used in looks:
        value = average(value, used, elapsed_s=elapsed_s, age_s=age_s)
        age_s += elapsed_s
        if age_s <= 60:
            past = looks[: looks.index((elapsed_s, used)) + 1] if looks.count((elapsed_s, used)) == 1 else None
            if past is not None:
                assert abs(value - sum(s * u for s, u in past) / sum(s for s, _ in past)) < 1e-6
    assert min(used for _, used in looks) - 1e-6 <= value <= max(used for _, used in looks) + 1e-6


def test_a_call_that_lasts_longer_than_any_lasts_as_long_again() -> None:
    assert CallTimes([]).left_s(0.0) == 0.0
    assert CallTimes([]).left_s(3.0) == 3.0
    assert CallTimes([1.0, 2.0]).left_s(2.0) == 2.0


def test_a_call_takes_as_long_as_those_that_lasted_longer() -> None:
    times = CallTimes([2.0] * 50 + [10.0] * 50)
    assert abs(times.left_s(0.0) - 6.0) < 0.1  # either kind
    assert abs(times.left_s(3.0) - 7.0) < 0.2  # surely one of the long ones
    assert times.left_s(9.5) < 1.0


@given(st.lists(st.floats(0, 1000), max_size=60), st.floats(0, 1000))
def test_what_a_call_still_takes_lies_between_nothing_and_the_longest(seen: list[float], elapsed_s: float) -> None:
    left_s = CallTimes(seen).left_s(elapsed_s)
    longer = [one - elapsed_s for one in seen if one > elapsed_s]
    assert min([*longer, elapsed_s]) - 1e-6 <= left_s <= max([*longer, elapsed_s]) + 1e-6
    assert CallTimes(reversed(seen)).left_s(elapsed_s) == left_s


def test_a_worker_asks_so_often_in_a_minute() -> None:
    bounds = Bounds(per_minute=2)
    assert may_ask([0.0], 10.0, bounds)
    assert not may_ask([0.0, 5.0], 10.0, bounds)
    assert may_ask([0.0, 5.0], 60.0, bounds)


seconds = st.floats(0, 100)
candidates = st.builds(
    lambda lane, rest: replace(Candidate(0, lane, RANKS[lane]), **rest),
    st.sampled_from(list(ENTITLED)),
    st.fixed_dictionaries(
        {
            "key": st.integers(0, 1000),
            "redo_s": seconds,
            "to_step_s": seconds,
            "remaining_s": st.none() | seconds,
            "done": st.none() | st.floats(0, 1),
            "preemptions": st.integers(0, 5),
            "since_s": st.none() | st.floats(0, 120),
            "spared": st.booleans(),
        }
    ),
)


@given(
    st.lists(candidates, max_size=12),
    st.sampled_from(list(ENTITLED)),
    st.dictionaries(st.sampled_from(list(ENTITLED)), st.integers(0, 10)),
    st.integers(1, 4),
    st.floats(1, 90),
)
def test_what_is_taken_is_always_allowed_and_never_dearer_than_another_of_its_lane(
    running_runs: list[Candidate], lane: str, running: dict[str, int], per_run: int, every_s: float
) -> None:
    head, bounds, lanes = Head(lane, RANKS[lane], 5.0), Bounds(per_run=per_run, every_s=every_s), use(running)

    def allowed(one: Candidate) -> bool:
        return (
            one.rank > head.rank
            and not one.spared
            and not one.near_end
            and one.preemptions < per_run
            and (one.since_s is None or one.since_s >= every_s)
            and running.get(one.lane, 0) - 1 >= ENTITLED[one.lane] - (1 if lanes[lane].short else 0)
            and running.get(one.lane, 0) > ENTITLED[one.lane]
        )

    taken = victim(running_runs, head, lanes, bounds)
    fit = [one for one in running_runs if allowed(one)]
    if taken is None:
        assert not fit
        return
    assert allowed(taken)
    assert taken.rank == max(one.rank for one in fit)
    assert taken.cost_s == min(one.cost_s for one in fit if one.rank == taken.rank)


@given(st.lists(st.floats(0, 300), max_size=200), st.integers(1, 40))
def test_no_minute_sees_more_than_was_allowed(moments: list[float], per_minute: int) -> None:
    bounds, asked = Bounds(per_minute=per_minute), list[float]()
    for now in sorted(moments):
        if may_ask(asked, now, bounds):
            asked.append(now)
    assert all(sum(1 for other in asked if 0 <= other - one < 60) <= per_minute for one in asked)


def test_a_run_is_preempted_so_often_and_no_more() -> None:
    now, last, times = 0.0, None, 0
    while now < 3600:
        one = candidate(preemptions=times, since_s=None if last is None else now - last)
        if victim([one], HEAD, FULL, BOUNDS) is not None:
            assert last is None or now - last >= 60
            last, times = now, times + 1
        now += 1
    assert times == BOUNDS.per_run
