"""A run's own ceilings, as its row and its steps tell them."""

from __future__ import annotations

from headgate.policy.run_budget import Ceiling, Remaining, RunBudget
from headgate.store.protocols import Ceilings, Claim

__all__ = ["Remaining", "RunBudget", "budget_of", "ceilings_of"]


def budget_of(claim: Claim) -> RunBudget:
    """The account of a claimed run."""
    run = claim.run
    wall_ms = run.budget_wall_ms
    ceiling = Ceiling(
        run.budget_calls,
        run.budget_model_tokens,
        run.budget_money,
        None if wall_ms is None else wall_ms / 1000,
    )
    calls, tokens, money = run.used_calls, run.used_model_tokens, run.used_money
    # The totals in the row are from attempts that ended in good order. One that vanished left its steps; steps
    # copied from the run that this one replays are older than the run and cost it nothing.
    if claim.steps:
        own = [step for step in claim.steps if step.started_ms >= run.submitted_ms]
        calls = max(calls, sum(step.tries for step in own))
        tokens = max(tokens, sum(step.model_tokens for step in own))
        money = max(money, sum(step.money for step in own))
    return RunBudget(
        ceiling,
        used_calls=calls,
        used_model_tokens=tokens,
        used_money=money,
        used_wall_s=run.used_wall_ms / 1000,
    )


def ceilings_of(claim: Claim) -> Ceilings:
    """The ceilings that the holder of this claim knows."""
    run = claim.run
    return Ceilings(run.budget_calls, run.budget_model_tokens, run.budget_money, run.budget_wall_ms)
