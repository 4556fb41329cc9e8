"""Conformance of `headgate.store.protocols.Runs`, `Store.close` and `Store.statistics`."""

from __future__ import annotations

import asyncio

from headgate.errors import StoreError
from headgate.model.run import RunState
from headgate.store.protocols import QueueState, RunFilter
from headgate.testing.store_conformance_ground import NOW, Ground, a_question


async def a_run_is_its_tenants(ground: Ground) -> None:
    run = await ground.admit(tenant="acme")
    runs = ground.store.runs
    assert await runs.get(run.id, tenant="acme") == run
    assert await runs.get(run.id) == run
    assert await runs.get(run.id, tenant="other") is None
    assert await runs.get("nothing") is None
    assert await runs.cancel(run.id, tenant="other", now_ms=NOW, detail="") is None
    assert await runs.cancel("nothing", tenant=None, now_ms=NOW, detail="") is None
    assert (await ground.get(run)).state is RunState.QUEUED
    assert await runs.steps("nothing") == []


async def pages_go_back_in_time(ground: Ground) -> None:
    ids = [(await ground.admit()).id for _ in range(7)]
    seen: list[str] = []
    before = None
    while page := await ground.store.runs.page(RunFilter(before=before, limit=3)):
        assert len(page) <= 3
        seen += [run.id for run in page]
        before = seen[-1]
    assert seen == ids[::-1]
    assert await ground.store.runs.page(RunFilter(limit=0)) == []


async def pages_are_filtered(ground: Ground) -> None:
    one = await ground.dead(tenant="a", workflow="x", lane="l1")
    two = await ground.admit(tenant="a", workflow="y", lane="l1")
    three = await ground.admit(tenant="b", workflow="y", lane="l2")
    cases = [
        (RunFilter(tenant="a"), [two, one]),
        (RunFilter(tenant="a", before=two.id), [one]),
        (RunFilter(workflow="y"), [three, two]),
        (RunFilter(lane="l1"), [two, one]),
        (RunFilter(tenant="b", workflow="x"), []),
        (RunFilter(states=(RunState.QUEUED,)), [three, two]),
        (RunFilter(states=(RunState.QUEUED, RunState.FAILED)), [three, two, one]),
        (RunFilter(states=(RunState.FAILED, RunState.EXPIRED)), [one]),
        (RunFilter(states=(RunState.FAILED,), tenant="b"), []),
        (RunFilter(states=(RunState.FAILED,), tenant="a", workflow="x", lane="l1", reason="failed"), [one]),
        (RunFilter(states=(RunState.FAILED,), before=one.id), []),
        (RunFilter(reason="failed"), [one]),
        (RunFilter(tenant="a", states=(RunState.RUNNING,)), []),
    ]
    for wanted, expected in cases:
        assert await ground.store.runs.page(wanted) == expected, wanted


async def positions_follow_the_line(ground: Ground) -> None:
    await ground.admit(lane="first")
    runs = [await ground.admit(tenant=tenant) for tenant in ("a", "a", "a", "b")]
    position = ground.store.runs.position
    assert [await position(run, ahead_of=()) for run in runs] == [0, 2, 3, 1]
    assert [await position(run, ahead_of=("first",)) for run in runs] == [1, 3, 4, 2]
    await ground.claim(2)
    assert [await position(run, ahead_of=()) for run in runs] == [0, 0, 1, 0]


async def the_overview_counts(ground: Ground) -> None:
    first = await ground.admit(workflow="x", lane="l1", input='"1234"', now_ms=NOW)
    await ground.admit(workflow="x", lane="l2", tenant="b", input='"12"', now_ms=NOW + 5)
    await ground.admit(workflow="y", lane="l1", input="1", now_ms=NOW + 3)
    await ground.claim(1, lane="l1", workflows=("x", "y"), now_ms=NOW + 9)
    overview = await ground.store.runs.overview()
    assert set(overview.queues) == {
        QueueState("x", "", "", 1, 4, 1, 1),
        QueueState("y", "", "", 1, 1, 0, 0),
        QueueState("", "", "l1", 1, 1, 1, 1),
        QueueState("", "", "l2", 1, 4, 0, 0),
    }
    assert overview.oldest_ms == {"l1": NOW + 3, "l2": NOW + 5}
    assert overview.states == {"queued": 2, "running": 1, "suspended": 0}
    assert overview.dead == 0
    run = await ground.get(first)
    assert await ground.finish(run, RunState.FAILED)
    overview = await ground.store.runs.overview()
    assert (overview.states["running"], overview.dead) == (0, 1)
    await ground.check_counters()


