"""Questions to people: asked, waited for without holding anything, answered, expired."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.runs.context import Run

from .bench import Bench, on_bench


async def only_question(bench: Bench) -> str:
    waiting = await bench.store.approvals.waiting(queue="replies", tenant=None, limit=10)
    assert len(waiting) == 1
    return waiting[0].id


async def answer(bench: Bench, *, approved: bool, note: str | None = None) -> None:
    await bench.store.approvals.decide(
        await only_question(bench), tenant=None, approved=approved, by="ann", note=note, now_ms=bench.clock.now_ms()
    )
    for worker in bench.workers:
        worker.poke()


def asking(bench: Bench) -> None:
    async def job(run: Run) -> Any:
        draft = await run.call("tool", bench.do, "draft")
        given = await run.approval("replies", {"draft": draft})
        return [given, await run.call("tool", bench.do, "post", effect="once")]

    bench.workflow(job)


def test_a_yes_wakes_the_run_at_the_same_place(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        asking(bench)
        worker = await bench.worker()
        run_id = await bench.submit()
        await bench.passes(60.0)
        run = await bench.get(run_id)
        assert (run.state, run.reason, run.owner, run.used_calls) == (
            RunState.SUSPENDED,
            Reason.APPROVAL_WAIT,
            None,
            1,
        )
        assert (worker.statistics().running, worker.statistics().suspended) == (0, 1)
        await answer(bench, approved=True, note="nice")
        ended = await bench.ended(run_id)
        assert json.loads(ended.result or "") == [{"approved_by": "ann", "note": "nice"}, "did post"]
        assert bench.ledger == {"draft": 1, "post": 1}
        assert len(bench.told("approval_asked")) == 1

    on_bench(tmp_path, main)


def test_a_no_ends_the_run(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        asking(bench)
        await bench.worker()
        run_id = await bench.submit()
        await bench.passes(1.0)
        await answer(bench, approved=False, note="rude")
        ended = await bench.ended(run_id)
        assert (ended.state, ended.reason) == (RunState.FAILED, Reason.APPROVAL_DENIED)
        assert "denied by ann: rude" in (ended.detail or "")
        assert bench.ledger == {"draft": 1}

    on_bench(tmp_path, main)


def test_a_question_nobody_answers_is_denied_on_time(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        asking(bench)
        await bench.worker()
        ended = await bench.ended(await bench.submit(), within_s=1000.0)
        assert (ended.state, ended.reason) == (RunState.FAILED, Reason.APPROVAL_DENIED)
        assert "nobody answered in time" in (ended.detail or "")
        assert 600.0 <= bench.clock.monotonic() < 603.0
        assert bench.told("approval_decided")[0].fields["outcome"] == "expired"

    on_bench(tmp_path, main)


def test_a_deadline_that_passes_before_the_answer_says_so(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        asking(bench)
        await bench.worker()
        run_id = await bench.submit(deadline_ms=bench.clock.now_ms() + 60_000)
        ended = await bench.ended(run_id)
        assert (ended.state, ended.reason) == (RunState.EXPIRED, Reason.DEADLINE_PASSED)
        assert ended.detail == "nobody answered its question in 'leads' before its deadline", "where it was at last"
        assert bench.clock.monotonic() < 63.0

    on_bench(
        tmp_path,
        main,
        approvals={
            "replies": {"max_age": 30.0, "on_expiry": "escalate", "escalate_to": "leads"},
            "leads": {"max_age": 600.0},
        },
    )


def test_a_queue_may_take_silence_as_a_yes(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        asking(bench)
        await bench.worker()
        ended = await bench.ended(await bench.submit(), within_s=1000.0)
        assert json.loads(ended.result or "")[0] == {"approved_by": None, "note": "nobody answered in time"}

    on_bench(tmp_path, main, approvals={"replies": {"max_age": 30.0, "on_expiry": "approve"}})


def test_a_full_queue_of_questions_makes_the_run_wait_outside(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        asking(bench)
        await bench.worker()
        for _ in range(2):
            await bench.submit()
        await bench.passes(1.0)
        third = await bench.submit()
        await bench.passes(1.0)
        run = await bench.get(third)
        assert (run.state, run.reason) == (RunState.SUSPENDED, Reason.RETRY_WAIT)
        assert "queue_full" in (run.detail or "")
        assert len(await bench.store.approvals.waiting(queue="replies", tenant=None, limit=10)) == 2

    on_bench(tmp_path, main)


def test_other_branches_reach_their_next_step_before_the_run_is_suspended(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def slow_branch(run: Run) -> list[str]:
            return [await run.call("tool", bench.do, name, 10.0, effect="once") for name in ("one", "two")]

        async def job(run: Run) -> Any:
            return await asyncio.gather(run.approval("replies", "go?"), slow_branch(run))

        bench.workflow(job)
        await bench.worker()
        run_id = await bench.submit()
        await bench.passes(5.0)
        assert (await bench.get(run_id)).state is RunState.RUNNING
        await bench.passes(20.0)
        assert (await bench.get(run_id)).state is RunState.SUSPENDED
        await answer(bench, approved=True)
        ended = await bench.ended(run_id)
        assert json.loads(ended.result or "") == [{"approved_by": "ann", "note": None}, ["did one", "did two"]]
        assert bench.ledger == {"one": 1, "two": 1}

    on_bench(tmp_path, main)


def test_two_questions_at_once_are_put_one_after_the_other(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> Any:
            return await asyncio.gather(run.approval("replies", 1), run.approval("replies", 2))

        bench.workflow(job)
        await bench.worker()
        run_id = await bench.submit()
        for _ in range(2):
            await bench.passes(1.0)
            await answer(bench, approved=True)
        ended = await bench.ended(run_id)
        assert ended.state is RunState.SUCCEEDED
        assert len(json.loads(ended.result or "")) == 2

    on_bench(tmp_path, main)


def test_a_stage_is_given_back_while_the_run_waits_for_people(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run, ask: bool) -> str:
            async with run.stage("publish"):
                if ask:
                    await run.approval("replies", "go?")
                return await bench.do("published", 1.0)

        bench.workflow(job)
        await bench.worker()
        asks = await bench.submit(True)
        await bench.passes(1.0)
        assert bench.resources.get("publish").statistics().inflight == 0
        others = [await bench.submit(False) for _ in range(3)]
        for run_id in others:
            assert (await bench.ended(run_id)).state is RunState.SUCCEEDED
        assert bench.clock.monotonic() > 4.0  # one at a time
        await answer(bench, approved=True)
        assert (await bench.ended(asks)).state is RunState.SUCCEEDED

    on_bench(tmp_path, main)


def test_a_workflow_that_swallows_its_suspension_waits_all_the_same(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> str:
            try:
                await run.approval("replies", "go?")
            except BaseException:  # noqa: BLE001
                await run.call("tool", bench.do, "in spite of it")
            return "done"

        bench.workflow(job)
        await bench.worker()
        run_id = await bench.submit()
        await bench.passes(1.0)
        assert (await bench.get(run_id)).state is RunState.SUSPENDED
        assert bench.ledger == {}
        await answer(bench, approved=True)
        assert json.loads((await bench.ended(run_id)).result or "") == "done"

    on_bench(tmp_path, main)


def test_an_unknown_queue_is_named(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> None:
            await run.approval("replys", "go?")

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit())
        assert "did you mean 'replies'?" in (ended.detail or "")

    on_bench(tmp_path, main)


LEADS: dict[str, Any] = {
    "replies": {"max_age": 30.0, "on_expiry": "escalate", "escalate_to": "leads"},
    "leads": {"max_age": 60.0},
}


def test_an_unanswered_question_is_escalated_and_can_be_answered_there(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        asking(bench)
        await bench.worker()
        run_id = await bench.submit()
        await bench.passes(35.0)
        (question,) = await bench.store.approvals.waiting(queue="leads", tenant=None, limit=5)
        assert (await bench.get(run_id)).state is RunState.SUSPENDED
        (told,) = bench.told("approval_escalated")
        assert (told.fields["old"], told.fields["new"]) == ("replies", "leads")
        await bench.store.approvals.decide(
            question.id, tenant=None, approved=True, by="bea", note=None, now_ms=bench.clock.now_ms()
        )
        ended = await bench.ended(run_id)
        assert json.loads(ended.result or "")[0] == {"approved_by": "bea", "note": None}
        assert bench.ledger == {"draft": 1, "post": 1}

    on_bench(tmp_path, main, approvals=LEADS)


def test_the_last_queue_decides_what_silence_means(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        asking(bench)
        await bench.worker()
        run_id = await bench.submit()
        await bench.passes(80.0)
        assert not (await bench.get(run_id)).state.terminal
        ended = await bench.ended(run_id)
        assert json.loads(ended.result or "")[0] == {"approved_by": None, "note": "nobody answered in time"}
        assert 90.0 <= bench.clock.monotonic() < 93.0

    on_bench(tmp_path, main, approvals={**LEADS, "leads": {"max_age": 60.0, "on_expiry": "approve"}})


def test_where_the_next_queue_is_full_nobodys_answer_is_no(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        asking(bench)
        await bench.worker()
        runs = [await bench.submit() for _ in range(2)]
        await bench.passes(40.0)
        states = sorted([(await bench.get(run_id)).state.value for run_id in runs])
        assert states == ["failed", "suspended"]

    on_bench(tmp_path, main, approvals={**LEADS, "leads": {"depth": 1, "max_age": 60.0}})
