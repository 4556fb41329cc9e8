"""Conformance of `headgate.store.protocols.Claims.pause` and `Runs.raise_budget`."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from headgate.model.run import RunRecord, RunState
from headgate.store.protocols import Ceilings
from headgate.testing.store_conformance_ground import NOW, Ground, a_step

CEILINGS = Ceilings(calls=10, model_tokens=1000, money=2.5, wall_ms=60_000)


async def _started(ground: Ground, **changes: Any) -> RunRecord:
    return await ground.started(
        budget_calls=10, budget_model_tokens=1000, budget_money=2.5, budget_wall_ms=60_000, **changes
    )


async def _pause(ground: Ground, run: RunRecord, **changes: Any) -> bool | None:
    assert run.owner is not None
    fields: dict[str, Any] = {
        "now_ms": NOW,
        "until_ms": NOW + 5_000,
        "known": CEILINGS,
        "detail": "the ceiling",
        "used_calls": 3,
        "used_model_tokens": 990,
        "used_money": 1.25,
        "used_wall_ms": 700,
        **changes,
    }
    return await ground.store.claims.pause(run.id, run.owner, run.term, **fields)


async def a_run_is_paused_at_its_ceiling(ground: Ground) -> None:
    run = await _started(ground)
    assert (run.budget_money, run.budget_wall_ms, run.used_money, run.used_wall_ms) == (2.5, 60_000, 0.0, 0)
    assert await _pause(ground, run) is True
    paused = await ground.get(run)
    assert (paused.state, paused.reason, paused.detail) == (RunState.SUSPENDED, "budget_wait", "the ceiling")
    assert (paused.used_calls, paused.used_model_tokens, paused.used_money, paused.used_wall_ms) == (
        3,
        990,
        1.25,
        700,
    )
    assert paused.owner is None
    await ground.check_counters()
    assert await ground.store.upkeep.next_due_ms() == NOW + 5_000
    assert await ground.store.upkeep.wake(now_ms=NOW + 9_000, limit=10) == []
    assert await _pause(ground, run) is None  # no longer its holder


async def a_raised_budget_resumes(ground: Ground) -> None:
    run = await _started(ground)
    await _pause(ground, run)
    runs = ground.store.runs
    assert await runs.raise_budget(run.id, tenant="other", ceilings=Ceilings(calls=99)) is None
    assert await runs.raise_budget("nothing", tenant=None, ceilings=Ceilings(calls=99)) is None
    lower = await runs.raise_budget(run.id, tenant=None, ceilings=Ceilings(calls=1, money=0.5))
    assert lower is not None
    assert (lower.state, lower.budget_calls, lower.budget_money) == (RunState.SUSPENDED, 10, 2.5)
    raised = await runs.raise_budget(run.id, tenant="acme", ceilings=Ceilings(model_tokens=5000, money=4.0))
    assert raised is not None
    assert (raised.state, raised.budget_calls, raised.budget_model_tokens) == (RunState.QUEUED, 10, 5000)
    assert (raised.budget_money, raised.budget_wall_ms) == (4.0, 60_000)
    await ground.check_counters()
    (claim,) = await ground.claim(now_ms=NOW + 1)
    assert (claim.run.term, claim.run.budget_model_tokens, claim.run.used_money) == (2, 5000, 1.25)


async def raises_by_an_amount_add_up(ground: Ground) -> None:
    run = await _started(ground)
    await _pause(ground, run)
    runs = ground.store.runs
    more = Ceilings(calls=20, model_tokens=10, money=0.5, wall_ms=1_000)
    answers = await asyncio.gather(
        *(runs.raise_budget(run.id, tenant=None, ceilings=Ceilings(), more=more) for _ in range(10))
    )
    assert all(answer is not None and answer.state is RunState.QUEUED for answer in answers)
    after = await ground.get(run)
    assert (after.budget_calls, after.budget_model_tokens) == (210, 1100)
    assert (after.budget_money, after.budget_wall_ms) == (7.5, 70_000)
    await ground.check_counters()
    mixed = await runs.raise_budget(run.id, tenant=None, ceilings=Ceilings(calls=300), more=Ceilings(money=1.0))
    assert mixed is not None
    assert (mixed.budget_calls, mixed.budget_money) == (300, 8.5)
    bare = await ground.admit()
    answer = await runs.raise_budget(bare.id, tenant=None, ceilings=Ceilings(), more=more)
    assert answer is not None
    assert (answer.budget_calls, answer.budget_money) == (None, None)


async def a_raise_meets_a_pause_on_its_way(ground: Ground) -> None:
    run = await _started(ground)
    raised = await ground.store.runs.raise_budget(run.id, tenant=None, ceilings=Ceilings(calls=20))
    assert raised is not None
    assert raised.state is RunState.RUNNING
    assert await _pause(ground, run) is False
    back = await ground.get(run)
    assert (back.state, back.budget_calls, back.used_calls) == (RunState.QUEUED, 20, 3)
    await ground.check_counters()


async def no_ceiling_is_added_or_moved_after_the_end(ground: Ground) -> None:
    run = await ground.started()
    answer = await ground.store.runs.raise_budget(run.id, tenant=None, ceilings=CEILINGS)
    assert answer is not None
    assert (answer.budget_calls, answer.budget_money, answer.budget_wall_ms) == (None, None, None)
    ended = await _started(ground)
    await ground.finish(ended, used_money=0.75, used_wall_ms=40)
    answer = await ground.store.runs.raise_budget(ended.id, tenant=None, ceilings=Ceilings(calls=99))
    assert answer is not None
    assert (answer.state, answer.budget_calls) == (RunState.SUCCEEDED, 10)
    assert (answer.used_money, answer.used_wall_ms) == (0.75, 40)


async def patience_ends(ground: Ground) -> None:
    run = await _started(ground)
    await _pause(ground, run)
    assert await ground.store.upkeep.expire(now_ms=NOW + 4_999, limit=10) == []
    (moved,) = await ground.store.upkeep.expire(now_ms=NOW + 5_000, limit=10)
    assert (moved.run_id, moved.state, moved.reason) == (run.id, RunState.FAILED, "budget_exhausted")
    ended = await ground.get(run)
    assert ended.dead
    assert ended.detail is not None
    assert ended.detail.startswith("the ceiling")
    await ground.check_counters()
    assert await ground.store.upkeep.next_due_ms() is None


async def a_deadline_comes_before_patience(ground: Ground) -> None:
    run = await _started(ground, deadline_ms=NOW + 1_000)
    await _pause(ground, run)
    (moved,) = await ground.store.upkeep.expire(now_ms=NOW + 1_000, limit=10)
    assert (moved.state, moved.reason) == (RunState.EXPIRED, "deadline_passed")
    await ground.check_counters()


async def a_pause_of_a_cancelled_run_ends_it(ground: Ground) -> None:
    run = await _started(ground)
    await ground.store.runs.cancel(run.id, tenant=None, now_ms=NOW, detail="by kim")
    assert await _pause(ground, run) is True
    ended = await ground.get(run)
    assert (ended.state, ended.detail) == (RunState.CANCELLED, "by kim")
    await ground.check_counters()


async def a_step_keeps_what_it_cost(ground: Ground) -> None:
    run = await _started(ground)
    assert run.owner is not None
    step = dataclasses.replace(a_step(), money=0.25, input_tokens=800)
    assert await ground.store.journal.record(run.id, run.owner, run.term, step)
    assert await ground.store.runs.steps(run.id) == [step]


CASES = (
    a_run_is_paused_at_its_ceiling,
    a_raised_budget_resumes,
    raises_by_an_amount_add_up,
    a_raise_meets_a_pause_on_its_way,
    no_ceiling_is_added_or_moved_after_the_end,
    patience_ends,
    a_deadline_comes_before_patience,
    a_pause_of_a_cancelled_run_ends_it,
    a_step_keeps_what_it_cost,
)
