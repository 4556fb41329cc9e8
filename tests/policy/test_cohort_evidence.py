"""What the cohort limiter believes: the mean of unfinished groups, the knee, the wall, the effect of size."""

from __future__ import annotations

import math
from random import Random

import pytest

from headgate.policy.concurrency.knee import KneeBelief
from headgate.policy.concurrency.latency_sample import SizeEffect, censored_mean, overdue
from headgate.policy.concurrency.protocol import Stamp
from headgate.policy.concurrency.wall import PROBE_LEAST, Wall


@pytest.mark.parametrize("seen_until", [1.0, 2.0, 3.0])
def test_a_group_that_is_still_running_has_the_mean_of_the_whole(seen_until: float) -> None:
    rng = Random(5)
    values = [rng.gauss(2.0, 0.8) for _ in range(4000)]
    ended = [x for x in values if x <= seen_until]
    mean, spread = censored_mean(ended, [seen_until] * (len(values) - len(ended)), 0.0, 0.8)
    assert mean == pytest.approx(2.0, abs=0.15)
    assert spread == pytest.approx(0.8, abs=0.15)
    assert sum(ended) / len(ended) < mean - 0.05, "leaving the others out would look fast"


def test_one_wild_value_moves_the_mean_little() -> None:
    mean, _ = censored_mean([1.0, 1.1, 0.9] * 7 + [50.0], [], 0.0, 0.1)
    assert mean == pytest.approx(1.0, abs=0.05)


def test_a_group_of_which_none_ended_is_slower_than_it_is_old() -> None:
    mean, _ = censored_mean([], [3.0] * 20, 1.0, 0.5)
    assert 3.0 < mean < 5.0


def test_hazard_grows_without_bound_or_overflow() -> None:
    hazards = [overdue(z) for z in (-50.0, -5.0, 0.0, 2.0, 7.9, 8.1, 40.0, 1e6)]
    assert hazards == sorted(hazards)
    assert hazards[0] == 0.0
    assert hazards[2] == pytest.approx(math.log(2))


def latency(calls: float, knee: float, base: float) -> float:
    return base + max(0.0, math.log(calls / knee))


def explore(belief: KneeBelief, knee: float, base: float, levels: list[float], rng: Random) -> None:
    for calls in levels:
        belief.observe(math.log(calls), latency(calls, knee, base) + rng.gauss(0, 0.1), 0.1)


def test_the_knee_is_found_from_a_few_groups() -> None:
    belief = KneeBelief(1, 64)
    explore(belief, 16.0, 2.3, [4, 6, 10, 16, 25, 20, 18, 12, 20, 18], Random(1))
    assert math.exp(belief.knee(0.5)) == pytest.approx(16.0, rel=0.2)
    assert belief.base()[0] == pytest.approx(2.3, abs=0.1)


def test_less_capacity_and_a_slower_dependency_are_told_apart() -> None:
    for knee, base in ((6.0, 2.3), (16.0, 3.0)):
        belief, rng = KneeBelief(1, 64), Random(2)
        explore(belief, 16.0, 2.3, [4, 6, 10, 16, 25, 20, 18, 12, 20, 18], rng)
        explore(belief, knee, base, [20, 14, 10, 8, 6, 7], rng)
        assert math.exp(belief.knee(0.5)) == pytest.approx(knee, rel=0.3)
        assert belief.base()[0] == pytest.approx(base, abs=0.25)


def test_nothing_but_flat_latencies_leave_the_knee_above() -> None:
    belief = KneeBelief(1, 64)
    explore(belief, 1000.0, 0.0, [4, 6, 10, 16, 16, 16, 16, 16], Random(3))
    assert math.exp(belief.knee(0.6)) > 20


