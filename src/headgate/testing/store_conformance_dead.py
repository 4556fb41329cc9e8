"""Conformance of `headgate.store.dead_protocols.DeadLetters`, and of what resolves a dead letter."""

from __future__ import annotations

from typing import Any

from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.store.protocols import DeadFilter
from headgate.testing.store_conformance_ground import LEASE, NOW, Ground, a_step, bound

_HOW: dict[str, Any] = {"by": "ann", "why": "cleaning up", "now_ms": NOW + 5}


async def dead_letters_are_listed_by_what_they_are(ground: Ground) -> None:
    one = await ground.dead(tenant="a")
    other = await ground.dead(workflow="other", tenant="b", lane="low")
    stale = await ground.admit(tenant="a", queue_deadline_ms=NOW + 10)
    await ground.store.upkeep.expire(now_ms=NOW + 10, limit=10)
    await ground.admit()

    async def ids(**wanted: Any) -> list[str]:
        return [run.id for run in await ground.store.dead_letters.page(DeadFilter(**wanted))]

    assert await ids() == [stale.id, other.id, one.id]
    assert await ids(oldest_first=True) == [one.id, other.id, stale.id]
    assert await ids(oldest_first=True, beyond=one.id, limit=1) == [other.id]
    assert await ids(beyond=stale.id) == [other.id, one.id]
    assert await ids(tenant="a") == [stale.id, one.id]
    assert await ids(workflow="other") == await ids(lane="low") == [other.id]
    assert await ids(reasons=("failed",)) == [other.id, one.id]
    assert await ids(reasons=(Reason.QUEUE_EXPIRED.value, "error")) == [stale.id]
    assert await ids(stale=False) == [other.id, one.id]
    assert await ids(ended_from_ms=NOW + 10) == [stale.id]
    assert await ids(ended_before_ms=NOW + 10) == [other.id, one.id]
    assert await ids(ids=(one.id, stale.id)) == [stale.id, one.id]


async def what_was_shed_is_not_stale(ground: Ground) -> None:
    run = await ground.admit(lane="low", sheddable=True)
    await ground.admit(lane="high", sheds=("low",), bounds=(bound(1),))
    (found,) = await ground.store.dead_letters.page(DeadFilter(stale=False))
    assert (found.id, found.reason) == (run.id, Reason.SHED)


async def a_replay_that_succeeds_resolves_its_whole_lineage(ground: Ground) -> None:
    source = await ground.dead()
    second = await ground.dead(replay_of=source.id)
    unrelated = await ground.dead()
    third = await ground.started(replay_of=second.id)
    assert (await ground.store.runs.overview()).dead == 3
    await ground.finish(third)
    for run in (source, second):
        after = await ground.get(run)
        assert (after.state, after.resolved_by, after.dead) == (RunState.FAILED, third.id, False)
    assert [run.id for run in await ground.store.dead_letters.page(DeadFilter())] == [unrelated.id]
    assert len(await ground.store.dead_letters.page(DeadFilter(resolved=True))) == 3
    await ground.check_counters()
    assert [run.id for run in await ground.store.dead_letters.replays(source.id)] == [second.id, third.id]


async def a_replay_that_fails_resolves_nothing(ground: Ground) -> None:
    source = await ground.dead()
    replay = await ground.started(replay_of=source.id)
    await ground.finish(replay, RunState.CANCELLED)
    assert (await ground.get(source)).dead
    await ground.check_counters()


async def a_dismissed_one_leaves_the_list_and_can_be_replayed(ground: Ground) -> None:
    run = await ground.dead()
    letters = ground.store.dead_letters
    assert not await letters.dismiss(run.id, tenant="other", **_HOW)
    assert await letters.dismiss(run.id, tenant=None, **_HOW)
    assert not await letters.dismiss(run.id, tenant=None, **_HOW), "once"
    after = await ground.get(run)
    assert (after.resolved_by, after.input) == ("dismissed by ann", run.input)
    assert await letters.page(DeadFilter()) == []
    await ground.check_counters()
    (line,) = await letters.changes(tenant=None, limit=10)
    assert (line.action, line.run_id, line.cause, line.done_by, line.why, line.at_ms) == (
        "dismiss", run.id, "failed", "ann", "cleaning up", NOW + 5,
    )  # fmt: skip
    await ground.admit(replay_of=run.id)


