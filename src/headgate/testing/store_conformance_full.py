"""Conformance of what happens when a queue is full, and of duplicates that wait, in `store.protocols.Admissions`."""

from __future__ import annotations

from typing import Any

from headgate.model.decision import Admission
from headgate.model.duplicates import Duplicates
from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.store.protocols import Debounce, Delay, DepthBound, Opening
from headgate.testing.store_conformance_ground import NOW, Ground, bound

SECOND_TIER = Delay(depth=2, every_ms=1000.0, at_most_ms=60_000)
WINDOW = Debounce(window_ms=5000, at_most_ms=12_000)
_SAME: dict[str, Any] = {"content_key": "c", "duplicates": Duplicates.COLLAPSE, "debounce": WINDOW}


async def a_full_queue_delays_what_it_would_refuse(ground: Ground) -> None:
    await ground.admit(bounds=(bound(1),), delay=SECOND_TIER)
    for nth in (1, 2):
        run = await ground.admit(bounds=(bound(1),), delay=SECOND_TIER, queue_deadline_ms=NOW + 10_000)
        assert (run.state, run.reason) == (RunState.SUSPENDED, Reason.DELAYED)
        assert run.available_ms == NOW + 1000 * nth
        assert run.queue_deadline_ms == NOW + 10_000 + 1000 * nth, "waiting in line begins when it gets there"
        assert await ground.get(run) == run
    refusal = await ground.refused(bounds=(bound(1),), delay=SECOND_TIER)
    assert (refusal.reason, refusal.scope) == (Reason.QUEUE_FULL, "workflow:triage")
    await ground.check_counters()


async def a_delayed_run_is_claimed_from_its_moment_on(ground: Ground) -> None:
    first = await ground.admit(bounds=(bound(1),), delay=SECOND_TIER)
    later = await ground.admit(bounds=(bound(1),), delay=SECOND_TIER, queue_deadline_ms=NOW + 5000)
    assert await ground.store.upkeep.next_due_ms() == NOW + 1000
    assert await ground.store.upkeep.wake(now_ms=NOW + 999, limit=10) == []
    (moved,) = await ground.store.upkeep.wake(now_ms=NOW + 1000, limit=10)
    assert (moved.run_id, moved.state) == (later.id, RunState.QUEUED)
    woken = await ground.get(later)
    assert (woken.state, woken.reason, woken.term) == (RunState.QUEUED, None, 0)
    assert woken.queue_deadline_ms == NOW + 6000
    await ground.check_counters()
    assert [claim.run.id for claim in await ground.claim(now_ms=NOW + 1000)] == [first.id, later.id]
    await ground.check_counters()


async def a_woken_run_expires_in_line_like_any_other(ground: Ground) -> None:
    await ground.admit(bounds=(bound(1),), delay=SECOND_TIER)
    later = await ground.admit(bounds=(bound(1),), delay=SECOND_TIER, queue_deadline_ms=NOW + 5000)
    await ground.store.upkeep.wake(now_ms=NOW + 1000, limit=10)
    assert await ground.store.upkeep.expire(now_ms=NOW + 5999, limit=10) == []
    (moved,) = await ground.store.upkeep.expire(now_ms=NOW + 6000, limit=10)
    assert (moved.run_id, moved.reason) == (later.id, Reason.QUEUE_EXPIRED)


async def nothing_is_delayed_beyond_the_longest_or_its_deadline(ground: Ground) -> None:
    await ground.admit(bounds=(bound(1),))
    slow = Delay(depth=10, every_ms=40_000.0, at_most_ms=60_000)
    assert (await ground.admit(bounds=(bound(1),), delay=slow)).available_ms == NOW + 40_000
    assert (await ground.refused(bounds=(bound(1),), delay=slow)).reason is Reason.QUEUE_FULL
    soon = Delay(depth=10, every_ms=10_000.0, at_most_ms=60_000)
    assert (await ground.refused(bounds=(bound(1),), delay=soon, deadline_ms=NOW + 20_000)).reason is (
        Reason.QUEUE_FULL
    )
    assert (await ground.admit(bounds=(bound(1),), delay=soon, deadline_ms=NOW + 20_001)).state is RunState.SUSPENDED


