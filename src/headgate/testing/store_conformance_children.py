"""Sub-runs: spawned once, ended with their parents, waited for without holding anything."""

from __future__ import annotations

from typing import Any

from headgate.model.decision import Admission, Refusal
from headgate.model.reason import Reason
from headgate.model.run import RunRecord, RunState
from headgate.policy.holds import Need
from headgate.store.protocols import Ceilings, RunFilter, Spawn
from headgate.testing.store_conformance_ground import LEASE, NOW, Ground, a_step


def a_spawn(parent: RunRecord, key: str = "s1", **changes: Any) -> Spawn:
    """What makes an offer a sub-run of ``parent``, whose step is named like the key."""
    fields: dict[str, Any] = {
        "key": f"{parent.origin_id}:{key}",
        "parent_id": parent.id,
        "owner": parent.owner or "",
        "term": parent.term,
        "detached": False,
        "step": a_step(key, result=None, function="spawn", resource="triage", tries=0),
        "fan_out": 100,
        "descendants": 1000,
        **changes,
    }
    return Spawn(**fields)


async def _spawn(ground: Ground, parent: RunRecord, key: str = "s1", **changes: Any) -> RunRecord:
    spawn = a_spawn(parent, key, **{name: changes.pop(name) for name in ("detached",) if name in changes})
    answer = await ground.ask(spawn=spawn, **changes)
    assert isinstance(answer, Admission), answer
    return answer.run


async def _wait(ground: Ground, run: RunRecord, *branches: tuple[str, ...], **changes: Any) -> bool | None:
    fields: dict[str, Any] = {"now_ms": NOW, "branches": branches, "wake_ms": None, "detail": "waits", **changes}
    return await ground.store.children.wait(run.id, run.owner or "", run.term, **fields)


async def a_sub_run_is_spawned_once_and_remembered_by_its_parent(ground: Ground) -> None:
    parent = await ground.started()
    child = await _spawn(ground, parent)
    assert (child.parent_id, child.depth) == (parent.id, 1)
    await ground.open_again()
    again = await ground.ask(spawn=a_spawn(parent))
    assert isinstance(again, Admission)
    assert (again.run.id, again.created) == (child.id, False)
    [step] = await ground.store.runs.steps(parent.id)
    assert (step.key, step.result) == ("s1", f'{{"run_id":"{child.id}"}}')
    assert (await ground.get(parent)).spawned == 1
    assert [one.id for one in await ground.store.children.of(parent.id)] == [child.id]
    assert await ground.store.children.counts(parent.id) == {"queued": 1}
    assert [run.id for run in await ground.store.runs.page(RunFilter(parent=parent.id))] == [child.id]
    await ground.check_counters()


async def only_the_holder_of_a_wanted_parent_spawns(ground: Ground) -> None:
    parent = await ground.started()
    assert (await ground.refused(spawn=a_spawn(parent, term=parent.term + 1))).reason is Reason.LEASE_EXPIRED
    assert (await ground.refused(spawn=a_spawn(parent, owner="w2"))).reason is Reason.LEASE_EXPIRED
    await ground.store.runs.cancel(parent.id, tenant=None, now_ms=NOW, detail="no more")
    assert (await ground.refused(spawn=a_spawn(parent))).reason is Reason.CANCELLED
    assert await ground.store.runs.page(RunFilter(parent=parent.id)) == []


async def a_refused_sub_run_leaves_nothing_behind(ground: Ground) -> None:
    parent = await ground.started()
    refusal = Refusal(Reason.SHED, "lane:standard", "no", retry_after_ms=10)
    assert await ground.refused(spawn=a_spawn(parent), refusal=refusal) == refusal
    assert await ground.store.runs.steps(parent.id) == []
    assert (await ground.get(parent)).spawned == 0
    child = await _spawn(ground, parent)
    known = await ground.ask(spawn=a_spawn(parent), refusal=refusal)
    assert isinstance(known, Admission)
    assert known.run.id == child.id


async def a_sub_run_takes_no_place_beside_its_parents(ground: Ground) -> None:
    place = Need("place", "tenant:acme", "runs", 1, 1)
    parent = await ground.started(needs=(place,))
    child = await _spawn(ground, parent, needs=(place,))
    detached = await ground.refused(spawn=a_spawn(parent, "s2", detached=True), needs=(place,))
    assert (detached.reason, detached.retry_after_ms) == (Reason.CONCURRENCY, None)  # or its parent waits for itself
    (claimed,) = await ground.claim()
    assert claimed.run.id == child.id
    await _spawn(ground, claimed.run, "s3", needs=(place,))
    assert await ground.store.holds.held() == await ground.store.holds.held_by_runs() == {"place": 1}
    await ground.finish(parent)
    assert await ground.store.holds.held() == await ground.store.holds.held_by_runs() == {}


