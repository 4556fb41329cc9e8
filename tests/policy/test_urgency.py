"""The order among waiting calls, alone and in a simulation of runs with deadlines."""

import heapq
import random
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from headgate.policy.urgency import NO_DEADLINE_S, reachable, urgency

seconds = st.floats(0, 1e6)


def test_the_near_deadline_leads_and_of_two_alike_the_one_nearly_done() -> None:
    assert urgency(0, deadline=30, remaining_s=5) < urgency(0, deadline=300, remaining_s=5)
    assert urgency(0, deadline=30, remaining_s=1) < urgency(0, deadline=30, remaining_s=5)
    assert urgency(0, deadline=30, progress=0.9) < urgency(0, deadline=30, progress=0.1)
    assert urgency(0, deadline=30) == urgency(0, deadline=30, progress=0.0)


@given(seconds, st.one_of(st.none(), seconds), st.one_of(st.none(), st.floats(-1, 2)))
def test_first_come_first_served_among_equals_without_a_deadline(
    at: float, remaining: float | None, progress: float | None
) -> None:
    first, second = (urgency(moment, remaining_s=remaining, progress=progress) for moment in (at, at + 1))
    assert first < second


@given(seconds, seconds, seconds)
def test_nobody_is_passed_for_ever(at: float, deadline: float, remaining: float) -> None:
    mine = urgency(at, deadline=deadline, remaining_s=remaining)
    long_after = max(at, deadline + 4 * remaining) + 2 * NO_DEADLINE_S
    assert mine < urgency(long_after, deadline=long_after, remaining_s=0)


def test_only_what_is_known_makes_work_unreachable() -> None:
    assert reachable(0, deadline=None, remaining_s=1e9, usual_s=1e9)
    assert reachable(0, deadline=0.1, remaining_s=None, usual_s=None)
    assert reachable(0, deadline=5, remaining_s=5, usual_s=1)
    assert not reachable(0, deadline=5, remaining_s=5.1, usual_s=1)
    assert not reachable(0, deadline=5, remaining_s=None, usual_s=6)


Order = Callable[[float, float, float], float]
"""Now, deadline and remaining seconds to a place in line."""


def finished_in_time(order: Order, *, feasible_only: bool, load: float, seed: int) -> float:
    """Share of runs of 3 to 12 calls that end by their deadlines on one dependency with eight places."""
    rng = random.Random(seed)
    moment, runs = 0.0, []
    while moment < 600:
        moment += rng.expovariate(load * 8 / 7.5)
        runs.append((moment, rng.randint(3, 12), moment + rng.choice([30, 30, 300, 3600])))
    left = [calls for _, calls, _ in runs]
    events = [(arrival, number, False) for number, (arrival, _, _) in enumerate(runs)]
    heapq.heapify(events)
    line: list[tuple[float, int, int]] = []
    busy = good = joined = 0
    while events:
        now, number, ended = heapq.heappop(events)
        busy -= ended
        left[number] -= ended
        if left[number]:
            joined += 1
            heapq.heappush(line, (order(now, runs[number][2], float(left[number])), joined, number))
        else:
            good += now <= runs[number][2]
        while line and busy < 8:
            _, _, waiting = heapq.heappop(line)
            needed = left[waiting] if feasible_only else 0.0
            if reachable(now, deadline=runs[waiting][2], remaining_s=needed, usual_s=None):
                busy += 1
                heapq.heappush(events, (now + rng.lognormvariate(-0.32, 0.8), waiting, True))
    return good / len(runs)


def mean_share(order: Order, *, feasible_only: bool = True, load: float) -> float:
    return sum(finished_in_time(order, feasible_only=feasible_only, load=load, seed=seed) for seed in range(3)) / 3


def ours(now: float, deadline: float, remaining: float) -> float:
    return urgency(now, deadline=deadline, remaining_s=remaining)


def test_under_overload_it_finishes_more_in_time_than_arrival_or_laxity() -> None:
    share = mean_share(ours, load=2)
    assert share > mean_share(lambda now, _deadline, _remaining: now, load=2) + 0.15
    assert share > mean_share(lambda _now, deadline, remaining: deadline - remaining, load=2) + 0.05
    assert share >= mean_share(lambda _now, deadline, _remaining: deadline, load=2) - 0.01


def test_starting_what_cannot_finish_wastes_slots() -> None:
    assert mean_share(ours, load=2) > mean_share(ours, feasible_only=False, load=2) + 0.02
    by_deadline = mean_share(lambda _now, deadline, _remaining: deadline, load=2)
    assert by_deadline > mean_share(lambda _now, deadline, _remaining: deadline, feasible_only=False, load=2) + 0.05


def test_below_capacity_everything_is_in_time() -> None:
    assert mean_share(ours, load=0.8) > 0.98
