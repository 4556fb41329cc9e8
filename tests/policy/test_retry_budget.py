"""What retries cost, and that nobody gets more than was earned."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.policy.retry_budget import RetryBudget, RetryKind, RunRetries


def empty(budget: RetryBudget) -> None:
    while budget.withdraw(RetryKind.THROTTLE, now=0.0):
        pass


def test_prices_differ_by_kind() -> None:
    def affordable(kind: RetryKind) -> int:
        budget = RetryBudget(share=0.1)
        count = 0
        while budget.withdraw(kind, now=0.0):
            count += 1
        return count

    assert [affordable(kind) for kind in (RetryKind.THROTTLE, RetryKind.TRANSIENT, RetryKind.TIMEOUT)] == [20, 10, 5]


def test_successes_earn_a_share_up_to_the_cap() -> None:
    budget = RetryBudget(share=0.25)
    empty(budget)
    for _ in range(4):
        budget.deposit()
    assert budget.withdraw(RetryKind.TRANSIENT, now=0.0)
    assert not budget.withdraw(RetryKind.THROTTLE, now=0.0)
    for _ in range(1000):
        budget.deposit()
    assert budget.balance(0.0) == 10.0


def test_a_trickle_lets_a_quiet_resource_retry_once_a_minute() -> None:
    budget = RetryBudget(share=0.1)
    empty(budget)
    assert not budget.withdraw(RetryKind.TRANSIENT, now=59.0)
    assert budget.withdraw(RetryKind.TRANSIENT, now=60.0)
    assert not budget.withdraw(RetryKind.TRANSIENT, now=61.0)


def test_a_refund_brings_back_the_price() -> None:
    budget = RetryBudget(share=0.1)
    before = budget.balance(0.0)
    assert budget.withdraw(RetryKind.TIMEOUT, now=0.0)
    budget.refund(RetryKind.TIMEOUT)
    assert budget.balance(0.0) == before


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="share"):
        RetryBudget(share=0.0)


@given(st.lists(st.tuples(st.sampled_from(["ok", *RetryKind]), st.floats(0, 5)), max_size=300))
def test_withdrawals_never_exceed_cap_plus_shares_plus_trickle(
    steps: list[tuple[str | RetryKind, float]],
) -> None:
    budget, now, spent, earned = RetryBudget(share=0.1), 0.0, 0.0, 0.0
    for step, passed in steps:
        now += passed
        if isinstance(step, RetryKind):
            spent += step.value if budget.withdraw(step, now=now) else 0.0
        else:
            budget.deposit()
            earned += 0.1
    assert spent <= 10 + earned + now / 60 + 1e-6
    assert 0 <= budget.balance(now) <= 10


def test_a_run_may_repeat_a_fifth_of_its_calls_and_three_in_any_case() -> None:
    runs = RunRetries()
    runs.call("short")
    assert [runs.withdraw("short") for _ in range(5)] == [True, True, True, False, False]
    runs.refund("short")
    assert runs.withdraw("short")
    for _ in range(100):
        runs.call("long")
    assert sum(runs.withdraw("long") for _ in range(100)) == 20


def test_runs_are_forgotten_beyond_a_bound() -> None:
    runs = RunRetries()
    for number in range(RunRetries.REMEMBERED + 50):
        runs.call(f"r{number}")
    assert len(runs) == RunRetries.REMEMBERED
    runs.refund("r0")
    assert runs.withdraw("r0")


def test_what_was_retried_without_asking_is_paid_but_never_owed() -> None:
    budget = RetryBudget(share=0.1)
    budget.spend(4.0)
    assert budget.balance(0.0) == 6.0
    budget.spend(100.0)
    assert budget.balance(0.0) == 0.0
