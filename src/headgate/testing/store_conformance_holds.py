"""Conformance of what runs hold: `RunOffer.needs`, `RunOffer.rates` that settle, and `ClaimRequest.most`."""

from __future__ import annotations

import asyncio
from typing import Any

from headgate.model.decision import Admission, Refusal
from headgate.model.reason import Reason
from headgate.model.run import RunRecord, RunState
from headgate.policy.holds import PASSES, PATIENCE_MS, Need
from headgate.policy.token_bucket import RateTake
from headgate.store.protocols import Claim, ClaimRequest
from headgate.testing.store_conformance_ground import LEASE, NOW, Ground, a_step

MEMORY = Need("memory", "fleet", "memory", 4, 10, running=True)
PLACE = Need("place", "tenant:acme", "runs", 1, 2)
TOKENS = RateTake("tokens", "fleet", per_window=1000, window_ms=60_000, amount=400, unit="model_tokens")


def memory(amount: int, most: int = 10) -> Need:
    """So much of 10, held while a run runs."""
    return Need("memory", "fleet", "memory", amount, most, running=True)


async def _claim(ground: Ground, count: int = 100, *, now_ms: int = NOW, most: int = 10) -> list[RunRecord]:
    claims: list[Claim] = await ground.store.claims.claim(
        ClaimRequest("w1", now_ms, now_ms + LEASE, (("standard", count),), ("triage",), most={"memory": most})
    )
    return [claim.run for claim in claims]


async def _held(ground: Ground) -> dict[str, int]:
    held = dict(await ground.store.holds.held())
    assert held == dict(await ground.store.holds.held_by_runs())
    return held


async def _left(ground: Ground, *, now_ms: int = NOW) -> float:
    """Model tokens that could be taken now, found out by asking for too much."""
    wish = RateTake("tokens", "fleet", per_window=1000, window_ms=60_000, amount=1000, unit="model_tokens")
    refusal = await ground.ask(rates=(wish,), now_ms=now_ms)
    assert isinstance(refusal, Refusal), refusal
    assert refusal.used is not None
    return 1000 - refusal.used


async def a_place_is_held_until_the_end(ground: Ground) -> None:
    one = await ground.admit(needs=(PLACE,))
    await ground.admit(needs=(PLACE,))
    refusal = await ground.refused(needs=(PLACE,))
    assert (refusal.reason, refusal.scope, refusal.limit, refusal.used) == (Reason.CONCURRENCY, "tenant:acme", 2, 2)
    assert await _held(ground) == {"place": 2}
    (first, second) = await _claim(ground)
    assert first.id == one.id
    await ground.suspend(first, wake_ms=None)
    assert await _held(ground) == {"place": 2}
    await ground.finish(second)
    assert await _held(ground) == {"place": 1}
    await ground.store.runs.cancel(first.id, tenant=None, now_ms=NOW, detail="x")
    assert await _held(ground) == {}
    await ground.open_again()
    await ground.admit(needs=(PLACE,))
    assert await _held(ground) == {"place": 1}


async def places_are_exact_with_many_callers(ground: Ground) -> None:
    answers = await asyncio.gather(*(ground.ask(needs=(PLACE,)) for _ in range(50)))
    assert sum(isinstance(answer, Admission) for answer in answers) == 2
    assert await _held(ground) == {"place": 2}


async def all_is_taken_or_nothing(ground: Ground) -> None:
    short = RateTake("runs", "fleet", per_window=1, window_ms=60_000)
    await ground.admit(rates=(short,))
    refusal = await ground.refused(needs=(PLACE, memory(4)), rates=(TOKENS, short))
    assert refusal.reason is Reason.RATE_LIMITED
    assert await _held(ground) == {}
    await ground.admit(rates=(_tokens(1000),))


async def what_exceeds_the_whole_never_fits(ground: Ground) -> None:
    refusal = await ground.refused(needs=(memory(11),))
    assert (refusal.reason, refusal.scope, refusal.unit, refusal.limit) == (Reason.NEVER_FITS, "fleet", "memory", 10)
    assert refusal.retry_after_ms is None
    learned = Need("memory", "fleet", "memory", 11, 10, running=True, stated=False)
    await ground.admit(needs=(learned,))
    assert len(await _claim(ground)) == 1
    assert await _held(ground) == {"memory": 10}