async def an_empty_store_has_an_empty_overview(ground: Ground) -> None:
    overview = await ground.store.runs.overview()
    assert (overview.queues, dict(overview.oldest_ms), overview.dead) == ((), {}, 0)
    assert overview.states == {"queued": 0, "running": 0, "suspended": 0}
    assert await ground.store.upkeep.next_due_ms() is None


async def a_waiting_run_is_cancelled_at_once(ground: Ground) -> None:
    run = await ground.admit(queue_deadline_ms=NOW + 1000)
    ended = await ground.store.runs.cancel(run.id, tenant="acme", now_ms=NOW + 3, detail="by ann")
    assert ended is not None
    assert (ended.state, ended.reason, ended.detail, ended.finished_ms) == (
        RunState.CANCELLED,
        "cancelled",
        "by ann",
        NOW + 3,
    )
    assert await ground.claim() == []
    assert await ground.store.upkeep.next_due_ms() is None
    again = await ground.store.runs.cancel(run.id, tenant=None, now_ms=NOW + 9, detail="by bob")
    assert again == ended
    await ground.check_counters()


async def a_suspended_run_is_cancelled_at_once(ground: Ground) -> None:
    run = await ground.started()
    await ground.suspend(run, wake_ms=NOW + 10)
    ended = await ground.store.runs.cancel(run.id, tenant=None, now_ms=NOW + 3, detail="by ann")
    assert ended is not None
    assert ended.state is RunState.CANCELLED
    assert await ground.store.upkeep.wake(now_ms=NOW + 10, limit=10) == []
    await ground.check_counters()


async def a_cancelled_runs_question_is_withdrawn(ground: Ground) -> None:
    run = await ground.started()
    await ground.store.approvals.ask(a_question(run), "w1", 1, depth=1)
    await ground.store.runs.cancel(run.id, tenant=None, now_ms=NOW, detail="by ann")
    assert await ground.store.approvals.waiting(queue=None, tenant=None, limit=10) == []
    other = await ground.started()
    assert await ground.store.approvals.ask(a_question(other), "w1", 1, depth=1) is not None


async def a_running_run_is_asked_to_stop(ground: Ground) -> None:
    run = await ground.started()
    asked = await ground.store.runs.cancel(run.id, tenant=None, now_ms=NOW, detail="by ann")
    assert asked is not None
    assert (asked.state, asked.cancel_requested, asked.detail) == (RunState.RUNNING, True, "by ann")
    assert await ground.finish(run, RunState.CANCELLED, detail="by ann")
    assert (await ground.get(run)).state is RunState.CANCELLED


async def a_closed_store_refuses(ground: Ground) -> None:
    store = ground.store
    await store.close()
    await store.close()
    answers = await asyncio.gather(ground.admit(), store.runs.overview(), return_exceptions=True)
    for answer in answers:
        assert isinstance(answer, StoreError), answer
        assert "closed" in str(answer)


async def closing_finishes_what_was_accepted(ground: Ground) -> None:
    waiting = [asyncio.ensure_future(ground.ask()) for _ in range(20)]
    await asyncio.sleep(0)
    await ground.store.close()
    await asyncio.gather(*waiting)
    await ground.open_again()
    assert len(await ground.store.runs.page(RunFilter(limit=100))) == 20


async def a_store_says_how_it_is(ground: Ground) -> None:
    before = ground.store.statistics()
    await ground.admit()
    after = ground.store.statistics()
    assert after.operations == before.operations + 1
    assert after.commits == before.commits + 1
    assert (after.waiting, after.failures) == (0, 0)
    assert after.url


CASES = (
    a_run_is_its_tenants,
    pages_go_back_in_time,
    pages_are_filtered,
    positions_follow_the_line,
    the_overview_counts,
    an_empty_store_has_an_empty_overview,
    a_waiting_run_is_cancelled_at_once,
    a_suspended_run_is_cancelled_at_once,
    a_cancelled_runs_question_is_withdrawn,
    a_running_run_is_asked_to_stop,
    a_closed_store_refuses,
    closing_finishes_what_was_accepted,
    a_store_says_how_it_is,
)
