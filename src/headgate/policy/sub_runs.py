"""What a run may give to a run that it spawns, and when spawning is going round in circles.

Decides: how much of a parent's budget a sub-run gets, and whether to warn of or refuse a sub-run because of the runs
above it. Source: shares as in hierarchical budgets of process trees (cgroups, Erlang supervisors): a child can never
have more than its parent has left. A recursion without end repeats its arguments sooner or later, or nests without
bound; the first is refused here, the second by the ceiling of depth.

Rule: a sub-run gets its share of the calls, model tokens and money that are left, but no more than its own workflow's
ceilings, and at least one call. Running time is not divided, because sub-runs run side by side: each gets what is
left. A workflow that stands above itself with the same input is refused; from ``warn`` times on with any input the
run is warned.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from headgate.policy.loops import Level
from headgate.policy.run_budget import Ceiling, Remaining

N = TypeVar("N", int, float)

SPAWN_SHARE = 0.5
"""Of what is left, for a sub-run whose share is not named: the parent and further sub-runs keep the rest."""


def share_of(left: Remaining, own: Ceiling, share: float) -> Ceiling:
    """The ceilings of a sub-run. ``own``: its workflow's; ``share``: 0 to 1, of what its parent has ``left``."""
    calls = None if left.calls is None else max(1, int(left.calls * share))
    tokens = None if left.model_tokens is None else left.model_tokens * share
    money = None if left.money is None else left.money * share
    return Ceiling(
        _lower(own.calls, calls),
        _lower(own.model_tokens, None if tokens is None else max(1, int(tokens))),
        _lower(own.money, money),
        _lower(own.wall_s, left.wall_s),
    )


def used_up(left: Remaining) -> str | None:
    """Which of the divided ceilings has nothing left, as `headgate.errors.BudgetExhausted` names it."""
    for name, amount in (("calls", left.calls), ("model tokens", left.model_tokens), ("money", left.money)):
        if amount is not None and amount <= 0:
            return name
    return None


@dataclass(frozen=True, slots=True)
class Chain:
    """What the runs above say about one more."""

    level: Level
    count: int
    """How often its workflow stands above it; with the same input, if that is why it is refused."""


def judge_chain(above: Iterable[tuple[str, str]], workflow: str, input: str, *, warn: int) -> Chain:
    """``above``: workflow and input of the spawning run and of those above it; ``warn``: so often is worth a word."""
    same_workflow = [given for name, given in above if name == workflow]
    same = same_workflow.count(input)
    if same:
        return Chain(Level.REFUSE, same)
    return Chain(Level.WARN if len(same_workflow) >= warn else Level.FINE, len(same_workflow))


def _lower(one: N | None, other: N | None) -> N | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
