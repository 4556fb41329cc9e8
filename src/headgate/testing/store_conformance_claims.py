"""Conformance of `headgate.store.protocols.Claims` and `Journal`."""

from __future__ import annotations

import asyncio
import dataclasses

from headgate.model.run import RunRecord, RunState
from headgate.model.step import StepState
from headgate.store.protocols import Claim, ClaimRequest, RunEnd
from headgate.testing.store_conformance_ground import LEASE, NOW, Ground, a_step, an_intent


async def a_claim_leases_the_run(ground: Ground) -> None:
    run = await ground.admit()
    claims = await ground.claim(now_ms=NOW + 5)
    expected = dataclasses.replace(
        run, state=RunState.RUNNING, owner="w1", term=1, lease_until_ms=NOW + 5 + LEASE, started_ms=NOW + 5
    )
    assert claims == [Claim(expected, ())]
    assert await ground.get(run) == expected
    assert await ground.claim() == []
    await ground.check_counters()


async def claims_go_by_turns_then_age(ground: Ground) -> None:
    first = await ground.admit(tenant="b", now_ms=NOW)
    second = await ground.admit(tenant="b", now_ms=NOW + 1)
    late = await ground.admit(tenant="a", now_ms=NOW + 2)
    claims = await ground.claim(now_ms=NOW + 10)
    assert [claim.run.id for claim in claims] == [first.id, late.id, second.id]


async def lanes_are_served_in_the_order_asked(ground: Ground) -> None:
    for lane in ("low", "high", "low", "high", "high"):
        await ground.admit(lane=lane)
    request = ClaimRequest("w1", NOW, NOW + LEASE, (("high", 2), ("low", 5)), ("triage",))
    assert [claim.run.lane for claim in await ground.store.claims.claim(request)] == ["high", "high", "low", "low"]


async def a_lane_may_borrow_what_others_leave(ground: Ground) -> None:
    for lane in ("a", "b", "a", "a"):
        await ground.admit(lane=lane)
    lanes = (("a", 1), ("b", 5), ("a", 5))
    request = ClaimRequest("w1", NOW, NOW + LEASE, lanes, ("triage",), total=3)
    assert [claim.run.lane for claim in await ground.store.claims.claim(request)] == ["a", "b", "a"]
    assert len(await ground.claim(lane="a")) == 1


async def only_workflows_with_code_are_claimed(ground: Ground) -> None:
    for workflow in ("research", "triage", "report"):
        await ground.admit(workflow=workflow)
    claims = await ground.claim(workflows=("triage", "report"))
    assert sorted(claim.run.workflow for claim in claims) == ["report", "triage"]
    assert await ground.claim(workflows=()) == []


async def no_more_than_the_fleet_may_run(ground: Ground) -> None:
    for lane in ("a", "a", "b", "b"):
        await ground.admit(lane=lane)
    assert len(await ground.claim(lane="a", max_running=3)) == 2
    assert len(await ground.claim(lane="b", max_running=3)) == 1
    assert await ground.claim(lane="b", max_running=3) == []
    assert await ground.claim(lane="b", max_running=1) == []


async def what_is_late_or_early_is_not_claimed(ground: Ground) -> None:
    await ground.admit(queue_deadline_ms=NOW + 10)
    await ground.admit(deadline_ms=NOW + 10)
    await ground.admit(available_ms=NOW + 11)
    assert await ground.claim(now_ms=NOW + 10) == []
    assert len(await ground.claim(now_ms=NOW + 9)) == 2


async def many_workers_share_without_overlap(ground: Ground) -> None:
    for _ in range(60):
        await ground.admit()
    batches = await asyncio.gather(*(ground.claim(7, owner=f"w{index}") for index in range(10)))
    ids = [claim.run.id for batch in batches for claim in batch]
    assert len(ids) == len(set(ids)) == 60


async def a_heartbeat_extends_what_is_held(ground: Ground) -> None:
    first = await ground.started()
    second = await ground.started()
    later = NOW + 9000
    found = await ground.store.claims.extend(
        "w1", [(first.id, 1), (second.id, 2), ("nobody", 1)], now_ms=NOW + 4000, lease_until_ms=later
    )
    assert (found.held, found.cancel) == (frozenset({(first.id, 1)}), frozenset())
    assert (await ground.get(first)).lease_until_ms == later
    assert (await ground.get(second)).lease_until_ms == NOW + LEASE
    stranger = await ground.store.claims.extend("w2", [(first.id, 1)], now_ms=NOW, lease_until_ms=later + 1)
    assert stranger.held == frozenset()
    nothing = await ground.store.claims.extend("w1", [], now_ms=NOW, lease_until_ms=later)
    assert (nothing.held, nothing.cancel) == (frozenset(), frozenset())