async def without_a_known_rate_a_delay_is_the_longest(ground: Ground) -> None:
    await ground.admit(bounds=(bound(1),))
    run = await ground.admit(bounds=(bound(1),), delay=Delay(depth=1, every_ms=None, at_most_ms=60_000))
    assert run.available_ms == NOW + 60_000


async def later_runs_of_a_tenant_do_not_overtake_its_delayed_ones(ground: Ground) -> None:
    tier = Delay(depth=5, every_ms=1000.0, at_most_ms=60_000)
    await ground.admit(bounds=(bound(1),), delay=tier)
    await ground.admit(bounds=(bound(1),), delay=tier)
    await ground.claim()
    assert (await ground.admit(bounds=(bound(1),), delay=tier)).available_ms == NOW + 2000
    assert (await ground.admit(bounds=(bound(1),), delay=tier, tenant="other")).state is RunState.QUEUED


async def delayed_runs_go_in_line_as_room_appears(ground: Ground) -> None:
    tier = Delay(depth=5, every_ms=10_000.0, at_most_ms=60_000)
    first = await ground.admit(bounds=(bound(2),), delay=tier)
    await ground.admit(bounds=(bound(2),), delay=tier)
    held = [await ground.admit(bounds=(bound(2),), delay=tier, queue_deadline_ms=NOW + 1000) for _ in range(3)]
    opening = Opening("triage", depth=2)
    assert await ground.store.upkeep.let_in(opening, now_ms=NOW + 5, limit=10) == []
    assert [claim.run.id for claim in await ground.claim(1)] == [first.id]
    moved = await ground.store.upkeep.let_in(opening, now_ms=NOW + 5, limit=10)
    assert [one.run_id for one in moved] == [held[0].id]
    let_in = await ground.get(held[0])
    assert (let_in.state, let_in.available_ms, let_in.queue_deadline_ms) == (RunState.QUEUED, NOW + 5, NOW + 1005)
    await ground.check_counters()
    moved = await ground.store.upkeep.let_in(Opening("triage", depth=9, per_tenant=3), now_ms=NOW + 5, limit=10)
    assert [one.run_id for one in moved] == [held[1].id], "its tenant has room for one more only"
    assert await ground.store.upkeep.let_in(Opening("other", depth=9), now_ms=NOW + 5, limit=10) == []


async def a_delayed_run_can_be_cancelled_and_expires_at_its_deadline(ground: Ground) -> None:
    tier = Delay(depth=5, every_ms=10_000.0, at_most_ms=60_000)
    await ground.admit(bounds=(bound(1),))
    one = await ground.admit(bounds=(bound(1),), delay=tier)
    other = await ground.admit(bounds=(bound(1),), delay=tier, deadline_ms=NOW + 30_000)
    cancelled = await ground.store.runs.cancel(one.id, tenant=None, now_ms=NOW, detail="by ann")
    assert cancelled is not None
    assert cancelled.state is RunState.CANCELLED
    (moved,) = await ground.store.upkeep.expire(now_ms=NOW + 30_000, limit=10)
    assert (moved.run_id, moved.reason) == (other.id, Reason.DEADLINE_PASSED)
    await ground.check_counters()


async def a_higher_lane_takes_the_newest_place_of_the_lowest(ground: Ground) -> None:
    for lane in ("bulk", "low"):
        for _ in range(2):
            await ground.admit(lane=lane, sheddable=True, bounds=(bound(4),))
    answer = await ground.ask(lane="high", sheds=("bulk", "low"), bounds=(bound(4),))
    assert isinstance(answer, Admission)
    assert answer.created
    (lost,) = answer.made_room
    assert lost.lane == "bulk"
    ended = await ground.get(lost.run_id)
    assert (ended.state, ended.reason, ended.finished_ms) == (RunState.EXPIRED, Reason.SHED, NOW)
    assert answer.run.id in (ended.detail or "")
    assert ended.dead
    await ground.check_counters()
    replay = await ground.admit(replay_of=ended.id, lane="bulk")
    assert replay.state is RunState.QUEUED


