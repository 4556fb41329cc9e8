"""A run's account."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.errors import BudgetExhausted
from headgate.policy.run_budget import MOST, Ceiling, Hold, Remaining, RunBudget, raised


def test_money_is_held_at_the_price_and_settled_to_the_cost() -> None:
    budget = RunBudget(Ceiling(money=1.0))
    held = budget.hold(model=True, model_tokens=30_000, price_per_1k=0.02)
    assert budget.remaining(ran_s=0.0).money == pytest.approx(0.4)
    with pytest.raises(BudgetExhausted) as full:
        budget.hold(model=True, model_tokens=30_000, price_per_1k=0.02)
    assert full.value.dimension == "money"
    budget.settle(held, tries=1, model_tokens=10_000, money=0.2, model=True)
    assert budget.remaining(ran_s=0.0).money == pytest.approx(0.8)


def test_calls_without_an_estimate_are_held_at_the_runs_mean() -> None:
    budget = RunBudget(Ceiling(model_tokens=1000))
    first = budget.hold(model=True, guess=600.0)
    assert first.model_tokens == 600.0
    budget.settle(first, tries=1, model_tokens=200, model=True)
    assert [budget.hold(model=True, guess=600.0).model_tokens for _ in range(4)] == [200.0] * 4
    with pytest.raises(BudgetExhausted):
        budget.hold(model=True, guess=600.0)
    assert budget.hold(model=False) == Hold()


def test_running_time_is_a_ceiling_over_all_attempts() -> None:
    budget = RunBudget(Ceiling(wall_s=60.0), used_wall_s=50.0)
    budget.hold(model=False, ran_s=9.9)
    with pytest.raises(BudgetExhausted, match="running time"):
        budget.hold(model=False, ran_s=10.0)


def test_what_is_left_in_one_sentence() -> None:
    assert Remaining(None, None).words() == "This run has no limits of its own."
    assert Remaining(1, None).words() == "Left for this run: 1 call."
    whole = Remaining(12, 40_000, 1.25, 500.0, 65.0).words()
    assert whole == (
        "Left for this run: 12 calls, 40000 model tokens, 1.25 of money, 8 min of running time and 65 s until the "
        "deadline."
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["hold", "settle", "back"]), st.integers(0, 500), st.integers(0, 400), st.booleans()
        ),
        max_size=60,
    )
)
def test_holds_never_leak_and_a_ceiling_is_passed_only_by_wrong_estimates(
    moves: list[tuple[str, int, int, bool]],
) -> None:
    budget = RunBudget(Ceiling(calls=20, model_tokens=2000, money=2.0))
    open_holds: list[Hold] = []
    excess, calls = 0.0, 0
    for move, estimate, took, known in moves:
        if move == "hold":
            try:
                tokens = estimate if known else None
                open_holds.append(budget.hold(model=True, model_tokens=tokens, guess=100.0, price_per_1k=1.0))
                calls += 1
                if not known:  # room for something was enough
                    excess += open_holds[-1].model_tokens
            except BudgetExhausted:
                continue
        elif open_holds:
            held = open_holds.pop()
            if move == "settle":
                budget.settle(held, tries=1, model_tokens=took, money=took / 1000, model=True)
                excess += max(0.0, took - held.model_tokens)
            else:
                budget.give_back(held)
                calls -= 1
        assert budget.used_calls == calls <= 20
        assert budget.used_model_tokens <= 2000 + excess
    while open_holds:
        budget.give_back(open_holds.pop())
    left = budget.remaining(ran_s=0.0)
    assert left.model_tokens == max(0, 2000 - budget.used_model_tokens)
    assert left.calls == 20 - budget.used_calls


@given(st.integers(1, 10**15), st.none() | st.integers(1, 10**15), st.none() | st.integers(1, 10**15))
def test_a_ceiling_is_never_lowered_and_never_beyond_the_most(present: int, to: int | None, by: int | None) -> None:
    after = raised(present, to, by)
    assert after is not None
    assert present <= after <= MOST
    if by is not None and present + by <= MOST:
        assert after >= present + by or (to is not None and to < present)
    assert raised(None, to, by) is None
