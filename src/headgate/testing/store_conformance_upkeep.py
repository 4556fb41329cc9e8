"""Conformance of `headgate.store.protocols.Upkeep`."""

from __future__ import annotations

import asyncio

from headgate.model.run import RunState
from headgate.store.protocols import Moved, RunFilter
from headgate.testing.store_conformance_ground import LEASE, NOW, Ground, a_question, a_step


async def a_run_that_waited_too_long_expires(ground: Ground) -> None:
    run = await ground.admit(queue_deadline_ms=NOW + 10, deadline_ms=NOW + 99)
    assert await ground.store.upkeep.expire(now_ms=NOW + 9, limit=10) == []
    moved = await ground.store.upkeep.expire(now_ms=NOW + 10, limit=10)
    assert moved == [Moved(run.id, "triage", "acme", "standard", RunState.EXPIRED, "queue_expired")]
    ended = await ground.get(run)
    assert (ended.state, ended.reason, ended.finished_ms) == (RunState.EXPIRED, "queue_expired", NOW + 10)
    await ground.check_counters()


async def a_run_past_its_deadline_expires(ground: Ground) -> None:
    fresh = await ground.admit(deadline_ms=NOW + 10, queue_deadline_ms=NOW + 10)
    suspended = await ground.started(deadline_ms=NOW + 10, workflow="other")
    await ground.suspend(suspended, wake_ms=NOW + 5)
    released = await ground.started(deadline_ms=NOW + 10, workflow="third")
    await ground.store.claims.release(released.id, "w1", 1, now_ms=NOW, reason="interrupted")
    moved = await ground.store.upkeep.expire(now_ms=NOW + 10, limit=10)
    assert {one.run_id for one in moved} == {fresh.id, suspended.id, released.id}
    assert {one.reason for one in moved} == {"deadline_passed"}
    assert await ground.store.upkeep.expire(now_ms=NOW + 10, limit=10) == []
    await ground.check_counters()


async def a_running_run_does_not_expire_by_itself(ground: Ground) -> None:
    await ground.started(deadline_ms=NOW + 10, queue_deadline_ms=NOW + 10)
    assert await ground.store.upkeep.expire(now_ms=NOW + 11, limit=10) == []


async def upkeep_takes_at_most_its_limit(ground: Ground) -> None:
    for _ in range(5):
        await ground.admit(queue_deadline_ms=NOW + 1)
    upkeep = ground.store.upkeep
    assert [len(await upkeep.expire(now_ms=NOW + 1, limit=2)) for _ in range(4)] == [2, 2, 1, 0]


async def a_lapsed_lease_is_rescued(ground: Ground) -> None:
    run = await ground.started()
    upkeep = ground.store.upkeep
    assert await upkeep.rescue(now_ms=NOW + LEASE - 1, max_crashes=3, limit=10) == []
    moved = await upkeep.rescue(now_ms=NOW + LEASE, max_crashes=3, limit=10)
    assert moved == [Moved(run.id, "triage", "acme", "standard", RunState.QUEUED, "lease_expired")]
    back = await ground.get(run)
    assert (back.state, back.reason, back.crashes, back.owner, back.term) == (
        RunState.QUEUED,
        "lease_expired",
        1,
        None,
        1,
    )
    assert await upkeep.rescue(now_ms=NOW + LEASE, max_crashes=3, limit=10) == []
    await ground.check_counters()
    (claim,) = await ground.claim(now_ms=NOW + LEASE)
    assert (claim.run.term, claim.run.started_ms, claim.run.crashes) == (2, NOW, 1)


async def a_run_that_kills_its_workers_is_a_dead_letter(ground: Ground) -> None:
    run = await ground.started()
    now = NOW
    for crashes in (1, 2):
        now += LEASE
        await ground.store.upkeep.rescue(now_ms=now, max_crashes=3, limit=10)
        assert (await ground.get(run)).crashes == crashes
        await ground.claim(now_ms=now)
    (moved,) = await ground.store.upkeep.rescue(now_ms=now + LEASE, max_crashes=3, limit=10)
    assert (moved.state, moved.reason) == (RunState.FAILED, "crash_loop")
    ended = await ground.get(run)
    assert (ended.state, ended.reason, ended.crashes, ended.term) == (RunState.FAILED, "crash_loop", 3, 3)
    await ground.check_counters()


async def a_rescued_run_may_have_nothing_left_to_do(ground: Ground) -> None:
    asked = await ground.started(workflow="a")
    await ground.store.runs.cancel(asked.id, tenant=None, now_ms=NOW, detail="by ann")
    late = await ground.started(workflow="b", deadline_ms=NOW + LEASE)
    moved = await ground.store.upkeep.rescue(now_ms=NOW + LEASE, max_crashes=3, limit=10)
    assert {(one.run_id, one.state, one.reason) for one in moved} == {
        (asked.id, RunState.CANCELLED, "cancelled"),
        (late.id, RunState.EXPIRED, "deadline_passed"),
    }
    assert (await ground.get(asked)).detail == "by ann"
    await ground.check_counters()


