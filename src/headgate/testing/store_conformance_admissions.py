"""Conformance of `headgate.store.protocols.Admissions`."""

from __future__ import annotations

import asyncio

from headgate.model.decision import Admission, LimitUse, Refusal
from headgate.model.duplicates import Duplicates
from headgate.model.reason import Reason
from headgate.model.run import RunRecord, RunState
from headgate.policy.token_bucket import RateTake
from headgate.store.protocols import DepthBound
from headgate.testing.store_conformance_ground import NOW, Ground, bound


async def an_admitted_run_is_stored_whole(ground: Ground) -> None:
    offer = ground.offer(
        user="ann",
        input='{"text":"Grüße 🌍"}',
        available_ms=NOW + 5,
        queue_deadline_ms=NOW + 60_000,
        deadline_ms=NOW + 90_000,
        cost=2.5,
        idempotency_key="k",
        content_key="c",
        budget_calls=10,
        budget_model_tokens=1000,
        degraded=True,
    )
    answer = await ground.store.admissions.admit(offer)
    expected = RunRecord(
        id=offer.id,
        origin_id=offer.id,
        replay_of=None,
        workflow="triage",
        tenant="acme",
        user="ann",
        lane="standard",
        state=RunState.QUEUED,
        reason=None,
        detail=None,
        input='{"text":"Grüße 🌍"}',
        result=None,
        cost=2.5,
        virtual_start=0.0,
        submitted_ms=NOW,
        available_ms=NOW + 5,
        queue_deadline_ms=NOW + 60_000,
        deadline_ms=NOW + 90_000,
        started_ms=None,
        finished_ms=None,
        owner=None,
        term=0,
        lease_until_ms=None,
        crashes=0,
        attempts=0,
        cancel_requested=False,
        degraded=True,
        budget_calls=10,
        budget_model_tokens=1000,
        used_calls=0,
        used_model_tokens=0,
        idempotency_key="k",
    )
    assert answer == Admission(expected, True, 0, None, ())
    assert await ground.store.runs.get(offer.id) == expected
    await ground.open_again()
    assert await ground.store.runs.get(offer.id) == expected


async def unset_fields_stay_unset(ground: Ground) -> None:
    run = await ground.admit()
    assert await ground.get(run) == run
    assert (run.user, run.queue_deadline_ms, run.deadline_ms, run.budget_calls, run.idempotency_key) == (None,) * 5


async def a_large_input_comes_back_unchanged(ground: Ground) -> None:
    text = '"' + "ü" * 400_000 + '"'
    run = await ground.admit(input=text)
    assert (await ground.get(run)).input == text
    (claim,) = await ground.claim()
    assert claim.run.input == text
    assert (await ground.store.runs.overview()).queues[0].bytes == 0


async def the_same_key_and_body_is_the_same_run(ground: Ground) -> None:
    first = await ground.admit(idempotency_key="k")
    again = await ground.ask(idempotency_key="k")
    assert isinstance(again, Admission)
    assert (again.run, again.created) == (first, False)
    (claim,) = await ground.claim()
    await ground.finish(claim.run)
    later = await ground.ask(idempotency_key="k")
    assert isinstance(later, Admission)
    assert (later.run.state, later.created, later.position) == (RunState.SUCCEEDED, False, 0)


async def the_same_key_with_another_body_is_a_conflict(ground: Ground) -> None:
    first = await ground.admit(idempotency_key="k")
    refusal = await ground.refused(idempotency_key="k", body_hash="other")
    assert (refusal.reason, refusal.run_id) == (Reason.IDEMPOTENCY_CONFLICT, first.id)


async def keys_belong_to_their_tenant(ground: Ground) -> None:
    first = await ground.admit(idempotency_key="k")
    second = await ground.admit(idempotency_key="k", tenant="other", body_hash="other")
    assert first.id != second.id