async def shadow_needs_refuse_nothing(ground: Ground) -> None:
    shadow = Need("shadow", "tenant:acme", "runs", 1, 1, shadow=True)
    await ground.admit(needs=(shadow,))
    answer = await ground.ask(needs=(shadow,))
    assert isinstance(answer, Admission)
    assert answer.shadowed == ("tenant:acme",)


async def only_runs_that_fit_are_claimed(ground: Ground) -> None:
    runs = [await ground.admit(needs=(memory(4),)) for _ in range(3)]
    free = await ground.admit()
    claimed = await _claim(ground)
    assert [run.id for run in claimed] == [runs[0].id, runs[1].id, free.id]
    assert await _held(ground) == {"memory": 8}
    assert await _claim(ground) == []
    await ground.finish(claimed[0])
    assert [run.id for run in await _claim(ground)] == [runs[2].id]
    await ground.check_counters()


async def whatever_takes_a_run_from_its_worker_gives_back(ground: Ground) -> None:
    for _ in range(4):
        await ground.admit(needs=(memory(2),))
    released, suspended, lost, cancelled = await _claim(ground)
    assert await _held(ground) == {"memory": 8}
    claims = ground.store.claims
    assert released.owner is not None
    assert await claims.release(released.id, released.owner, released.term, now_ms=NOW, reason="interrupted")
    await ground.suspend(suspended, wake_ms=None)
    assert await _held(ground) == {"memory": 4}
    await ground.store.runs.cancel(cancelled.id, tenant=None, now_ms=NOW, detail="x")
    await ground.store.upkeep.rescue(now_ms=NOW + LEASE, max_crashes=3, limit=10)
    assert await _held(ground) == {}
    again = await _claim(ground, now_ms=NOW + LEASE)
    assert {run.id for run in again} == {released.id, lost.id}
    assert await _held(ground) == {"memory": 4}


async def a_run_that_does_not_fit_is_not_passed_for_ever(ground: Ground) -> None:
    await ground.admit(needs=(memory(6),))
    (first,) = await _claim(ground)
    large = await ground.admit(needs=(memory(8),))
    for passed in range(PASSES + 3):
        await ground.admit(needs=(memory(2),))
        claimed = await _claim(ground, now_ms=NOW + passed)
        assert [run.cost for run in claimed] == [1.0] * (1 if passed < PASSES else 0), passed
        for run in claimed:
            await ground.finish(run)
    await ground.finish(first)
    assert [run.id for run in await _claim(ground, 1, now_ms=NOW + 10)] == [large.id]
    assert [run.cost for run in await _claim(ground, 1, now_ms=NOW + 11)] == [1.0]
    assert await _held(ground) == {"memory": 10}


async def after_its_patience_capacity_is_kept_for_it(ground: Ground) -> None:
    await ground.admit(needs=(memory(6),))
    (first,) = await _claim(ground)
    large = await ground.admit(needs=(memory(8),))
    assert await _claim(ground, now_ms=NOW + 1) == []
    await ground.admit(needs=(memory(2),))
    assert await _claim(ground, now_ms=NOW + 1 + PATIENCE_MS) == []
    await ground.store.runs.cancel(large.id, tenant=None, now_ms=NOW, detail="x")
    assert len(await _claim(ground, now_ms=NOW + 2 + PATIENCE_MS)) == 1
    await ground.finish(first)
    assert await _held(ground) == {"memory": 2}


async def patience_begins_with_the_first_look_that_finds_no_room(ground: Ground) -> None:
    await ground.admit(needs=(memory(6),))
    await _claim(ground)
    await ground.admit(needs=(memory(8),))
    assert await _claim(ground, now_ms=NOW + PATIENCE_MS) == []
    small = await ground.admit(needs=(memory(2),))
    assert [run.id for run in await _claim(ground, now_ms=NOW + 1 + PATIENCE_MS)] == [small.id]
    await ground.finish(await ground.get(small))
    await ground.admit(needs=(memory(2),))
    assert await _claim(ground, now_ms=NOW + 2 * PATIENCE_MS) == []