async def a_lapsed_lease_that_nobody_took_is_extended(ground: Ground) -> None:
    run = await ground.started()
    after = NOW + LEASE + 1000
    found = await ground.store.claims.extend("w1", [(run.id, 1)], now_ms=after, lease_until_ms=after + LEASE)
    assert found.held == frozenset({(run.id, 1)})
    assert await ground.store.upkeep.rescue(now_ms=after, max_crashes=3, limit=10) == []


async def a_heartbeat_tells_of_cancellation(ground: Ground) -> None:
    run = await ground.started()
    await ground.store.runs.cancel(run.id, tenant=None, now_ms=NOW, detail="by ann")
    found = await ground.store.claims.extend("w1", [(run.id, 1)], now_ms=NOW, lease_until_ms=NOW + LEASE)
    assert found.cancel == frozenset({run.id})
    assert found.held == frozenset({(run.id, 1)})


async def a_run_ends_with_everything_said(ground: Ground) -> None:
    run = await ground.started()
    end = RunEnd(
        run.id, "w1", 1, RunState.SUCCEEDED, "succeeded", NOW + 50, "fine", '{"ok":true}', 4, 900, degraded=True
    )
    assert await ground.store.claims.finish([end]) == [True]
    ended = await ground.get(run)
    assert (ended.state, ended.reason, ended.detail, ended.result, ended.finished_ms) == (
        RunState.SUCCEEDED,
        "succeeded",
        "fine",
        '{"ok":true}',
        NOW + 50,
    )
    assert (ended.used_calls, ended.used_model_tokens, ended.degraded, ended.lease_until_ms) == (4, 900, True, None)
    assert await ground.store.upkeep.next_due_ms() is None
    await ground.open_again()
    assert await ground.get(run) == ended


async def every_end_state_is_kept(ground: Ground) -> None:
    for state in (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.EXPIRED):
        run = await ground.started()
        assert await ground.finish(run, state)
        assert (await ground.get(run)).state is state
    assert (await ground.store.runs.overview()).dead == 2
    await ground.check_counters()


async def a_waiting_state_ends_nothing(ground: Ground) -> None:
    run = await ground.started()
    try:
        await ground.finish(run, RunState.QUEUED)
    except ValueError:
        assert (await ground.get(run)).state is RunState.RUNNING
    else:
        raise AssertionError("a run was finished as queued")


async def ends_of_one_batch_stand_alone(ground: Ground) -> None:
    runs = [await ground.started() for _ in range(3)]
    ends = [RunEnd(run.id, "w1", 1, RunState.SUCCEEDED, "succeeded", NOW) for run in runs]
    ends[1] = dataclasses.replace(ends[1], term=2)
    assert await ground.store.claims.finish([*ends, ends[0]]) == [True, False, True, False]
    states = [(await ground.get(run)).state for run in runs]
    assert states == [RunState.SUCCEEDED, RunState.RUNNING, RunState.SUCCEEDED]
    assert await ground.store.claims.finish([]) == []
    await ground.check_counters()


async def _every_fenced_write(ground: Ground, run: RunRecord, owner: str, term: int) -> list[bool]:
    claims, journal = ground.store.claims, ground.store.journal
    return [
        *await claims.finish([RunEnd(run.id, owner, term, RunState.FAILED, "error", NOW)]),
        await claims.suspend(run.id, owner, term, now_ms=NOW, wake_ms=NOW, reason="retry_wait"),
        await claims.release(run.id, owner, term, now_ms=NOW, reason="interrupted"),
        await journal.begin(run.id, owner, term, an_intent()),
        await journal.record(run.id, owner, term, a_step()),
        await journal.forget(run.id, owner, term, "k1"),
        bool((await claims.extend(owner, [(run.id, term)], now_ms=NOW, lease_until_ms=NOW + 1)).held),
    ]