async def many_callers_with_one_key_get_one_run(ground: Ground) -> None:
    answers = await asyncio.gather(
        *(ground.ask(idempotency_key=f"k{index % 5}", bounds=(bound(10),)) for index in range(100))
    )
    admitted = [answer for answer in answers if isinstance(answer, Admission)]
    assert len(admitted) == 100
    assert sum(answer.created for answer in admitted) == 5
    assert len({answer.run.id for answer in admitted}) == 5


async def a_known_key_needs_no_room(ground: Ground) -> None:
    first = await ground.admit(idempotency_key="k", bounds=(bound(1),))
    again = await ground.ask(idempotency_key="k", bounds=(bound(1),))
    assert isinstance(again, Admission)
    assert again.run.id == first.id


async def a_refused_offer_finds_only_what_is_known(ground: Ground) -> None:
    first = await ground.store.admissions.admit(ground.offer(idempotency_key="k", body_hash="one"))
    assert isinstance(first, Admission)
    refusal = Refusal(Reason.DRAINING, "server", "shutting down")
    known = await ground.store.admissions.admit(ground.offer(idempotency_key="k", body_hash="one", refusal=refusal))
    assert isinstance(known, Admission)
    assert (known.run.id, known.created) == (first.run.id, False)
    for unknown in (ground.offer(idempotency_key="new", refusal=refusal), ground.offer(refusal=refusal)):
        assert await ground.store.admissions.admit(unknown) == refusal
    assert (await ground.store.runs.overview()).states[RunState.QUEUED] == 1


async def the_same_content_collapses(ground: Ground) -> None:
    first = await ground.admit(content_key="c", duplicates=Duplicates.COLLAPSE)
    again = await ground.ask(content_key="c", duplicates=Duplicates.COLLAPSE)
    assert isinstance(again, Admission)
    assert (again.run, again.created, again.collapsed) == (first, False, True)


async def the_same_content_is_refused(ground: Ground) -> None:
    first = await ground.admit(content_key="c", duplicates=Duplicates.REJECT)
    refusal = await ground.refused(content_key="c", duplicates=Duplicates.REJECT)
    assert (refusal.reason, refusal.run_id) == (Reason.DUPLICATE, first.id)


async def finished_content_is_no_duplicate(ground: Ground) -> None:
    run = await ground.started(content_key="c", duplicates=Duplicates.REJECT)
    await ground.finish(run)
    assert (await ground.admit(content_key="c", duplicates=Duplicates.REJECT)).id != run.id


async def a_bound_of_depth_d_holds_d(ground: Ground) -> None:
    limits = (bound(3),)
    for _ in range(3):
        await ground.admit(bounds=limits)
    refusal = await ground.refused(bounds=limits)
    assert (refusal.reason, refusal.scope, refusal.limit, refusal.used, refusal.unit) == (
        Reason.QUEUE_FULL,
        "workflow:triage",
        3,
        3,
        "runs",
    )
    assert refusal.retry_after_ms is not None
    await ground.claim(1)
    await ground.admit(bounds=limits)
    assert (await ground.refused(bounds=limits)).reason is Reason.QUEUE_FULL


async def concurrent_callers_never_pass_a_bound(ground: Ground) -> None:
    answers = await asyncio.gather(*(ground.ask(bounds=(bound(50),)) for _ in range(200)))
    assert sum(isinstance(answer, Admission) for answer in answers) == 50
    refused = [answer for answer in answers if isinstance(answer, Refusal)]
    assert {answer.reason for answer in refused} == {Reason.QUEUE_FULL}
    await ground.check_counters()