async def a_purged_one_is_gone_and_remembered_in_the_record(ground: Ground) -> None:
    run = await ground.started(input='"' + "x" * 5000 + '"')
    assert await ground.store.journal.record(run.id, "w1", 1, a_step())
    await ground.finish(run, RunState.FAILED)
    letters = ground.store.dead_letters
    assert not await letters.purge(run.id, tenant="other", **_HOW)
    assert await letters.purge(run.id, tenant="acme", **_HOW)
    assert await ground.store.runs.get(run.id) is None
    assert await ground.store.runs.steps(run.id) == []
    assert await letters.history(run.id) == []
    assert not await letters.purge(run.id, tenant=None, **_HOW)
    assert [line.action for line in await letters.changes(tenant="acme", limit=10)] == ["purge"]
    assert await letters.changes(tenant="other", limit=10) == []
    await ground.check_counters()


async def only_dead_letters_that_nobody_replays_are_purged(ground: Ground) -> None:
    waiting = await ground.admit()
    assert not await ground.store.dead_letters.purge(waiting.id, tenant=None, **_HOW)
    (claim,) = await ground.claim()
    await ground.finish(claim.run, RunState.FAILED)
    replay = await ground.started(replay_of=waiting.id)
    assert not await ground.store.dead_letters.purge(waiting.id, tenant=None, **_HOW)
    await ground.finish(replay)
    assert await ground.store.dead_letters.purge(waiting.id, tenant=None, **_HOW)
    await ground.check_counters()


async def history_says_what_became_of_every_attempt(ground: Ground) -> None:
    run = await ground.started()
    await ground.suspend(run, wake_ms=NOW + 10, detail="the provider was full", attempts=1)
    await ground.store.upkeep.wake(now_ms=NOW + 10, limit=10)
    (claim,) = await ground.claim(now_ms=NOW + 10, owner="w2")
    late = NOW + 10 + LEASE
    await ground.store.upkeep.rescue(now_ms=late, max_crashes=3, limit=10)
    (claim,) = await ground.claim(now_ms=late)
    await ground.finish(claim.run, RunState.FAILED, now_ms=late + 7, detail="it broke")
    lines = await ground.store.dead_letters.history(run.id)
    assert [(one.at_ms, one.term, one.owner, one.state, one.reason) for one in lines] == [
        (NOW, 1, "w1", "suspended", "retry_wait"),
        (late, 2, "w2", "queued", "lease_expired"),
        (late + 7, 3, "w1", "failed", "failed"),
    ]
    assert [one.detail for one in lines] == ["the provider was full", "its worker vanished", "it broke"]


async def history_keeps_only_the_last_lines(ground: Ground) -> None:
    run = await ground.started()
    for nth in range(60):
        await ground.suspend(run, wake_ms=NOW, detail=f"{nth}")
        await ground.store.upkeep.wake(now_ms=NOW, limit=10)
        (claim,) = await ground.claim()
        run = claim.run
    lines = await ground.store.dead_letters.history(run.id)
    assert [one.detail for one in lines] == [f"{nth}" for nth in range(10, 60)]


async def a_run_that_succeeds_at_once_has_no_history(ground: Ground) -> None:
    run = await ground.started()
    await ground.finish(run)
    assert await ground.store.dead_letters.history(run.id) == []


async def resolved_ones_are_pruned_and_others_stay(ground: Ground) -> None:
    resolved, kept = await ground.dead(), await ground.dead()
    replay = await ground.started(replay_of=resolved.id)
    await ground.finish(replay)
    again = await ground.started(replay_of=resolved.id)
    await ground.store.upkeep.prune(before_ms=NOW + 1, limit=10)
    assert (await ground.get(resolved)).resolved_by == replay.id, "a replay goes on"
    await ground.finish(again)
    for _ in range(2):
        await ground.store.upkeep.prune(before_ms=NOW + 1, limit=10)
    assert await ground.store.runs.get(resolved.id) is None
    assert await ground.store.runs.get(replay.id) is None
    assert (await ground.get(kept)).dead
    await ground.check_counters()


CASES = (
    dead_letters_are_listed_by_what_they_are,
    what_was_shed_is_not_stale,
    a_replay_that_succeeds_resolves_its_whole_lineage,
    a_replay_that_fails_resolves_nothing,
    a_dismissed_one_leaves_the_list_and_can_be_replayed,
    a_purged_one_is_gone_and_remembered_in_the_record,
    only_dead_letters_that_nobody_replays_are_purged,
    history_says_what_became_of_every_attempt,
    history_keeps_only_the_last_lines,
    a_run_that_succeeds_at_once_has_no_history,
    resolved_ones_are_pruned_and_others_stay,
)
