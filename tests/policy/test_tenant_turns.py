"""Turns between tenants: shares, lifts, corrections, bounded memory."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.policy.tenant_turns import REMEMBERED, TenantTurns


def serve(turns: TenantTurns, cost: float) -> str:
    tenant = turns.first()
    assert tenant is not None
    turns.charge(tenant, cost)
    return tenant


def test_two_that_always_wait_take_turns() -> None:
    turns = TenantTurns({})
    turns.join("a")
    turns.join("b")
    assert [serve(turns, 1.0) for _ in range(6)] == ["a", "b"] * 3


def test_weights_are_shares() -> None:
    turns = TenantTurns({"heavy": 3.0})
    for tenant in ("heavy", "light"):
        turns.join(tenant)
    assert Counter(serve(turns, 1.0) for _ in range(400)) == {"heavy": 300, "light": 100}


def test_idle_time_earns_no_credit() -> None:
    turns = TenantTurns({})
    turns.join("busy")
    for _ in range(100):
        serve(turns, 1.0)
    turns.join("idle")
    assert Counter(serve(turns, 1.0) for _ in range(10))["idle"] <= 6


def test_the_flooder_pays_for_what_it_started_before_anybody_waited() -> None:
    turns = TenantTurns({})
    for _ in range(8):
        turns.charge("flood", 1.0)
    turns.join("flood")
    turns.join("mouse")
    assert turns.first() == "mouse"


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=2), st.integers(0, 1000))
def test_seconds_in_use_even_out_whatever_was_expected(true_costs: list[float], seed: int) -> None:
    rng = random.Random(seed)
    turns = TenantTurns({})
    used: Counter[str] = Counter()
    cost = dict(zip("ab", true_costs, strict=True))
    for tenant in "ab":
        turns.join(tenant)
    largest = 0.0
    for _ in range(300):
        tenant = serve(turns, 1.0)
        took = cost[tenant] * rng.uniform(0.5, 1.5)
        turns.correct(tenant, took - 1.0)
        used[tenant] += took  # type: ignore[assignment]  # seconds
        largest = max(largest, took)
    assert abs(used["a"] - used["b"]) <= 2 * largest + 1e-6


def test_leaving_and_coming_back_keeps_what_was_charged() -> None:
    turns = TenantTurns({})
    turns.join("a")
    turns.join("b")
    assert serve(turns, 50.0) == "a"
    turns.leave("a")
    turns.join("a")
    assert [serve(turns, 10.0) for _ in range(5)] == ["b"] * 5
    turns.leave("a")
    turns.leave("b")
    assert turns.first() is None


def test_memory_is_bounded_and_a_waiting_tenant_is_never_forgotten() -> None:
    turns = TenantTurns({})
    turns.join("waits")
    for number in range(20 * REMEMBERED):
        turns.charge(f"t{number}", 1.0)
    assert len(turns) <= 2 * REMEMBERED
    assert turns.first() == "waits"
    for _ in range(10_000):
        turns.correct("waits", 0.001)
    assert len(turns._heap) <= 70


@pytest.mark.parametrize("slots", [1, 4])
def test_the_promised_bound_with_calls_in_flight(slots: int) -> None:
    rng = random.Random(3)
    turns = TenantTurns({})
    for tenant in "ab":
        turns.join(tenant)
    used = {"a": 0.0, "b": 0.0}
    running: list[tuple[float, str, float]] = []
    now = 0.0
    for _ in range(2000):
        while len(running) < slots:
            tenant = serve(turns, 1.0)
            took = rng.choice([0.1, 1.0, 5.0])
            running.append((now + took, tenant, took))
        running.sort()
        now, tenant, took = running.pop(0)
        used[tenant] += took
        turns.correct(tenant, took - 1.0)
        assert abs(used["a"] - used["b"]) <= 5.0 * (2 * slots + 1)