async def the_newest_is_lost_first(ground: Ground) -> None:
    runs = [await ground.admit(lane="low", sheddable=True, bounds=(bound(3),)) for _ in range(3)]
    lost = []
    for _ in range(3):
        answer = await ground.ask(lane="high", sheds=("low",), bounds=(bound(3),))
        assert isinstance(answer, Admission)
        lost += [one.run_id for one in answer.made_room]
    assert lost == [run.id for run in reversed(runs)]
    assert (await ground.refused(lane="high", sheds=("low",), bounds=(bound(3),))).reason is Reason.QUEUE_FULL


async def only_waiting_runs_that_allow_it_are_shed(ground: Ground) -> None:
    started = await ground.started(lane="low", sheddable=True)
    assert await ground.store.claims.release(started.id, "w1", 1, now_ms=NOW, reason="interrupted")
    await ground.admit(lane="low", sheddable=False, bounds=(bound(2),))
    await ground.admit(lane="high", sheddable=True, bounds=(bound(2),))
    refusal = await ground.refused(lane="high", sheds=("low",), bounds=(bound(2),))
    assert refusal.reason is Reason.QUEUE_FULL
    assert (await ground.get(started)).state is RunState.QUEUED
    await ground.check_counters()


async def only_what_the_full_bound_counts_is_shed(ground: Ground) -> None:
    other = await ground.admit(workflow="other", lane="low", sheddable=True)
    theirs = await ground.admit(tenant="other", lane="low", sheddable=True)
    await ground.admit(lane="high")
    mine = bound(1, tenant="acme")
    assert (await ground.refused(lane="high", sheds=("low",), bounds=(mine,))).reason is Reason.QUEUE_FULL
    answer = await ground.ask(lane="high", sheds=("low",), bounds=(bound(2),))
    assert isinstance(answer, Admission)
    assert [one.run_id for one in answer.made_room] == [theirs.id]
    fleet = DepthBound("fleet", lanes=("high", "low"), depth=3)
    answer = await ground.ask(lane="high", sheds=("low",), bounds=(fleet,))
    assert isinstance(answer, Admission)
    assert [one.run_id for one in answer.made_room] == [other.id]
    refusal = await ground.refused(lane="high", sheds=("low",), bounds=(fleet,))
    assert (refusal.scope, refusal.used, refusal.limit) == ("fleet", 3, 3)
    lane = DepthBound("lane:high", lane="high", depth=3)
    await ground.admit(lane="low", sheddable=True)
    assert (await ground.refused(lane="high", sheds=("low",), bounds=(lane,))).scope == "lane:high"


async def nothing_is_shed_for_a_run_that_is_refused_after_all(ground: Ground) -> None:
    waiting = await ground.admit(lane="low", sheddable=True, input='"' + "x" * 50 + '"')
    full = bound(1, bytes=60)
    refusal = await ground.refused(lane="high", sheds=("low",), bounds=(full,), input='"' + "y" * 70 + '"')
    assert refusal.reason is Reason.QUEUE_FULL
    assert (await ground.get(waiting)).state is RunState.QUEUED
    answer = await ground.ask(lane="high", sheds=("low",), bounds=(full,), input='"' + "y" * 50 + '"')
    assert isinstance(answer, Admission)
    assert [one.run_id for one in answer.made_room] == [waiting.id]


async def a_debounced_run_waits_for_more_of_the_same(ground: Ground) -> None:
    run = await ground.admit(**_SAME)
    assert (run.state, run.reason, run.available_ms) == (RunState.SUSPENDED, Reason.DEBOUNCED, NOW + 5000)
    again = await ground.ask(**_SAME, now_ms=NOW + 4000, input='{"a":2}', deadline_ms=NOW + 90_000)
    assert isinstance(again, Admission)
    assert (again.created, again.run.id, again.run.available_ms) == (False, run.id, NOW + 9000)
    large = '"' + "z" * 5000 + '"'
    last = await ground.ask(**_SAME, now_ms=NOW + 8000, input=large)
    assert isinstance(last, Admission)
    assert last.run.available_ms == NOW + 12_000, "never longer than at most, counted from the first"
    kept = await ground.get(run)
    assert (kept.input, kept.deadline_ms) == (large, None)
    assert await ground.store.upkeep.wake(now_ms=NOW + 11_999, limit=10) == []
    await ground.store.upkeep.wake(now_ms=NOW + 12_000, limit=10)
    (claim,) = await ground.claim(now_ms=NOW + 12_000)
    assert (claim.run.id, claim.run.input) == (run.id, large)
    await ground.check_counters()


