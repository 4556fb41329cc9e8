"""Conformance of `headgate.store.protocols.Keys` and `Approvals`."""

from __future__ import annotations

import dataclasses

from headgate.errors import StoreError
from headgate.model.decision import Refusal
from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.store.operator_protocols import Escalation
from headgate.store.protocols import ApiKey, Approval
from headgate.testing.store_conformance_ground import LEASE, NOW, Ground, a_question

KEY = ApiKey("key1", "ab" * 32, "acme", "submit", "the app", NOW, NOW + 1000)


async def keys_are_found_by_their_digest(ground: Ground) -> None:
    keys = ground.store.keys
    other = ApiKey("key2", "cd" * 32, None, "admin", "", NOW + 1)
    await keys.add(KEY)
    await keys.add(other)
    assert await keys.by_hash(KEY.hash) == KEY
    assert await keys.by_hash("ef" * 32) is None
    assert await keys.all() == [KEY, other]
    await ground.open_again()
    assert await ground.store.keys.by_hash(other.hash) == other


async def a_key_exists_once(ground: Ground) -> None:
    await ground.store.keys.add(KEY)
    for twin in (dataclasses.replace(KEY, hash="00" * 32), dataclasses.replace(KEY, id="key9")):
        try:
            await ground.store.keys.add(twin)
        except StoreError:
            continue
        raise AssertionError("the same key was added twice")
    assert await ground.store.keys.all() == [KEY]


async def a_revoked_key_says_so(ground: Ground) -> None:
    keys = ground.store.keys
    await keys.add(KEY)
    assert await keys.revoke("key1", now_ms=NOW + 7)
    assert not await keys.revoke("key1", now_ms=NOW + 8)
    assert not await keys.revoke("nothing", now_ms=NOW)
    assert await keys.by_hash(KEY.hash) == dataclasses.replace(KEY, revoked_ms=NOW + 7)


async def a_question_suspends_its_run(ground: Ground) -> None:
    run = await ground.started()
    question = a_question(run)
    assert await ground.store.approvals.ask(question, "w1", 1, depth=5, used_calls=2, used_model_tokens=9) == question
    waiting = await ground.get(run)
    assert (waiting.state, waiting.reason, waiting.owner) == (RunState.SUSPENDED, "approval_wait", None)
    assert (waiting.used_calls, waiting.used_model_tokens) == (2, 9)
    assert await ground.store.approvals.waiting(queue="replies", tenant="acme", limit=10) == [question]
    await ground.check_counters()


async def an_answer_wakes_the_run(ground: Ground) -> None:
    for approved, state in ((True, "approved"), (False, "denied")):
        run = await ground.started()
        question = a_question(run)
        await ground.store.approvals.ask(question, "w1", 1, depth=5)
        decided = await ground.store.approvals.decide(
            question.id, tenant="acme", approved=approved, by="ann", note="ok", now_ms=NOW + 5
        )
        assert decided == dataclasses.replace(question, state=state, decided_by="ann", decided_ms=NOW + 5, note="ok")
        again = await ground.store.approvals.decide(
            question.id, tenant=None, approved=not approved, by="bob", note=None, now_ms=NOW + 6
        )
        assert again == decided
        await ground.check_counters()
        (claim,) = await ground.claim(now_ms=NOW + 5)
        assert (claim.run.id, claim.run.term) == (run.id, 2)
        known = await ground.store.approvals.ask(question, "w1", 2, depth=5)
        assert known == decided
        assert (await ground.get(run)).state is RunState.RUNNING, "an answered question does not suspend"
        await ground.finish(claim.run)


async def a_full_queue_of_people_refuses(ground: Ground) -> None:
    runs = [await ground.started() for _ in range(3)]
    approvals = ground.store.approvals
    for run in runs[:2]:
        assert isinstance(await approvals.ask(a_question(run), "w1", 1, depth=2), Approval)
    refusal = await approvals.ask(a_question(runs[2]), "w1", 1, depth=2)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.limit, refusal.used) == (Reason.QUEUE_FULL, 2, 2)
    assert (await ground.get(runs[2])).state is RunState.RUNNING
    other = await approvals.ask(a_question(runs[2], queue="other"), "w1", 1, depth=2)
    assert isinstance(other, Approval)
    await approvals.decide(a_question(runs[0]).id, tenant=None, approved=True, by="ann", note=None, now_ms=NOW)
    assert len(await approvals.waiting(queue=None, tenant=None, limit=10)) == 2


async def a_question_is_fenced(ground: Ground) -> None:
    run = await ground.started()
    for owner, term in (("w2", 1), ("w1", 2)):
        assert await ground.store.approvals.ask(a_question(run), owner, term, depth=5) is None
    assert await ground.store.approvals.waiting(queue=None, tenant=None, limit=10) == []
    assert (await ground.get(run)).state is RunState.RUNNING


async def a_question_is_asked_once(ground: Ground) -> None:
    run = await ground.started(deadline_ms=NOW + 10**6)
    question = a_question(run)
    await ground.store.approvals.ask(question, "w1", 1, depth=1)
    # The run comes back by another way (here: a crash before it was suspended cannot be told apart), and asks again.
    assert await ground.store.approvals.ask(question, "w1", 1, depth=1) is None
    assert await ground.store.approvals.waiting(queue="replies", tenant=None, limit=10) == [question]
    second = dataclasses.replace(question, id="another", step_key="ask2")
    refusal = await ground.store.approvals.ask(second, "w1", 1, depth=1)
    assert refusal is None


