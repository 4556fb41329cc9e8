"""Conformance of follow-ups: `headgate.store.protocols.Claims.finish` with a ``follow_up``."""

from __future__ import annotations

import asyncio

from headgate.model.degradation import FOLLOW_UP
from headgate.model.run import RunRecord, RunState
from headgate.store.protocols import FollowUp, RunEnd
from headgate.testing.store_conformance_ground import NOW, Ground, a_step

WANTED = FollowUp("follower", "background", True, NOW + 9_000, NOW + 8_000)


def _end(run: RunRecord, state: RunState = RunState.SUCCEEDED, term: int = 1) -> RunEnd:
    return RunEnd(run.id, "w1", term, state, state.value, NOW + 50, result="1", follow_up=WANTED)


async def a_follow_up_comes_in_with_the_end(ground: Ground) -> None:
    run = await ground.started(input='{"n":1}', budget_calls=7, user="ann")
    await ground.store.journal.record(run.id, "w1", 1, a_step("b", seq=1, degradation="{}"))
    await ground.store.journal.begin(run.id, "w1", 1, a_step("c", seq=2, result=None))
    assert await ground.store.claims.finish([_end(run)]) == [True]
    await ground.open_again()
    found = await ground.store.runs.get("follower")
    assert found is not None
    assert (found.state, found.origin_id, found.replay_of) == (RunState.QUEUED, run.origin_id, run.id)
    assert (found.workflow, found.tenant, found.user, found.lane) == (run.workflow, run.tenant, "ann", "background")
    assert (found.input, found.budget_calls, found.degraded) == (run.input, 7, False)
    assert (found.submitted_ms, found.queue_deadline_ms, found.deadline_ms) == (NOW + 50, NOW + 9_000, NOW + 8_000)
    steps = await ground.store.runs.steps("follower")
    assert {step.function for step in steps if step.key != "b"} == {FOLLOW_UP}  # what was only begun is not known
    (kept,) = [step for step in steps if step.key == "b"]
    assert kept == a_step("b", seq=1, degradation="{}")
    assert (await ground.store.runs.overview()).states["queued"] == 1


async def a_follow_up_comes_in_once(ground: Ground) -> None:
    run = await ground.started()
    answers = await asyncio.gather(*(ground.store.claims.finish([_end(run)]) for _ in range(3)))
    assert sorted(answers) == [[False], [False], [True]]
    assert (await ground.store.runs.overview()).states["queued"] == 1


async def nothing_follows_an_end_that_did_not_count(ground: Ground) -> None:
    run = await ground.started()
    assert await ground.store.claims.finish([_end(run, term=7)]) == [False]
    assert await ground.store.runs.get("follower") is None
    assert await ground.store.claims.finish([_end(run, RunState.FAILED)]) == [True]
    assert await ground.store.runs.get("follower") is None


CASES = (
    a_follow_up_comes_in_with_the_end,
    a_follow_up_comes_in_once,
    nothing_follows_an_end_that_did_not_count,
)
