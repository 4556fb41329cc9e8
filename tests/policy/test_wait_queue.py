"""The line in front of a resource."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.policy.wait_queue import WaitQueue


@dataclass(eq=False)
class Waiter:
    rank: int
    asked_at: float


def test_smaller_rank_first_then_first_come() -> None:
    queue: WaitQueue[Waiter] = WaitQueue(10)
    waiters = [Waiter(rank, float(at)) for at, rank in enumerate([5, 1, 5, 1, 3])]
    for waiter in waiters:
        assert queue.push(waiter)
    assert [waiters.index(waiter) for waiter in queue.everybody()] == [1, 3, 4, 0, 2]
    assert queue.head() is waiters[1]


def test_the_bound_is_exact_and_a_refused_push_changes_nothing() -> None:
    queue: WaitQueue[Waiter] = WaitQueue(2)
    assert [queue.push(Waiter(1, 0.0)) for _ in range(4)] == [True, True, False, False]
    assert len(queue) == 2


def test_the_oldest_is_found_across_ranks() -> None:
    queue: WaitQueue[Waiter] = WaitQueue(5)
    assert queue.oldest_age_s(9.0) == 0.0
    queue.push(Waiter(1, 4.0))
    queue.push(Waiter(2, 1.0))
    assert queue.oldest_age_s(9.0) == 8.0


def test_nobody_stands_in_line_twice() -> None:
    queue: WaitQueue[Waiter] = WaitQueue(5)
    waiter = Waiter(1, 0.0)
    queue.push(waiter)
    with pytest.raises(ValueError, match="once"):
        queue.push(waiter)
    assert queue.discard(waiter)
    assert not queue.discard(waiter)


def test_a_queue_without_room_for_anybody_is_refused() -> None:
    with pytest.raises(ValueError, match="depth"):
        WaitQueue(0)


@given(st.lists(st.one_of(st.integers(0, 4), st.just("pop"), st.just("leave")), max_size=200))
def test_it_agrees_with_a_sorted_list(steps: list[int | str]) -> None:
    queue: WaitQueue[Waiter] = WaitQueue(20)
    model: list[Waiter] = []
    for at, step in enumerate(steps):
        if isinstance(step, int):
            waiter = Waiter(step, float(at))
            assert queue.push(waiter) == (len(model) < 20)
            if len(model) < 20:
                model.append(waiter)
        elif model:
            model.sort(key=lambda one: (one.rank, one.asked_at))
            gone = model.pop(0) if step == "pop" else model.pop(len(model) // 2)
            if step == "pop":
                assert queue.head() is gone
            assert queue.discard(gone)
        assert len(queue) == len(model)