async def a_raise_wakes_a_run_that_waits_for_sub_runs(ground: Ground) -> None:
    parent = await ground.started(budget_calls=1)
    child = await _spawn(ground, parent)
    assert await _wait(ground, parent, (child.id,))
    raised = await ground.store.runs.raise_budget(parent.id, tenant=None, ceilings=Ceilings(calls=9))
    assert raised is not None
    assert raised.state is RunState.QUEUED
    await ground.check_counters()
    (first, second) = await ground.claim()
    assert {first.run.id, second.run.id} == {parent.id, child.id}


async def fan_out_and_the_whole_tree_are_bounded(ground: Ground) -> None:
    root = await ground.started()
    await _spawn(ground, root, "s1")
    wide = await ground.refused(spawn=a_spawn(root, "s2", fan_out=1))
    assert (wide.reason, wide.limit, wide.used) == (Reason.BUDGET_EXHAUSTED, 1, 1)
    [claim] = await ground.claim()
    await _spawn(ground, claim.run, "s1", detached=True)
    large = await ground.refused(spawn=a_spawn(root, "s2", descendants=2))
    assert (large.reason, large.limit, large.used) == (Reason.BUDGET_EXHAUSTED, 2, 2)
    deep = await ground.refused(spawn=a_spawn(claim.run, "s2", descendants=2))
    assert (deep.reason, deep.used) == (Reason.BUDGET_EXHAUSTED, 2)


async def what_is_below_ends_with_a_run(ground: Ground) -> None:
    root = await ground.started()
    running = await _spawn(ground, root, "s1")
    [held] = await ground.claim()
    below = await _spawn(ground, held.run, "s1")
    waiting = await _spawn(ground, root, "s2")
    free = await _spawn(ground, root, "s3", detached=True)
    assert await ground.finish(root, RunState.FAILED)
    for run in (waiting, below):
        ended = await ground.get(run)
        assert (ended.state, ended.reason) == (RunState.CANCELLED, Reason.CANCELLED)
        assert root.id in (ended.detail or "")
    asked = await ground.get(running)
    assert (asked.state, asked.cancel_requested) == (RunState.RUNNING, True)
    assert (await ground.get(free)).state is RunState.QUEUED
    rescued = await ground.store.upkeep.rescue(now_ms=NOW + LEASE + 1, max_crashes=3, limit=10)
    assert [moved.state for moved in rescued] == [RunState.CANCELLED]
    await ground.check_counters()


async def every_way_to_end_ends_what_is_below(ground: Ground) -> None:
    for number, way in enumerate(("cancel", "expire", "rescue", "let go")):
        parent = await ground.started(deadline_ms=NOW + 100 if way in ("expire", "rescue") else None)
        child = await _spawn(ground, parent)
        grandchild_of = (await ground.claim())[0].run
        grandchild = await _spawn(ground, grandchild_of, f"g{number}")
        if way == "cancel":
            assert await ground.suspend(parent, wake_ms=None)
            await ground.store.runs.cancel(parent.id, tenant=None, now_ms=NOW, detail="enough")
        elif way == "expire":
            assert await ground.suspend(parent, wake_ms=None)
            await ground.store.upkeep.expire(now_ms=NOW + 101, limit=10)
        elif way == "rescue":
            await ground.store.claims.extend(
                "w1", [(grandchild_of.id, grandchild_of.term)], now_ms=NOW, lease_until_ms=NOW + 10 * LEASE
            )
            await ground.store.upkeep.rescue(now_ms=NOW + LEASE + 1, max_crashes=3, limit=10)
        else:
            await ground.store.runs.cancel(parent.id, tenant=None, now_ms=NOW, detail="enough")
            await ground.store.claims.release(parent.id, "w1", parent.term, now_ms=NOW, reason="draining")
        assert (await ground.get(parent)).state.terminal, way
        assert (await ground.get(child)).cancel_requested, way
        assert (await ground.get(grandchild)).state is RunState.CANCELLED, way
        assert await ground.finish(await ground.get(child), RunState.CANCELLED)
        await ground.check_counters()


