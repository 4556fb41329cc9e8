"""What a sub-run gets of its parent's budget, and when spawning goes round in circles."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate.policy.loops import Level
from headgate.policy.run_budget import Below, Ceiling, Remaining, RunBudget
from headgate.policy.sub_runs import judge_chain, share_of, used_up

AMOUNTS = st.integers(1, 10_000)
SHARES = st.floats(0.0, 1.0, exclude_min=True)


def test_a_share_is_cut_by_the_workflows_own_ceilings() -> None:
    left = Remaining(calls=100, model_tokens=1000, money=8.0, wall_s=60.0)
    assert share_of(left, Ceiling(calls=10), 0.25) == Ceiling(10, 250, 2.0, 60.0)
    assert share_of(left, Ceiling(calls=500, money=1.0, wall_s=5.0), 0.25) == Ceiling(25, 250, 1.0, 5.0)
    assert share_of(Remaining(None, None), Ceiling(calls=7), 0.5) == Ceiling(calls=7)


def test_what_is_used_up_is_named() -> None:
    assert used_up(Remaining(calls=0, model_tokens=5)) == "calls"
    assert used_up(Remaining(calls=1, model_tokens=0)) == "model tokens"
    assert used_up(Remaining(calls=None, model_tokens=None, money=0.0)) == "money"
    assert used_up(Remaining(calls=1, model_tokens=None, money=0.5)) is None


@given(calls=AMOUNTS, tokens=AMOUNTS, shares=st.lists(SHARES, max_size=20))
def test_shares_never_promise_more_than_there_is_but_for_the_one_call_each_gets(
    calls: int, tokens: int, shares: list[float]
) -> None:
    budget = RunBudget(Ceiling(calls, tokens, 5.0))
    given_out = Below()
    for share in shares:
        left = budget.remaining(ran_s=0.0)
        if used_up(left) is not None:
            break
        grant = share_of(left, Ceiling(calls=1_000_000), share)
        assert grant.calls is not None
        assert grant.model_tokens is not None
        assert grant.money is not None
        given_out = Below(
            given_out.calls + grant.calls,
            given_out.model_tokens + int(grant.model_tokens),
            given_out.money + grant.money,
        )
        budget.below = given_out
    assert given_out.calls <= calls
    assert given_out.model_tokens <= tokens
    assert given_out.money <= 5.0 + 1e-9


@given(inputs=st.lists(st.integers(0, 5), max_size=20), last=st.integers(0, 5), warn=st.integers(2, 10))
def test_the_same_input_above_is_refused_and_many_of_a_workflow_are_warned_of(
    inputs: list[int], last: int, warn: int
) -> None:
    above = [("loop", str(number)) for number in inputs] + [("other", str(last))] * 30
    judged = judge_chain(above, "loop", str(last), warn=warn)
    if last in inputs:
        assert (judged.level, judged.count) == (Level.REFUSE, inputs.count(last))
    else:
        assert (judged.level, judged.count) == (Level.WARN if len(inputs) >= warn else Level.FINE, len(inputs))