async def an_unanswered_question_expires(ground: Ground) -> None:
    run = await ground.started()
    question = a_question(run, expires_ms=NOW + 100)
    approvals = ground.store.approvals
    await approvals.ask(question, "w1", 1, depth=5)
    assert await approvals.expire_due(now_ms=NOW + 99, limit=10) == []
    expired = await approvals.expire_due(now_ms=NOW + 100, limit=10)
    assert expired == [(dataclasses.replace(question, state="expired", decided_ms=NOW + 100), "replies")]
    assert await approvals.expire_due(now_ms=NOW + 100, limit=10) == []
    (claim,) = await ground.claim(now_ms=NOW + 100)
    assert await approvals.ask(question, "w1", claim.run.term, depth=5) == expired[0][0]
    await ground.check_counters()


async def an_unanswered_question_goes_on_to_the_next_queue(ground: Ground) -> None:
    run = await ground.started()
    question = a_question(run, expires_ms=NOW + 100)
    approvals, to = ground.store.approvals, {"replies": Escalation("leads", depth=1, max_age_ms=500)}
    await approvals.ask(question, "w1", 1, depth=5)
    assert await approvals.expire_due(now_ms=NOW + 99, limit=10, escalations=to) == []
    moved = dataclasses.replace(question, queue="leads", expires_ms=NOW + 600)
    assert await approvals.expire_due(now_ms=NOW + 100, limit=10, escalations=to) == [(moved, "replies")]
    assert await approvals.expire_due(now_ms=NOW + 100, limit=10, escalations=to) == []
    assert (await ground.get(run)).state is RunState.SUSPENDED
    assert await approvals.waiting(queue="replies", tenant=None, limit=10) == []
    assert await approvals.waiting(queue="leads", tenant=None, limit=10) == [moved]
    assert await ground.store.upkeep.next_due_ms() == NOW + 600
    decided = await approvals.decide(question.id, tenant=None, approved=True, by="ann", note=None, now_ms=NOW + 599)
    assert decided is not None
    assert (decided.state, decided.decided_by, decided.queue) == ("approved", "ann", "leads")
    assert await approvals.expire_due(now_ms=NOW + 600, limit=10, escalations=to) == []
    (claim,) = await ground.claim(now_ms=NOW + 600)
    assert await approvals.ask(question, "w1", claim.run.term, depth=5) == decided
    await ground.check_counters()


async def queues_of_people_tell_their_load(ground: Ground) -> None:
    approvals = ground.store.approvals
    assert await approvals.loads(["replies", "other"]) == {"replies": (0, None), "other": (0, None)}
    runs = [await ground.started() for _ in range(2)]
    for n, run in enumerate(runs):
        await approvals.ask(a_question(run, asked_ms=NOW + n), "w1", 1, depth=5)
    assert await approvals.loads(["replies", "other"]) == {"replies": (2, NOW), "other": (0, None)}
    await approvals.decide(a_question(runs[0]).id, tenant=None, approved=True, by="ann", note=None, now_ms=NOW + 5)
    assert await approvals.loads(["replies"]) == {"replies": (1, NOW + 1)}


async def a_full_next_queue_takes_no_question(ground: Ground) -> None:
    runs = [await ground.started() for _ in range(2)]
    approvals, to = ground.store.approvals, {"replies": Escalation("leads", depth=1, max_age_ms=500)}
    for run in runs:
        await approvals.ask(a_question(run, expires_ms=NOW + 100), "w1", 1, depth=5)
    lapsed = await approvals.expire_due(now_ms=NOW + 100, limit=10, escalations=to)
    assert sorted((one.queue, one.state, queue) for one, queue in lapsed) == [
        ("leads", "waiting", "replies"),
        ("replies", "expired", "replies"),
    ]
    states = sorted([(await ground.get(run)).state.value for run in runs])
    assert states == ["queued", "suspended"]
    ((last, queue),) = await approvals.expire_due(now_ms=NOW + 600, limit=10, escalations=to)
    assert (last.state, last.queue, queue) == ("expired", "leads", "leads")
    await ground.check_counters()


async def another_tenants_question_is_unknown(ground: Ground) -> None:
    run = await ground.started()
    question = a_question(run)
    approvals = ground.store.approvals
    await approvals.ask(question, "w1", 1, depth=5)
    assert await approvals.waiting(queue="replies", tenant="other", limit=10) == []
    assert await approvals.waiting(queue=None, tenant="acme", limit=10) == [question]
    for question_id, tenant in ((question.id, "other"), ("nothing", None)):
        answer = await approvals.decide(question_id, tenant=tenant, approved=True, by="eve", note=None, now_ms=NOW)
        assert answer is None
    assert (await ground.get(run)).state is RunState.SUSPENDED


async def a_run_that_waits_for_people_keeps_its_deadline(ground: Ground) -> None:
    run = await ground.started(deadline_ms=NOW + LEASE)
    await ground.store.approvals.ask(a_question(run), "w1", 1, depth=5)
    (moved,) = await ground.store.upkeep.expire(now_ms=NOW + LEASE, limit=10)
    assert (moved.run_id, moved.state) == (run.id, RunState.EXPIRED)
    assert await ground.store.approvals.waiting(queue=None, tenant=None, limit=10) == []
    await ground.check_counters()


CASES = (
    keys_are_found_by_their_digest,
    a_key_exists_once,
    a_revoked_key_says_so,
    a_question_suspends_its_run,
    an_answer_wakes_the_run,
    a_full_queue_of_people_refuses,
    a_question_is_fenced,
    a_question_is_asked_once,
    an_unanswered_question_expires,
    an_unanswered_question_goes_on_to_the_next_queue,
    a_full_next_queue_takes_no_question,
    queues_of_people_tell_their_load,
    another_tenants_question_is_unknown,
    a_run_that_waits_for_people_keeps_its_deadline,
)