async def the_latest_input_wins_also_when_it_is_shorter(ground: Ground) -> None:
    run = await ground.admit(**_SAME, input='"' + "z" * 5000 + '"')
    await ground.ask(**_SAME, input='"short"')
    assert (await ground.get(run)).input == '"short"'
    await ground.store.upkeep.wake(now_ms=NOW + 5000, limit=10)
    await ground.check_counters()
    (claim,) = await ground.claim(now_ms=NOW + 5000)
    assert claim.run.input == '"short"'
    await ground.check_counters()


async def after_the_window_a_new_one_begins(ground: Ground) -> None:
    run = await ground.admit(**_SAME)
    await ground.store.upkeep.wake(now_ms=NOW + 5000, limit=10)
    second = await ground.admit(**_SAME, now_ms=NOW + 5000)
    assert (second.id != run.id, second.reason) == (True, Reason.DEBOUNCED)


async def debounced_runs_count_in_the_bound(ground: Ground) -> None:
    run = await ground.admit(**_SAME, bounds=(bound(1),))
    other = {**_SAME, "content_key": "d"}
    assert (await ground.refused(**other, bounds=(bound(1),))).reason is Reason.QUEUE_FULL
    again = await ground.ask(**_SAME, bounds=(bound(1),))
    assert isinstance(again, Admission)
    assert again.run.id == run.id
    refusal = await ground.refused(**_SAME, bounds=(bound(1, bytes=20),), input='"' + "x" * 30 + '"')
    assert refusal.unit == "content-bytes"
    assert (await ground.get(run)).input == '{"a":1}'


async def a_key_that_was_answered_with_another_run_leads_there_again(ground: Ground) -> None:
    same: dict[str, Any] = {"content_key": "c", "duplicates": Duplicates.COLLAPSE}
    run = await ground.admit(**same, idempotency_key="k1")
    first = await ground.ask(**same, idempotency_key="k2", body_hash="b2")
    (claim,) = await ground.claim()
    await ground.finish(claim.run)
    again = await ground.ask(**same, idempotency_key="k2", body_hash="b2")
    for answer in (first, again):
        assert isinstance(answer, Admission)
        assert (answer.created, answer.run.id) == (False, run.id)
    conflict = await ground.refused(**same, idempotency_key="k2", body_hash="b3")
    assert (conflict.reason, conflict.run_id) == (Reason.IDEMPOTENCY_CONFLICT, run.id)
    await ground.store.upkeep.prune(before_ms=NOW + 1, limit=10)
    assert (await ground.admit(**same, idempotency_key="k2", body_hash="b2")).id != run.id


CASES = (
    a_full_queue_delays_what_it_would_refuse,
    a_delayed_run_is_claimed_from_its_moment_on,
    a_woken_run_expires_in_line_like_any_other,
    nothing_is_delayed_beyond_the_longest_or_its_deadline,
    without_a_known_rate_a_delay_is_the_longest,
    later_runs_of_a_tenant_do_not_overtake_its_delayed_ones,
    delayed_runs_go_in_line_as_room_appears,
    a_delayed_run_can_be_cancelled_and_expires_at_its_deadline,
    a_higher_lane_takes_the_newest_place_of_the_lowest,
    the_newest_is_lost_first,
    only_waiting_runs_that_allow_it_are_shed,
    only_what_the_full_bound_counts_is_shed,
    nothing_is_shed_for_a_run_that_is_refused_after_all,
    a_debounced_run_waits_for_more_of_the_same,
    the_latest_input_wins_also_when_it_is_shorter,
    after_the_window_a_new_one_begins,
    debounced_runs_count_in_the_bound,
    a_key_that_was_answered_with_another_run_leads_there_again,
)