def test_what_size_explains_is_taken_out_as_far_as_it_does() -> None:
    rng = Random(4)
    for error, slope in ((0.1, 1.0), (0.8, 0.5)):
        effect = SizeEffect()
        scatter: list[float] = []
        for _ in range(40):
            group = []
            for _ in range(20):
                work = rng.gauss(0.0, 0.8)
                group.append((work, work + rng.gauss(0.0, error)))
            effect.learn(group)
            scatter += [effect.without(*call) for call in group]
        assert effect.slope == pytest.approx(slope, abs=0.12)
        spread = math.sqrt(sum(x * x for x in scatter) / len(scatter))
        assert spread < 1.1 * min(0.8, error) or spread < 0.65


def call(inflight: int, begun_at: float = 0.0) -> Stamp:
    return Stamp(0, begun_at, 1.0, inflight, bound=True)


def test_a_wall_is_left_alone_until_its_time_and_then_tried_once() -> None:
    wall = Wall()
    assert wall.refused(call(7), 7.0, (), now=0.0) == 6.0
    assert wall.bound(9.0) == (6.0, False)
    for i in range(10 * 7):
        wall.accepted(6, begun_at=1.0 + i)
    assert wall.bound(9.0) == (7.0, True)


def test_a_wall_that_stands_is_tried_more_rarely() -> None:
    wall, now, waits = Wall(), 0.0, []
    for _ in range(4):
        wall.refused(call(3, now), 3.0, (), now=now)
        wall.clean()
        good = 0
        while not wall.bound(3.0)[1]:
            now += 1
            good += 1
            wall.accepted(2, begun_at=now)
        waits.append(good)
    assert waits[0] >= PROBE_LEAST
    assert waits == sorted(waits)
    assert waits[-1] == 4 * waits[0]


def test_a_good_answer_on_the_wall_takes_it_down() -> None:
    wall = Wall()
    wall.refused(call(7), 7.0, (), now=0.0)
    assert wall.accepted(7, begun_at=1.0)
    assert wall.bound(50.0) == (50.0, False)


@pytest.mark.parametrize("at_work", [False, True])
def test_refusals_that_load_cannot_explain_give_back_what_they_took(at_work: bool) -> None:
    wall = Wall()
    level = wall.refused(call(20), 20.0, (), now=0.0)
    assert level == 19.0
    taken = [call(19, 1.0), call(19, 2.0)]
    if not at_work:
        for one in taken:
            wall.accepted(one.inflight, one.begun_at)
    level = wall.refused(call(19, 9.9), level, taken if at_work else (), now=10.0)
    assert level == 20.0, "19 were in flight and taken in between"
    assert wall.refused(call(20, 19.9), 20.0, (), now=20.0) == 20.0


@pytest.mark.parametrize("share", [0.0, 0.03, 0.1, 0.25, 0.4])
@pytest.mark.parametrize("cap", [2, 7, 17])
def test_a_cap_is_found_below_refusals_by_chance(share: float, cap: int) -> None:
    """One call a second with as many in flight as the level lets: some refused by chance, then all beyond a cap."""
    beyond = 0
    for seed in range(20):
        wall, rng, level = Wall(), Random(seed), 40.0
        for second in range(500):
            one = call(max(1, int(level)), second)
            capped = second >= 100 and one.inflight > cap
            if capped or rng.random() < share:
                level = wall.refused(one, level, (), now=second)
            else:
                wall.accepted(one.inflight, one.begun_at)
            beyond += capped
    assert beyond <= 0.1 * 20 * 400


def test_being_refused_alone_says_nothing_about_the_limit() -> None:
    wall = Wall()
    assert wall.refused(call(1), 8.0, (), now=0.0) == 8.0
    assert wall.count is None


def test_refusals_that_may_not_cut_teach_all_the_same() -> None:
    wall = Wall()
    level = wall.refused(call(20), 20.0, (), now=0.0)
    for i in range(6):
        at = 1.0 + i
        wall.accepted(19, begun_at=at)
        level = max(level, wall.refused(call(19, at), level, (), now=at, cuts=False))
    assert level == 20.0
    assert wall.count is None
