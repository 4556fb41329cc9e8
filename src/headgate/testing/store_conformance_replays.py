"""Conformance of replays in `headgate.store.protocols.Admissions`."""

from __future__ import annotations

import dataclasses

from headgate.model.decision import Admission
from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.model.step import Effect, StepState
from headgate.testing.store_conformance_ground import NOW, Ground, a_step, an_intent, bound


async def a_replay_is_a_new_run_that_points_back(ground: Ground) -> None:
    source = await ground.dead()
    replay = await ground.admit(replay_of=source.id)
    assert (replay.replay_of, replay.origin_id, replay.term) == (source.id, source.id, 0)
    assert replay.id != source.id
    assert (await ground.get(source)).state is RunState.FAILED


async def a_replay_of_a_replay_keeps_the_origin(ground: Ground) -> None:
    source = await ground.dead()
    second = await ground.dead(replay_of=source.id)
    third = await ground.admit(replay_of=second.id)
    assert third.origin_id == source.id


async def a_replay_remembers_what_was_done(ground: Ground) -> None:
    run = await ground.started()
    steps = [a_step("k1"), a_step("k2", seq=1, result=None)]
    for step in steps:
        assert await ground.store.journal.record(run.id, "w1", 1, step)
    await ground.finish(run, RunState.FAILED)
    replay = await ground.admit(replay_of=run.id)
    assert await ground.store.runs.steps(replay.id) == steps
    (claim,) = await ground.claim()
    assert (claim.run.term, claim.steps) == (1, tuple(steps))


async def only_dead_letters_are_replayed(ground: Ground) -> None:
    waiting = await ground.admit()
    refusal = await ground.refused(replay_of=waiting.id)
    assert (refusal.reason, refusal.run_id) == (Reason.NOT_REPLAYABLE, waiting.id)
    (claim,) = await ground.claim()
    assert (await ground.refused(replay_of=waiting.id)).reason is Reason.NOT_REPLAYABLE
    await ground.finish(claim.run)
    assert (await ground.refused(replay_of=waiting.id)).reason is Reason.NOT_REPLAYABLE


async def an_expired_run_is_a_dead_letter_too(ground: Ground) -> None:
    run = await ground.admit(queue_deadline_ms=NOW + 1)
    await ground.store.upkeep.expire(now_ms=NOW + 1, limit=10)
    assert (await ground.admit(replay_of=run.id)).replay_of == run.id


async def another_tenants_run_is_unknown(ground: Ground) -> None:
    source = await ground.dead()
    assert (await ground.refused(replay_of=source.id, tenant="other")).reason is Reason.UNKNOWN_RUN
    assert (await ground.refused(replay_of="00000000-0000-7000-8000-000000000000")).reason is Reason.UNKNOWN_RUN


async def one_replay_at_a_time(ground: Ground) -> None:
    source = await ground.dead()
    replay = await ground.admit(replay_of=source.id)
    refusal = await ground.refused(replay_of=source.id)
    assert (refusal.reason, refusal.run_id) == (Reason.NOT_REPLAYABLE, replay.id)
    (claim,) = await ground.claim()
    assert (await ground.refused(replay_of=source.id)).run_id == replay.id
    await ground.finish(claim.run, RunState.FAILED)
    assert (await ground.admit(replay_of=source.id)).replay_of == source.id


async def one_replay_at_a_time_in_the_whole_lineage(ground: Ground) -> None:
    source = await ground.dead()
    second = await ground.dead(replay_of=source.id)
    third = await ground.admit(replay_of=second.id)
    assert (await ground.refused(replay_of=source.id)).run_id == third.id


async def a_second_replay_remembers_what_the_first_did(ground: Ground) -> None:
    """Nobody may pay twice because the older of two dead letters was replayed."""
    source = await ground.dead()
    for end, key in ((RunState.FAILED, "k1"), (RunState.CANCELLED, "k2"), (RunState.SUCCEEDED, "k3")):
        replay = await ground.started(replay_of=source.id)
        done = a_step(key, effect=Effect.ONCE)
        assert await ground.store.journal.record(replay.id, "w1", 1, done)
        await ground.store.upkeep.prune(before_ms=NOW + 1_000_000, limit=10)
        await ground.finish(replay, end)
    last = await ground.admit(replay_of=source.id)
    assert sorted(step.key for step in await ground.store.runs.steps(last.id)) == ["k1", "k2", "k3"]


