"""Start-time fair queueing: turns by cost and weight, and no credit for idleness."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.policy import fair_queue


def test_a_flood_of_one_tenant_does_not_push_back_another() -> None:
    finish = 0.0
    flood = []
    for _ in range(50):
        place = fair_queue.enqueue(0.0, finish, cost=1.0, weight=1.0)
        finish = place.finish
        flood.append(place.start)
    other = fair_queue.enqueue(0.0, 0.0, cost=1.0, weight=1.0)
    assert sum(start < other.start for start in flood) == 0
    assert sum(start <= other.start for start in flood) == 1


def test_idle_time_earns_no_credit() -> None:
    place = fair_queue.enqueue(100.0, 3.0, cost=1.0, weight=1.0)
    assert place.start == 100.0


def test_the_lanes_time_never_falls() -> None:
    assert fair_queue.dispatch(10.0, 4.0) == 10.0
    assert fair_queue.dispatch(10.0, 14.0) == 14.0


@pytest.mark.parametrize(("cost", "weight"), [(0, 1), (1, 0), (-1, 1)])
def test_cost_and_weight_must_be_positive(cost: float, weight: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        fair_queue.enqueue(0, 0, cost=cost, weight=weight)


@given(st.lists(st.floats(0.1, 5.0), min_size=20, max_size=60), st.sampled_from([1.0, 2.0, 4.0]))
def test_backlogged_tenants_share_by_weight(costs: list[float], weight: float) -> None:
    """Served in order of virtual start, the light tenant is never ahead by more than its largest cost."""
    queue = []
    for tenant, share in (("light", 1.0), ("heavy", weight)):
        finish = 0.0
        for cost in costs * 5:
            place = fair_queue.enqueue(0.0, finish, cost=cost, weight=share)
            finish = place.finish
            queue.append((place.start, tenant, cost))
    queue.sort()
    served = {"light": 0.0, "heavy": 0.0}
    for _, tenant, cost in queue[: len(costs) * 4]:
        served[tenant] += cost
        assert abs(served["light"] - served["heavy"] / weight) <= 2 * max(costs)