async def the_fence_stops_every_stale_write(ground: Ground) -> None:
    run = await ground.started()
    await ground.store.journal.record(run.id, "w1", 1, a_step("kept"))
    after = NOW + LEASE
    await ground.store.upkeep.rescue(now_ms=after, max_crashes=3, limit=10)
    rescued = await ground.get(run)
    assert not any(await _every_fenced_write(ground, run, "w1", 1))
    (claim,) = await ground.claim(owner="w2", now_ms=after)
    assert claim.run.term == 2
    for owner, term in (("w1", 1), ("w1", 2), ("w2", 1), ("w2", 3)):
        assert not any(await _every_fenced_write(ground, run, owner, term)), (owner, term)
    assert await ground.get(run) == claim.run
    assert rescued.term == 1
    assert [step.key for step in await ground.store.runs.steps(run.id)] == ["kept"]
    assert await ground.finish(claim.run)
    assert not any(await _every_fenced_write(ground, run, "w2", 2))
    assert not any(await _every_fenced_write(ground, dataclasses.replace(run, id=ground.new_id()), "w2", 2))


async def a_suspended_run_holds_nothing(ground: Ground) -> None:
    run = await ground.started()
    assert await ground.suspend(run, wake_ms=NOW + 500, detail="busy", attempts=2, used_calls=3, used_model_tokens=70)
    waiting = await ground.get(run)
    assert (waiting.state, waiting.reason, waiting.detail) == (RunState.SUSPENDED, "retry_wait", "busy")
    assert (waiting.owner, waiting.lease_until_ms, waiting.term) == (None, None, 1)
    assert (waiting.attempts, waiting.used_calls, waiting.used_model_tokens) == (2, 3, 70)
    assert await ground.claim(now_ms=NOW + 10_000) == []
    await ground.check_counters()


async def a_released_run_is_next_in_line_unharmed(ground: Ground) -> None:
    run = await ground.started()
    await ground.admit()
    assert await ground.store.claims.release(
        run.id, "w1", 1, now_ms=NOW, reason="interrupted", used_calls=2, used_model_tokens=5
    )
    waiting = await ground.get(run)
    assert (waiting.state, waiting.crashes, waiting.attempts, waiting.used_calls) == (RunState.QUEUED, 0, 0, 2)
    assert (waiting.started_ms, waiting.reason) == (NOW, "interrupted")
    await ground.check_counters()
    claims = await ground.claim(1)
    assert (claims[0].run.id, claims[0].run.term, claims[0].run.reason) == (run.id, 2, None)


async def a_preempted_run_is_counted_as_one(ground: Ground) -> None:
    run = await ground.started()
    await ground.store.claims.release(run.id, "w1", 1, now_ms=NOW + 5, reason="draining")
    assert ((await ground.get(run)).preemptions, (await ground.get(run)).preempted_ms) == (0, None)
    await ground.claim(now_ms=NOW + 6)
    await ground.store.claims.release(run.id, "w1", 2, now_ms=NOW + 7, reason="preempted")
    assert not await ground.store.claims.release(run.id, "w1", 2, now_ms=NOW + 8, reason="preempted")
    waiting = await ground.get(run)
    assert (waiting.state, waiting.reason, waiting.crashes, waiting.attempts) == (RunState.QUEUED, "preempted", 0, 0)
    assert (waiting.preemptions, waiting.preempted_ms) == (1, NOW + 7)
    (claimed,) = await ground.claim(now_ms=NOW + 9)
    assert (claimed.run.preemptions, claimed.run.preempted_ms) == (1, NOW + 7)


async def the_heads_are_what_would_be_claimed(ground: Ground) -> None:
    heads = ground.store.runs.heads
    first = await ground.admit(lane="l1", workflow="w", available_ms=NOW + 2)
    await ground.admit(lane="l2", workflow="other")
    await ground.admit(lane="l2", workflow="w", available_ms=NOW + 9)
    assert await heads(["l1", "l2", "l3"], ["w"], now_ms=NOW + 1) == {}
    assert await heads(["l1", "l2", "l3"], ["w"], now_ms=NOW + 5) == {"l1": NOW + 2}
    assert await heads(["l2"], ["w", "other"], now_ms=NOW + 9) == {"l2": NOW}
    (claimed,) = await ground.claim(lane="l1", workflows=("w",), now_ms=NOW + 5)
    assert claimed.run.id == first.id
    assert await heads(["l1"], ["w"], now_ms=NOW + 5) == {}
    await ground.store.claims.release(first.id, "w1", 1, now_ms=NOW + 7, reason="preempted")
    assert await heads(["l1"], ["w"], now_ms=NOW + 8) == {"l1": NOW + 7}