async def what_a_replay_began_is_unknown_to_the_next(ground: Ground) -> None:
    source = await ground.dead()
    replay = await ground.started(replay_of=source.id)
    assert await ground.store.journal.begin(replay.id, "w1", 1, an_intent())
    await ground.finish(replay, RunState.FAILED)
    assert (await ground.refused(replay_of=source.id)).reason is Reason.UNKNOWN_OUTCOME
    again = await ground.started(replay_of=source.id, assume="not_done")
    assert await ground.store.journal.record(again.id, "w1", 1, dataclasses.replace(an_intent(), tries=1))
    await ground.finish(again, RunState.FAILED)
    for run in (source, replay, again):  # it is known now: one of them did it
        last = await ground.started(replay_of=run.id)
        (step,) = await ground.store.runs.steps(last.id)
        assert (step.state, step.tries) == (StepState.DONE, 1)
        await ground.finish(last, RunState.FAILED)


async def what_was_assumed_for_one_replay_is_asked_again_for_another(ground: Ground) -> None:
    source = await ground.started()
    assert await ground.store.journal.begin(source.id, "w1", 1, an_intent())
    await ground.finish(source, RunState.FAILED)
    assumed = await ground.dead(replay_of=source.id, assume="done")
    assert (await ground.refused(replay_of=source.id)).reason is Reason.UNKNOWN_OUTCOME
    second = await ground.dead(replay_of=source.id, assume="not_done")
    assert await ground.store.runs.steps(second.id) == []
    third = await ground.admit(replay_of=assumed.id)
    assert [step.result for step in await ground.store.runs.steps(third.id)] == ["null"]


async def an_unknown_outcome_needs_an_answer(ground: Ground) -> None:
    run = await ground.started()
    assert await ground.store.journal.record(run.id, "w1", 1, a_step("k1"))
    assert await ground.store.journal.begin(run.id, "w1", 1, an_intent(seq=1))
    await ground.finish(run, RunState.FAILED)
    assert (await ground.refused(replay_of=run.id)).reason is Reason.UNKNOWN_OUTCOME
    replay = await ground.admit(replay_of=run.id, assume="not_done")
    assert [step.key for step in await ground.store.runs.steps(replay.id)] == ["k1"]
    assert len(await ground.store.runs.steps(run.id)) == 2, "the dead letter keeps its own journal"


async def an_assumed_step_is_done_with_nothing(ground: Ground) -> None:
    run = await ground.started()
    intent = an_intent()
    assert await ground.store.journal.begin(run.id, "w1", 1, intent)
    await ground.finish(run, RunState.FAILED)
    replay = await ground.admit(replay_of=run.id, assume="done", now_ms=NOW + 7)
    (step,) = await ground.store.runs.steps(replay.id)
    assert step == dataclasses.replace(intent, state=StepState.DONE, result="null", tries=0, finished_ms=NOW + 7)


async def a_replay_waits_in_the_same_bounded_queue(ground: Ground) -> None:
    source = await ground.dead()
    await ground.admit()
    assert (await ground.refused(replay_of=source.id, bounds=(bound(1),))).reason is Reason.QUEUE_FULL
    assert (await ground.admit(replay_of=source.id, bounds=(bound(2),))).virtual_start > 0


async def a_replays_key_is_known_first(ground: Ground) -> None:
    source = await ground.dead()
    replay = await ground.admit(replay_of=source.id, idempotency_key="again")
    known = await ground.ask(replay_of=source.id, idempotency_key="again")
    assert isinstance(known, Admission)
    assert (known.created, known.run.id) == (False, replay.id)


CASES = (
    a_replay_is_a_new_run_that_points_back,
    a_replay_of_a_replay_keeps_the_origin,
    a_replay_remembers_what_was_done,
    only_dead_letters_are_replayed,
    an_expired_run_is_a_dead_letter_too,
    another_tenants_run_is_unknown,
    one_replay_at_a_time,
    one_replay_at_a_time_in_the_whole_lineage,
    a_second_replay_remembers_what_the_first_did,
    what_a_replay_began_is_unknown_to_the_next,
    what_was_assumed_for_one_replay_is_asked_again_for_another,
    an_unknown_outcome_needs_an_answer,
    an_assumed_step_is_done_with_nothing,
    a_replay_waits_in_the_same_bounded_queue,
    a_replays_key_is_known_first,
)
