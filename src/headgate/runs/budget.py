"""A run's own ceilings, as its row and its steps tell them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from headgate.config.settings import FleetBudget
from headgate.model.run import RunRecord
from headgate.policy.holds import MEMORY, TOOL_CALLS
from headgate.policy.run_budget import Ceiling, Remaining, RunBudget
from headgate.store.protocols import Ceilings, Claim, Runs

if TYPE_CHECKING:
    from headgate.runs.attempt import Attempt

__all__ = ["Remaining", "RunBudget", "budget_of", "ceilings_of", "follow_raise"]


def budget_of(claim: Claim) -> RunBudget:
    """The account of a claimed run."""
    run = claim.run
    ceiling = _ceiling(run)
    calls, tokens, money = run.used_calls, run.used_model_tokens, run.used_money
    # The totals in the row are from attempts that ended in good order. One that vanished left its steps; steps
    # copied from the run that this one replays are older than the run and cost it nothing.
    if claim.steps:
        own = [step for step in claim.steps if step.started_ms >= run.submitted_ms]
        calls = max(calls, sum(step.tries for step in own))
        tokens = max(tokens, sum(step.model_tokens for step in own))
        money = max(money, math.fsum(step.money for step in own))
    return RunBudget(
        ceiling,
        used_calls=calls,
        used_model_tokens=tokens,
        used_money=money,
        used_wall_s=run.used_wall_ms / 1000,
    )


def ceilings_of(attempt: Attempt) -> Ceilings:
    """The ceilings that the holder of this run knows."""
    ceiling = attempt.meter.ceiling
    wall_ms = None if ceiling.wall_s is None else round(1000 * ceiling.wall_s)
    tokens = None if ceiling.model_tokens is None else round(ceiling.model_tokens)
    return Ceilings(ceiling.calls, tokens, ceiling.money, wall_ms)


async def follow_raise(attempt: Attempt, runs: Runs) -> bool:
    """Look whether somebody has raised the ceilings since the attempt knows them, and go by the new ones.

    Raises:
        StoreError: the store cannot tell.
    """
    run = await runs.get(attempt.run.id)
    if run is None:
        return False
    ceiling = _ceiling(run)
    raised = ceiling != attempt.meter.ceiling
    attempt.meter.ceiling = ceiling
    return raised


def _ceiling(run: RunRecord) -> Ceiling:
    wall_ms = run.budget_wall_ms
    wall_s = None if wall_ms is None else wall_ms / 1000
    return Ceiling(run.budget_calls, run.budget_model_tokens, run.budget_money, wall_s)


def shared_by_running(budget: FleetBudget) -> dict[str, int]:
    """What there is of each thing that running runs share."""
    limits = {MEMORY: budget.memory, TOOL_CALLS: budget.tool_calls}
    return {key: most for key, most in limits.items() if most is not None}