async def no_two_runs_keep_what_the_other_lacks(ground: Ground) -> None:
    async def claim(now_ms: int) -> list[str]:
        request = ClaimRequest(
            "w1", now_ms, NOW + 2**30, (("high", 9), ("standard", 9)), ("triage",), most={"memory": 10, "calls": 10}
        )
        return [one.run.id for one in await ground.store.claims.claim(request)]

    async def end(run: RunRecord) -> None:
        await ground.finish(await ground.get(run))

    calls = Need("calls", "fleet", "tool_calls", 6, 10, running=True)
    first, second = await ground.admit(needs=(memory(6),)), await ground.admit(needs=(calls,))
    assert len(await claim(NOW)) == 2
    keeper = await ground.admit(lane="high", needs=(memory(6),))
    assert await claim(NOW) == []
    later = NOW + PATIENCE_MS
    assert await claim(later) == [], "memory is kept for it"
    low = await ground.admit(needs=(memory(6), calls))
    assert await claim(later) == []
    high = await ground.admit(lane="high", needs=(memory(6), calls))
    await end(first)
    assert await claim(later) == [keeper.id], "and now for somebody else"
    await end(second)
    await end(keeper)
    assert await _held(ground) == {}
    assert await claim(later + 1) == [high.id]
    await end(high)
    assert await claim(later + 2) == [low.id]


async def rates_settle_to_what_was_used(ground: Ground) -> None:
    less, more, failed = [await ground.admit(rates=(one,)) for one in (TOKENS, TOKENS, _tokens(100))]
    assert await _left(ground) == 100
    claimed = {run.id: run for run in await _claim(ground)}
    await ground.finish(claimed[less.id], used_model_tokens=150)
    assert await _left(ground) == 350
    await ground.finish(claimed[more.id], used_model_tokens=600)
    assert await _left(ground) == 150
    await ground.finish(claimed[failed.id], RunState.FAILED, used_model_tokens=0)
    assert await _left(ground) == 250


def _tokens(amount: float, **changes: Any) -> RateTake:
    return RateTake(
        "tokens", "fleet", per_window=1000, window_ms=60_000, amount=amount, unit="model_tokens", **changes
    )


async def a_run_that_never_ran_gets_its_rates_back(ground: Ground) -> None:
    cancelled = await ground.admit(rates=(TOKENS,))
    await ground.admit(rates=(TOKENS,), queue_deadline_ms=NOW + 1)
    await ground.store.runs.cancel(cancelled.id, tenant=None, now_ms=NOW, detail="x")
    assert await _left(ground) == 600
    await ground.store.upkeep.expire(now_ms=NOW + 1, limit=10)
    assert abs(await _left(ground) - 1000) < 0.1


async def a_worker_that_vanished_leaves_its_steps_to_count(ground: Ground) -> None:
    run = await ground.started(rates=(TOKENS, RateTake("large", "model:large", 1000, 60_000, 400, unit="model_tokens", of="large")))  # fmt: skip  # noqa: E501
    assert run.owner is not None
    step = a_step(resource="large", model_tokens=250)
    assert await ground.store.journal.record(run.id, run.owner, run.term, step)
    await ground.store.upkeep.rescue(now_ms=NOW + LEASE, max_crashes=1, limit=10)
    assert (await ground.get(run)).state is RunState.FAILED
    assert abs(await _left(ground, now_ms=NOW) - 750) < 1
    large = RateTake("large", "model:large", 1000, 60_000, 1000, unit="model_tokens")
    refusal = await ground.refused(rates=(large,))
    assert refusal.used is not None
    assert abs(refusal.used - 250) < 1


async def nothing_comes_back_twice(ground: Ground) -> None:
    old = await ground.started(rates=(_tokens(1000),))
    later = NOW + 60_000
    await ground.admit(rates=(_tokens(1000),), now_ms=later)
    assert await _left(ground, now_ms=later) == 0
    await ground.finish(old, now_ms=later, used_model_tokens=0)
    assert await _left(ground, now_ms=later) == 0


CASES = (
    a_place_is_held_until_the_end,
    places_are_exact_with_many_callers,
    all_is_taken_or_nothing,
    what_exceeds_the_whole_never_fits,
    shadow_needs_refuse_nothing,
    only_runs_that_fit_are_claimed,
    whatever_takes_a_run_from_its_worker_gives_back,
    a_run_that_does_not_fit_is_not_passed_for_ever,
    after_its_patience_capacity_is_kept_for_it,
    patience_begins_with_the_first_look_that_finds_no_room,
    no_two_runs_keep_what_the_other_lacks,
    rates_settle_to_what_was_used,
    a_run_that_never_ran_gets_its_rates_back,
    a_worker_that_vanished_leaves_its_steps_to_count,
    nothing_comes_back_twice,
)