async def each_scope_counts_its_own(ground: Ground) -> None:
    await ground.admit(tenant="a", workflow="triage", lane="x")
    await ground.admit(tenant="b", workflow="research", lane="x")
    per_tenant = DepthBound("tenant:a", workflow="triage", tenant="a", depth=1)
    per_lane = DepthBound("lane:x", lane="x", depth=2)
    assert (await ground.refused(bounds=(per_tenant,), tenant="a")).scope == "tenant:a"
    assert (await ground.refused(bounds=(per_lane,), lane="x")).scope == "lane:x"
    await ground.admit(bounds=(DepthBound("tenant:b", workflow="triage", tenant="b", depth=1),), tenant="b")
    await ground.admit(bounds=(DepthBound("lane:y", lane="y", depth=1),), lane="y")


async def the_first_full_bound_is_named(ground: Ground) -> None:
    await ground.admit(lane="x")
    full = (bound(5), DepthBound("lane:x", lane="x", depth=1), bound(1))
    assert (await ground.refused(bounds=full, lane="x")).scope == "lane:x"


async def bytes_are_bounded(ground: Ground) -> None:
    limits = (bound(bytes=20),)
    await ground.admit(input='"12345678"', bounds=limits)
    await ground.admit(input='"12345678"', bounds=limits)
    refusal = await ground.refused(input="1", bounds=limits)
    assert (refusal.reason, refusal.unit, refusal.used) == (Reason.QUEUE_FULL, "content-bytes", 20)
    never = await ground.refused(input='"' + "ü" * 10 + '"', bounds=limits)
    assert (never.reason, never.retry_after_ms) == (Reason.NEVER_FITS, None)


async def other_scopes_are_not_counted(ground: Ground) -> None:
    for wrong in (
        DepthBound("a", tenant="acme", depth=1),
        DepthBound("b", workflow="triage", lane="standard", depth=1),
        DepthBound("c", depth=1),
    ):
        try:
            await ground.ask(bounds=(wrong,))
        except ValueError:
            continue
        raise AssertionError(f"{wrong} was accepted")


async def near_its_bound_a_run_is_degraded(ground: Ground) -> None:
    limits = (bound(10, degrade_from=2),)
    runs = [await ground.admit(bounds=limits) for _ in range(3)]
    assert [run.degraded for run in runs] == [False, False, True]
    assert (await ground.get(runs[2])).degraded


async def a_shadow_bound_only_reports(ground: Ground) -> None:
    limits = (bound(1, shadow=True),)
    first = await ground.ask(bounds=limits)
    second = await ground.ask(bounds=limits)
    assert isinstance(first, Admission)
    assert isinstance(second, Admission)
    assert (first.shadowed, second.shadowed) == ((), ("workflow:triage",))
    assert second.limits == ()


def per_minute(amount: float = 1.0, *, key: str = "runs:ann", shadow: bool = False) -> RateTake:
    return RateTake(key, "user:ann", 2, 60_000, amount, shadow=shadow)


async def a_rate_is_taken(ground: Ground) -> None:
    first = await ground.ask(rates=(per_minute(),), bounds=(bound(5),))
    assert isinstance(first, Admission)
    assert first.limits == (
        LimitUse("workflow:triage", 5, 4, "runs", None, None),
        LimitUse("user:ann", 2, 1, "runs", 60.0, 30.0),
    )
    await ground.admit(rates=(per_minute(),))
    refusal = await ground.refused(rates=(per_minute(),))
    assert (refusal.reason, refusal.scope, refusal.limit, refusal.used, refusal.retry_after_ms, refusal.window_s) == (
        Reason.RATE_LIMITED,
        "user:ann",
        2,
        2,
        30_000,
        60.0,
    )
    await ground.admit(rates=(per_minute(),), now_ms=NOW + 30_000)
    await ground.open_again()
    assert (await ground.refused(rates=(per_minute(),), now_ms=NOW + 30_000)).reason is Reason.RATE_LIMITED


async def a_refused_run_takes_no_rate(ground: Ground) -> None:
    await ground.admit()
    await ground.refused(rates=(per_minute(),), bounds=(bound(1),))
    await ground.refused(rates=(per_minute(key="a"), per_minute(3.0, key="b")))
    await ground.admit(rates=(per_minute(2.0), per_minute(2.0, key="a")))