async def a_suspended_run_wakes_on_time(ground: Ground) -> None:
    run = await ground.started()
    await ground.suspend(run, wake_ms=NOW + 500)
    upkeep = ground.store.upkeep
    assert await upkeep.wake(now_ms=NOW + 499, limit=10) == []
    (moved,) = await upkeep.wake(now_ms=NOW + 500, limit=10)
    assert (moved.run_id, moved.state) == (run.id, RunState.QUEUED)
    back = await ground.get(run)
    assert (back.state, back.reason, back.crashes) == (RunState.QUEUED, None, 0)
    await ground.check_counters()
    (claim,) = await ground.claim(now_ms=NOW + 500)
    assert claim.run.term == 2


async def a_run_without_a_wake_time_sleeps_on(ground: Ground) -> None:
    run = await ground.started()
    await ground.suspend(run, wake_ms=None)
    assert await ground.store.upkeep.wake(now_ms=NOW + 10**9, limit=10) == []
    assert await ground.store.upkeep.next_due_ms() is None
    assert (await ground.get(run)).state is RunState.SUSPENDED


async def the_next_due_moment_is_known(ground: Ground) -> None:
    upkeep = ground.store.upkeep
    await ground.admit(queue_deadline_ms=NOW + 900_000, deadline_ms=NOW + 950_000, workflow="never")
    assert await upkeep.next_due_ms() == NOW + 900_000
    held = await ground.started()
    assert await upkeep.next_due_ms() == NOW + LEASE
    sleeping = await ground.started()
    await ground.suspend(sleeping, wake_ms=NOW + 700)
    assert await upkeep.next_due_ms() == NOW + 700
    await upkeep.wake(now_ms=NOW + 700, limit=10)
    assert await upkeep.next_due_ms() == NOW + LEASE
    await ground.store.approvals.ask(a_question(held, expires_ms=NOW + 800), "w1", 1, depth=5)
    assert await upkeep.next_due_ms() == NOW + 800


async def several_processes_may_do_upkeep_at_once(ground: Ground) -> None:
    for _ in range(20):
        await ground.admit(queue_deadline_ms=NOW + 1)
    parts = await asyncio.gather(*(ground.store.upkeep.expire(now_ms=NOW + 1, limit=8) for _ in range(6)))
    ids = [one.run_id for part in parts for one in part]
    assert len(ids) == len(set(ids)) == 20


async def pruning_keeps_dead_letters(ground: Ground) -> None:
    failed = await ground.dead()
    done = await ground.started(input='"' + "x" * 10_000 + '"', idempotency_key="k")
    await ground.store.journal.record(done.id, "w1", 1, a_step())
    await ground.finish(done, now_ms=NOW + 10)
    cancelled = await ground.admit()
    await ground.store.runs.cancel(cancelled.id, tenant=None, now_ms=NOW + 10, detail="")
    recent = await ground.started()
    await ground.finish(recent, now_ms=NOW + 20)
    waiting = await ground.admit()
    prune = ground.store.upkeep.prune
    assert await prune(before_ms=NOW + 10, limit=10) == 0
    assert [await prune(before_ms=NOW + 20, limit=1) for _ in range(3)] == [1, 1, 0]
    left = await ground.store.runs.page(RunFilter())
    assert {run.id for run in left} == {failed.id, recent.id, waiting.id}
    assert await ground.store.runs.steps(done.id) == []
    assert (await ground.admit(idempotency_key="k", body_hash="other")).id != done.id
    await ground.check_counters()


async def pruning_changes_no_turn(ground: Ground) -> None:
    for _ in range(3):
        await ground.admit(tenant="busy")
    for claim in await ground.claim(2):
        await ground.finish(claim.run)
    await ground.store.upkeep.prune(before_ms=NOW + 1, limit=100)
    assert (await ground.admit(tenant="busy")).virtual_start == 3.0
    assert (await ground.admit(tenant="idle")).virtual_start == 1.0
    await ground.check_counters()


CASES = (
    a_run_that_waited_too_long_expires,
    a_run_past_its_deadline_expires,
    a_running_run_does_not_expire_by_itself,
    upkeep_takes_at_most_its_limit,
    a_lapsed_lease_is_rescued,
    a_run_that_kills_its_workers_is_a_dead_letter,
    a_rescued_run_may_have_nothing_left_to_do,
    a_suspended_run_wakes_on_time,
    a_run_without_a_wake_time_sleeps_on,
    the_next_due_moment_is_known,
    several_processes_may_do_upkeep_at_once,
    pruning_keeps_dead_letters,
    pruning_changes_no_turn,
)
