"""Fair queueing by charged cost: turns by cost and weight, corrections, and no credit for idleness."""

from __future__ import annotations

import heapq
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.policy import fair_queue


def test_idle_time_earns_no_credit_and_forgives_no_debt() -> None:
    assert fair_queue.arrive(3.0, 100.0) == 100.0
    assert fair_queue.arrive(130.0, 100.0) == 130.0


def test_the_present_is_where_the_waiting_stand() -> None:
    assert fair_queue.present(50.0, None) == 50.0
    assert fair_queue.present(50.0, 20.0) == 20.0
    assert fair_queue.present(50.0, 80.0) == 50.0


def test_a_run_is_charged_its_estimate_once() -> None:
    assert fair_queue.due(3.0, 0.0) == 3.0
    assert fair_queue.due(3.0, 2.0) == 1.0
    assert fair_queue.due(3.0, 7.0) == 0.0


def test_a_charge_counts_by_weight() -> None:
    assert fair_queue.charge(10.0, 6.0, 2.0) == 13.0
    assert fair_queue.charge(10.0, -6.0, 2.0) == 7.0


def test_what_was_reached_never_falls() -> None:
    assert fair_queue.dispatch(10.0, 4.0) == 10.0
    assert fair_queue.dispatch(10.0, 14.0) == 14.0


@pytest.mark.parametrize(("cost", "weight"), [(0, 1), (1, 0), (-1, 1)])
def test_cost_and_weight_must_be_positive(cost: float, weight: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        fair_queue.check(cost, weight)
    with pytest.raises(ValueError, match="positive"):
        fair_queue.charge(0.0, 1.0, min(0, weight))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(2, 5), st.sampled_from([1.0, 0.3, 3.0, None]))
def test_flows_that_always_wait_differ_by_a_bounded_service(
    seed: int, slots: int, flows: int, wrong: float | None
) -> None:
    """Never by more than (largest single cost) * (slots + 1), however wrong the estimates are."""
    rng = random.Random(seed)
    virtual = [0.0] * flows
    largest = 0.0
    running: list[tuple[float, int, float, float]] = []
    now = 0.0
    for _ in range(400):
        while len(running) < slots:
            who = min(range(flows), key=lambda flow: virtual[flow])
            really = rng.uniform(0.1, 5.0) * (1 + who)
            estimate = really * (rng.uniform(0.3, 3.0) if wrong is None else wrong)
            largest = max(largest, really, estimate)
            virtual[who] = fair_queue.charge(virtual[who], fair_queue.due(estimate, 0.0), 1.0)
            heapq.heappush(running, (now + really, who, estimate, really))
            assert max(virtual) - min(virtual) <= largest * (slots + 1)
        now, who, estimate, really = heapq.heappop(running)
        virtual[who] = fair_queue.charge(virtual[who], really - estimate, 1.0)
        assert max(virtual) - min(virtual) <= largest * (slots + 1)
