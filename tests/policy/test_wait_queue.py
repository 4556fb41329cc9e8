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
    tenant: str = "t"
    bytes: int = 0
    due: float | None = None

    @property
    def urgency(self) -> float:
        return self.asked_at if self.due is None else self.due


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
    queue.push(Waiter(2, 1.0))
    queue.push(Waiter(1, 4.0))
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


def test_within_a_tenant_the_most_urgent_goes_first() -> None:
    queue: WaitQueue[Waiter] = WaitQueue(10)
    late, soon = Waiter(1, 0.0, due=300.0), Waiter(1, 1.0, due=30.0)
    queue.push(late)
    queue.push(soon)
    assert queue.head() is soon
    queue.discard(soon)
    assert queue.head() is late


def test_tenants_take_turns_and_a_flood_makes_room() -> None:
    queue: WaitQueue[Waiter] = WaitQueue(10)
    flood = [Waiter(1, float(at), "flood") for at in range(10)]
    for waiter in flood:
        assert queue.push(waiter)
    mouse = Waiter(1, 11.0, "mouse")
    assert not queue.push(mouse)
    assert queue.makes_room_for(Waiter(1, 11.0, "flood")) is None
    assert queue.makes_room_for(Waiter(2, 11.0, "other")) is None
    assert queue.makes_room_for(mouse) is flood[-1]
    queue.discard(flood[-1])
    assert queue.push(mouse)
    queue.charge(flood[0], 1.0)
    queue.discard(flood[0])
    assert queue.head() is mouse


def test_an_earlier_lane_makes_the_last_one_give_way() -> None:
    queue: WaitQueue[Waiter] = WaitQueue(3)
    low = [Waiter(9, 0.0, "a"), Waiter(9, 1.0, "b"), Waiter(5, 2.0, "c")]
    for waiter in low:
        queue.push(waiter)
    assert queue.makes_room_for(Waiter(1, 3.0, "d")) in low[:2]
    queue.discard(low[0])
    queue.discard(low[1])
    assert queue.makes_room_for(Waiter(5, 3.0, "c")) is None


def test_even_parts_are_not_taken_from_each_other() -> None:
    queue: WaitQueue[Waiter] = WaitQueue(4)
    for at, tenant in enumerate("aabb"):
        queue.push(Waiter(1, float(at), tenant))
    assert queue.makes_room_for(Waiter(1, 9.0, "a")) is None
    assert queue.makes_room_for(Waiter(1, 9.0, "c")) is not None


def test_bytes_are_bounded_exactly() -> None:
    queue: WaitQueue[Waiter] = WaitQueue(10, most_bytes=100)
    first = Waiter(1, 0.0, bytes=60)
    assert queue.push(first)
    assert not queue.push(Waiter(1, 1.0, bytes=41))
    assert queue.push(Waiter(1, 1.0, bytes=40))
    queue.discard(first)
    assert queue.bytes == 40


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from("xyz"), st.floats(0, 9), st.integers(0, 3)), max_size=150)
)
def test_any_history_keeps_counts_bounds_and_order(steps: list[tuple[int, str, float, int]]) -> None:
    queue: WaitQueue[Waiter] = WaitQueue(15, most_bytes=40)
    inside: list[Waiter] = []
    for at, (rank, tenant, due, action) in enumerate(steps):
        if action < 2:
            waiter = Waiter(rank, float(at), tenant, bytes=rank, due=due)
            if (victim := queue.makes_room_for(waiter)) is not None and not queue.fits(waiter):
                assert victim in inside
                assert victim.rank >= waiter.rank
                queue.discard(victim)
                inside.remove(victim)
            if queue.push(waiter):
                inside.append(waiter)
        elif inside and (head := queue.head()) is not None:
            best = min(one.rank for one in inside)
            assert head.rank == best
            mine = [one for one in inside if (one.rank, one.tenant) == (best, head.tenant)]
            assert head.urgency == min(one.urgency for one in mine)
            queue.charge(head, due)
            gone = head if action == 2 else inside[at % len(inside)]
            queue.discard(gone)
            inside.remove(gone)
        assert len(queue) == len(inside) <= 15
        assert queue.bytes == sum(one.bytes for one in inside) <= 40
        assert (queue.head() is None) == (not inside)
        assert set(map(id, queue.everybody())) == set(map(id, inside))


@given(
    waiting=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), max_size=12),
    rank=st.integers(0, 3),
    size=st.integers(0, 120),
)
def test_just_enough_of_later_lanes_leave_for_bytes(waiting: list[tuple[int, int]], rank: int, size: int) -> None:
    queue: WaitQueue[Waiter] = WaitQueue(50, most_bytes=100)
    for at, (their_rank, their_bytes) in enumerate(waiting):
        queue.push(Waiter(their_rank, float(at), bytes=their_bytes))
    newcomer, before = Waiter(rank, 99.0, bytes=size), queue.bytes
    later = [one for one in queue.everybody() if one.rank > rank]
    left = queue.makes_room_in_bytes_for(newcomer)
    assert queue.bytes == before  # only asked
    if left is None:
        assert before - sum(one.bytes for one in later) + size > 100
        return
    assert all(one.rank > rank and one.bytes for one in left)
    stays = [one for one in later if one not in left and one.bytes]
    assert all(one.rank <= gone.rank for one in stays for gone in left)
    for one in left:
        assert not queue.fits(newcomer)  # nobody leaves in vain
        queue.discard(one)
    assert queue.push(newcomer)