async def a_waiting_parent_wakes_with_the_end_of_the_last_run_of_a_branch(ground: Ground) -> None:
    parent = await ground.started()
    ids = [(await _spawn(ground, parent, f"s{number}")).id for number in range(3)]
    children = [claim.run for claim in await ground.claim()]
    branches = (ids[0], ids[1]), (ids[0], ids[1], ids[2])
    assert await _wait(ground, parent, *branches, used_calls=7, wake_ms=NOW + 60_000)
    waiting = await ground.get(parent)
    assert (waiting.state, waiting.reason, waiting.used_calls) == (RunState.SUSPENDED, Reason.CHILDREN_WAIT, 7)
    assert await ground.finish(children[2])
    assert await ground.finish(children[0])
    assert (await ground.get(parent)).state is RunState.SUSPENDED
    await ground.open_again()
    assert await ground.finish(children[1], RunState.FAILED)
    awake = await ground.get(parent)
    assert (awake.state, awake.reason, awake.spawned) == (RunState.QUEUED, None, 3)
    assert [claim.run.id for claim in await ground.claim()] == [parent.id], "at once"
    await ground.check_counters()


async def a_child_cancelled_in_line_wakes_its_parent(ground: Ground) -> None:
    parent = await ground.started()
    child = await _spawn(ground, parent)
    assert await _wait(ground, parent, (child.id,))
    await ground.store.runs.cancel(child.id, tenant=None, now_ms=NOW, detail="not this one")
    assert (await ground.get(parent)).state is RunState.QUEUED


async def nobody_waits_for_what_has_ended(ground: Ground) -> None:
    parent = await ground.started()
    first, second = await _spawn(ground, parent, "s1"), await _spawn(ground, parent, "s2")
    claims = {claim.run.id: claim.run for claim in await ground.claim()}
    assert await ground.finish(claims[first.id])
    assert await _wait(ground, parent, (second.id,), (first.id,)) is False
    assert (await ground.get(parent)).state is RunState.RUNNING
    assert await _wait(ground, parent, ("gone",)) is False
    stranger = a_spawn(parent)
    assert (
        await ground.store.children.wait(
            parent.id, "w2", stranger.term, now_ms=NOW, branches=[(second.id,)], wake_ms=None, detail="waits"
        )
        is None
    )


async def a_wait_has_an_end_of_its_own(ground: Ground) -> None:
    parent = await ground.started()
    child = await _spawn(ground, parent)
    assert await _wait(ground, parent, (child.id,), wake_ms=NOW + 50)
    [moved] = await ground.store.upkeep.wake(now_ms=NOW + 50, limit=10)
    assert (moved.run_id, moved.state) == (parent.id, RunState.QUEUED)
    claims = {claim.run.id: claim.run for claim in await ground.claim(now_ms=NOW + 60)}
    assert await ground.suspend(claims[parent.id], wake_ms=None, now_ms=NOW + 60)
    assert await ground.finish(claims[child.id])
    assert (await ground.get(parent)).state is RunState.SUSPENDED, "it waits for something else now"


async def a_wait_of_a_run_that_is_asked_to_stop_ends_it(ground: Ground) -> None:
    parent = await ground.started()
    child = await _spawn(ground, parent)
    await ground.store.runs.cancel(parent.id, tenant=None, now_ms=NOW, detail="enough")
    assert await _wait(ground, parent, (child.id,))
    assert (await ground.get(parent)).state is RunState.CANCELLED
    assert (await ground.get(child)).state is RunState.CANCELLED
    await ground.check_counters()


async def a_replay_finds_what_succeeded_and_goes_on_with_the_rest(ground: Ground) -> None:
    parent = await ground.started()
    good, bad = await _spawn(ground, parent, "good"), await _spawn(ground, parent, "bad")
    claims = {claim.run.id: claim.run for claim in await ground.claim()}
    assert await ground.finish(claims[good.id], result="1")
    held = claims[bad.id]
    assert await ground.store.journal.record(held.id, "w1", held.term, a_step("done"))
    assert await ground.finish(parent, RunState.FAILED)
    again = await ground.admit(replay_of=parent.id, origin_id=parent.origin_id)
    [claim] = await ground.claim()
    assert claim.steps == (), "sub-runs are found by their keys"
    heir = claim.run
    stopping = await ground.refused(spawn=a_spawn(heir, "bad"))
    assert (stopping.reason, stopping.run_id) == (Reason.NOT_REPLAYABLE, bad.id)
    assert stopping.retry_after_ms is not None
    assert await ground.finish(held, RunState.CANCELLED)
    assert (await _spawn(ground, heir, "good")).id == good.id
    anew = await _spawn(ground, heir, "bad")
    assert (anew.replay_of, anew.origin_id, anew.parent_id) == (bad.id, bad.origin_id, heir.id)
    assert [step.key for step in await ground.store.runs.steps(anew.id)] == ["done"]
    assert (await ground.get(again)).spawned == 1
    await ground.check_counters()