async def a_started_run_has_no_queue_deadline(ground: Ground) -> None:
    run = await ground.started(queue_deadline_ms=NOW + 10)
    await ground.store.claims.release(run.id, "w1", 1, now_ms=NOW, reason="interrupted")
    assert await ground.store.upkeep.expire(now_ms=NOW + 50, limit=10) == []
    assert len(await ground.claim(now_ms=NOW + 50)) == 1


async def letting_go_of_a_run_asked_to_stop_cancels_it(ground: Ground) -> None:
    for let_go in ("suspend", "release"):
        run = await ground.started()
        await ground.store.runs.cancel(run.id, tenant=None, now_ms=NOW, detail="by ann")
        if let_go == "suspend":
            assert await ground.suspend(run, wake_ms=NOW + 5)
        else:
            assert await ground.store.claims.release(run.id, "w1", 1, now_ms=NOW, reason="interrupted")
        ended = await ground.get(run)
        assert (ended.state, ended.reason, ended.detail) == (RunState.CANCELLED, "cancelled", "by ann"), let_go
    await ground.check_counters()


async def a_claimed_run_brings_its_steps(ground: Ground) -> None:
    run = await ground.started()
    steps = [a_step("b", seq=1, result=None, degraded="small", model_tokens=9), a_step("a", seq=0)]
    for step in steps:
        assert await ground.store.journal.record(run.id, "w1", 1, step)
    intent = an_intent(seq=2)
    assert await ground.store.journal.begin(run.id, "w1", 1, intent)
    await ground.store.claims.release(run.id, "w1", 1, now_ms=NOW, reason="interrupted")
    await ground.admit()
    remembering, fresh = await ground.claim()
    assert remembering.steps == (steps[1], steps[0], intent)
    assert fresh.steps == ()
    assert await ground.store.runs.steps(run.id) == [steps[1], steps[0], intent]


async def the_first_result_of_a_step_stays(ground: Ground) -> None:
    run = await ground.started()
    journal = ground.store.journal
    assert await journal.record(run.id, "w1", 1, a_step(result="1"))
    assert await journal.record(run.id, "w1", 1, a_step(result="2"))
    assert await journal.begin(run.id, "w1", 1, an_intent("k1"))
    (step,) = await ground.store.runs.steps(run.id)
    assert (step.result, step.state) == ("1", StepState.DONE)


async def an_intent_is_completed(ground: Ground) -> None:
    run = await ground.started()
    journal = ground.store.journal
    intent = an_intent()
    assert await journal.begin(run.id, "w1", 1, intent)
    assert await journal.begin(run.id, "w1", 1, intent)
    assert await ground.store.runs.steps(run.id) == [intent]
    done = dataclasses.replace(intent, state=StepState.DONE, result="7", finished_ms=NOW + 9, ran_ms=8, tries=2)
    assert await journal.record(run.id, "w1", 1, done)
    await ground.open_again()
    assert await ground.store.runs.steps(run.id) == [done]


async def only_an_intent_is_forgotten(ground: Ground) -> None:
    run = await ground.started()
    journal = ground.store.journal
    await journal.begin(run.id, "w1", 1, an_intent("x"))
    await journal.record(run.id, "w1", 1, a_step("y"))
    assert await journal.forget(run.id, "w1", 1, "x")
    assert await journal.forget(run.id, "w1", 1, "y")
    assert [step.key for step in await ground.store.runs.steps(run.id)] == ["y"]


CASES = (
    a_claim_leases_the_run,
    claims_go_by_turns_then_age,
    lanes_are_served_in_the_order_asked,
    a_lane_may_borrow_what_others_leave,
    only_workflows_with_code_are_claimed,
    no_more_than_the_fleet_may_run,
    what_is_late_or_early_is_not_claimed,
    many_workers_share_without_overlap,
    a_heartbeat_extends_what_is_held,
    a_lapsed_lease_that_nobody_took_is_extended,
    a_heartbeat_tells_of_cancellation,
    a_run_ends_with_everything_said,
    every_end_state_is_kept,
    a_waiting_state_ends_nothing,
    ends_of_one_batch_stand_alone,
    the_fence_stops_every_stale_write,
    a_suspended_run_holds_nothing,
    a_released_run_is_next_in_line_unharmed,
    a_preempted_run_is_counted_as_one,
    the_heads_are_what_would_be_claimed,
    a_started_run_has_no_queue_deadline,
    letting_go_of_a_run_asked_to_stop_cancels_it,
    a_claimed_run_brings_its_steps,
    the_first_result_of_a_step_stays,
    an_intent_is_completed,
    only_an_intent_is_forgotten,
)
