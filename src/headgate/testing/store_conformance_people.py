"""Conformance of `headgate.store.protocols.Keys` and `Approvals`."""

from __future__ import annotations

import dataclasses

from headgate.errors import StoreError
from headgate.model.decision import Refusal
from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.policy.people import Answered
from headgate.store.operator_protocols import Escalation
from headgate.store.protocols import ApiKey, Approval
from headgate.store.questions import Displacing, QuestionLoad
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
    approvals, nothing = ground.store.approvals, QuestionLoad({}, None)
    assert await approvals.loads(["replies", "other"]) == {"replies": nothing, "other": nothing}
    runs = [await ground.started() for _ in range(4)]
    for n, run in enumerate(runs):
        await approvals.ask(a_question(run, asked_ms=NOW + n, rank=n // 2), "w1", 1, depth=5)
    load = QuestionLoad({0: 2, 1: 2}, NOW)
    assert await approvals.loads(["replies", "other"]) == {"replies": load, "other": nothing}
    for n, approved in ((0, True), (3, False)):
        question = a_question(runs[n]).id
        await approvals.decide(question, tenant=None, approved=approved, by="ann", note=None, now_ms=NOW + 5 + n)
    answers = (Answered(NOW + 3, NOW + 8, "ann"), Answered(NOW, NOW + 5, "ann"))
    assert await approvals.loads(["replies"]) == {"replies": QuestionLoad({0: 1, 1: 1}, NOW + 1, answers)}
    await approvals.expire_due(now_ms=NOW + 60_000, limit=10)
    assert await approvals.loads(["replies"]) == {"replies": QuestionLoad({}, None, answers)}


async def questions_wait_in_the_order_of_lanes_and_need(ground: Ground) -> None:
    """The list that people see, its order by lane, by when the answer is needed, and by age."""
    approvals = ground.store.approvals
    wanted = (  # rank, its run's deadline, expiry, asked
        (0, None, 9_000, 5),
        (0, 9_500, 60_000, 4),
        (1, 3_000, 60_000, 3),
        (1, None, 60_000, 1),
        (1, None, 60_000, 2),
        (2, None, 8_000, 0),
        (0, 1_000, 60_000, 6),
    )
    put = []
    for rank, deadline, expires, asked in wanted:
        run = await ground.started(deadline_ms=None if deadline is None else NOW + deadline)
        question = a_question(run, asked_ms=NOW + asked, expires_ms=NOW + expires, rank=rank)
        given = await approvals.ask(question, "w1", 1, depth=9)
        assert given == question, "lane and deadline are those of the run"
        put.append(question)
    *others, first = put
    assert await approvals.waiting(queue="replies", tenant="acme", limit=10) == [first, *others]
    assert await approvals.waiting(queue="replies", tenant=None, limit=2) == [first, others[0]]
    # nobody has answered yet, so nothing but what has passed is late
    assert await approvals.waiting(queue=None, tenant=None, limit=10, now_ms=NOW + 999) == [first, *others]
    assert await approvals.waiting(queue=None, tenant=None, limit=10, now_ms=NOW + 1_000) == others


async def what_can_hardly_be_answered_in_time_comes_last(ground: Ground) -> None:
    approvals = ground.store.approvals
    *answered, soon_run, first_run, second_run = [await ground.started() for _ in range(6)]
    for n, run in enumerate(answered):
        await approvals.ask(a_question(run, asked_ms=NOW + n), "w1", 1, depth=9)
        await approvals.decide(
            a_question(run).id, tenant=None, approved=True, by=f"p{n}", note=None, now_ms=NOW + n + 2_000
        )
    put = []
    for run, rank, expires in ((soon_run, 0, 3_500), (first_run, 0, 6_000), (second_run, 1, 6_000)):
        question = a_question(run, asked_ms=NOW + 9, expires_ms=NOW + expires, rank=rank)
        await approvals.ask(question, "w1", 1, depth=9)
        put.append(question)
    soon, first, second = put
    for queue in ("replies", None):
        early = await approvals.waiting(queue=queue, tenant=None, limit=9, now_ms=NOW + 1_500)
        assert early == [soon, first, second]
        late = await approvals.waiting(queue=queue, tenant=None, limit=9, now_ms=NOW + 1_501)
        assert late == [first, second, soon], "an answer takes two seconds"


async def a_question_of_a_later_lane_gives_way(ground: Ground) -> None:
    approvals = ground.store.approvals
    runs = [await ground.started() for _ in range(5)]
    put = [a_question(run, expires_ms=NOW + 60_000 + n) for n, run in enumerate(runs)]
    first, soon, later, upper, another = put
    soon, later = dataclasses.replace(soon, rank=2), dataclasses.replace(later, rank=2)
    for question in (first, soon, later):
        assert await approvals.ask(question, "w1", 1, depth=3) == question
    upper = dataclasses.replace(upper, rank=1, asked_ms=NOW + 7)
    asked = await approvals.ask(upper, "w1", 1, depth=3)
    assert isinstance(asked, Displacing)
    assert (asked.id, asked.state, asked.gave_way) == (upper.id, "waiting", later)
    assert await approvals.waiting(queue="replies", tenant=None, limit=9) == [first, upper, soon]
    gone = await ground.get(runs[2])
    assert (gone.state, gone.reason) == (RunState.SUSPENDED, "retry_wait")
    assert "gave way" in (gone.detail or "")
    await ground.check_counters()
    assert await approvals.decide(later.id, tenant=None, approved=True, by="ann", note=None, now_ms=NOW + 8) is None
    assert gone.available_ms > NOW
    (moved,) = await ground.store.upkeep.wake(now_ms=gone.available_ms, limit=10)
    assert moved.run_id == later.run_id
    (claim,) = await ground.claim(now_ms=gone.available_ms)
    same = dataclasses.replace(another, rank=2)
    assert isinstance(await approvals.ask(same, "w1", 1, depth=3), Refusal), "nothing of a later lane waits"
    await approvals.decide(first.id, tenant=None, approved=True, by="ann", note=None, now_ms=gone.available_ms)
    again = dataclasses.replace(later, expires_ms=later.expires_ms + 9_000)
    assert await approvals.ask(again, "w1", claim.run.term, depth=3) == later, "its time goes on"
    await ground.check_counters()


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
    ended = await ground.get(run)
    assert (ended.reason, ended.detail) == (
        Reason.DEADLINE_PASSED,
        "nobody answered its question in 'replies' before its deadline",
    )
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
    questions_wait_in_the_order_of_lanes_and_need,
    what_can_hardly_be_answered_in_time_comes_last,
    a_question_of_a_later_lane_gives_way,
    another_tenants_question_is_unknown,
    a_run_that_waits_for_people_keeps_its_deadline,
)