async def a_sub_run_replayed_by_a_person_is_found_by_the_replay_of_its_parent(ground: Ground) -> None:
    parent = await ground.started()
    child = await _spawn(ground, parent)
    [claim] = await ground.claim()
    assert await ground.finish(claim.run, RunState.FAILED)
    assert await ground.finish(parent, RunState.FAILED)
    mended = await ground.admit(replay_of=child.id, origin_id=child.origin_id)
    assert (mended.parent_id, (await ground.get(mended)).depth) == (None, 1)
    [claim] = await ground.claim()
    assert await ground.finish(claim.run, result="2")
    await ground.admit(replay_of=parent.id, origin_id=parent.origin_id)
    [claim] = await ground.claim()
    assert (await _spawn(ground, claim.run)).id == mended.id


async def a_parent_is_charged_for_everything_attached_below(ground: Ground) -> None:
    parent = await ground.started()
    child = await _spawn(ground, parent, budget_calls=10, budget_money=2.0)
    [one] = await ground.store.children.of(parent.id)
    assert (one.state, one.calls, one.money) == (RunState.QUEUED, 10, 2.0)
    [claim] = await ground.claim()
    await _spawn(ground, claim.run, "g1")
    [grandchild] = await ground.claim()
    assert await ground.finish(grandchild.run, used_calls=2, used_money=0.5, used_wall_ms=30)
    assert await ground.finish(claim.run, used_calls=3, used_money=0.25, used_wall_ms=40, used_model_tokens=5)
    [one] = await ground.store.children.of(parent.id)
    assert (one.id, one.calls, one.money, one.wall_ms, one.model_tokens) == (child.id, 5, 0.75, 70, 5)
    await _spawn(ground, parent, "d1", detached=True)
    [detached] = await ground.claim()
    assert await ground.finish(detached.run, used_calls=7)
    assert await ground.store.children.used_below(parent.id) == (5, 5)
    assert await ground.store.children.used_below(grandchild.run.id) == (0, 0)
    assert [above.id for above in await ground.store.children.ancestors(grandchild.run.id)] == [child.id, parent.id]


async def sub_runs_stay_while_their_parent_may_need_them(ground: Ground) -> None:
    parent = await ground.started()
    child = await _spawn(ground, parent)
    [claim] = await ground.claim()
    assert await ground.finish(claim.run)
    assert await ground.store.upkeep.prune(before_ms=NOW + 1, limit=10) == 0
    assert await ground.finish(parent)
    assert await ground.store.upkeep.prune(before_ms=NOW + 1, limit=10) == 2
    assert await ground.store.runs.get(child.id) is None


CASES = (
    a_sub_run_is_spawned_once_and_remembered_by_its_parent,
    only_the_holder_of_a_wanted_parent_spawns,
    a_refused_sub_run_leaves_nothing_behind,
    a_sub_run_takes_no_place_beside_its_parents,
    a_raise_wakes_a_run_that_waits_for_sub_runs,
    fan_out_and_the_whole_tree_are_bounded,
    what_is_below_ends_with_a_run,
    every_way_to_end_ends_what_is_below,
    a_waiting_parent_wakes_with_the_end_of_the_last_run_of_a_branch,
    a_child_cancelled_in_line_wakes_its_parent,
    nobody_waits_for_what_has_ended,
    a_wait_has_an_end_of_its_own,
    a_wait_of_a_run_that_is_asked_to_stop_ends_it,
    a_replay_finds_what_succeeded_and_goes_on_with_the_rest,
    a_sub_run_replayed_by_a_person_is_found_by_the_replay_of_its_parent,
    a_parent_is_charged_for_everything_attached_below,
    sub_runs_stay_while_their_parent_may_need_them,
)