async def an_amount_beyond_the_bucket_never_fits(ground: Ground) -> None:
    refusal = await ground.refused(rates=(per_minute(3.0),))
    assert (refusal.reason, refusal.retry_after_ms) == (Reason.NEVER_FITS, None)


async def a_shadow_rate_only_reports(ground: Ground) -> None:
    answers = [await ground.ask(rates=(per_minute(shadow=True),)) for _ in range(3)]
    assert [isinstance(answer, Admission) and answer.shadowed for answer in answers] == [(), (), ("user:ann",)]


async def concurrent_callers_never_pass_a_rate(ground: Ground) -> None:
    wish = RateTake("runs:all", "fleet", 10, 1000)
    answers = await asyncio.gather(*(ground.ask(rates=(wish,)) for _ in range(60)))
    assert sum(isinstance(answer, Admission) for answer in answers) == 10


async def tenants_take_turns(ground: Ground) -> None:
    for _ in range(4):
        await ground.admit(tenant="greedy")
    for _ in range(2):
        await ground.admit(tenant="modest")
    order = [claim.run.tenant for claim in await ground.claim(6)]
    assert order == ["greedy", "modest", "greedy", "modest", "greedy", "greedy"]


async def weights_and_costs_count(ground: Ground) -> None:
    heavy = [await ground.admit(tenant="heavy", cost=3.0) for _ in range(2)]
    light = [await ground.admit(tenant="light", weight=2.0) for _ in range(3)]
    assert [run.virtual_start for run in heavy] == [0.0, 3.0]
    assert [run.virtual_start for run in light] == [0.0, 0.5, 1.0]


async def an_idle_tenant_earns_no_credit(ground: Ground) -> None:
    for _ in range(5):
        await ground.admit(tenant="busy")
    claims = await ground.claim(3)
    late = await ground.admit(tenant="late")
    assert late.virtual_start == claims[-1].run.virtual_start == 2.0
    await ground.open_again()
    assert (await ground.admit(tenant="later")).virtual_start == 2.0


async def positions_are_exact_while_few_wait(ground: Ground) -> None:
    await ground.admit(lane="first")
    answers = [await ground.ask(tenant=tenant, ahead_of=("first",)) for tenant in ("a", "a", "a", "b", "b")]
    positions = [answer.position for answer in answers if isinstance(answer, Admission)]
    # each as things stood when it came: b's runs go before a's later ones
    assert positions == [1, 2, 3, 2, 4]
    order = [claim.run.tenant for claim in await ground.claim()]
    assert order == ["a", "b", "a", "b", "a"]


CASES = (
    an_admitted_run_is_stored_whole,
    unset_fields_stay_unset,
    a_large_input_comes_back_unchanged,
    the_same_key_and_body_is_the_same_run,
    the_same_key_with_another_body_is_a_conflict,
    keys_belong_to_their_tenant,
    many_callers_with_one_key_get_one_run,
    a_known_key_needs_no_room,
    a_refused_offer_finds_only_what_is_known,
    the_same_content_collapses,
    the_same_content_is_refused,
    finished_content_is_no_duplicate,
    a_bound_of_depth_d_holds_d,
    concurrent_callers_never_pass_a_bound,
    each_scope_counts_its_own,
    the_first_full_bound_is_named,
    bytes_are_bounded,
    other_scopes_are_not_counted,
    near_its_bound_a_run_is_degraded,
    a_shadow_bound_only_reports,
    a_rate_is_taken,
    a_refused_run_takes_no_rate,
    an_amount_beyond_the_bucket_never_fits,
    a_shadow_rate_only_reports,
    concurrent_callers_never_pass_a_rate,
    tenants_take_turns,
    weights_and_costs_count,
    an_idle_tenant_earns_no_credit,
    positions_are_exact_while_few_wait,
)
