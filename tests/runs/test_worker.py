"""The life of runs on a worker: carried out, remembered, in parallel, in turn."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pydantic

from headgate.guard.ambient import current
from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.runs.context import Run

from .bench import Bench, on_bench


class Ticket(pydantic.BaseModel):
    title: str
    urgency: int = 1


FAILS = {"job": {"budget": {"at_ceiling": "fail"}}}


def test_a_run_is_carried_out_and_its_steps_are_remembered(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run, name: str) -> dict[str, Any]:
            hit = await run.call("tool", bench.do, f"look up {name}")
            again = await run.call("tool", bench.do, f"look up {name}")
            return {"hit": hit, "again": again, "tenant": run.tenant, "attempt": run.attempt}

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit("ann"))
        assert (ended.state, ended.reason) == (RunState.SUCCEEDED, Reason.SUCCEEDED)
        assert json.loads(ended.result or "") == {
            "hit": "did look up ann",
            "again": "did look up ann",
            "tenant": "t",
            "attempt": 1,
        }
        assert ended.used_calls == 2
        assert bench.ledger == {"look up ann": 2}  # asked twice, done twice: the nth time is part of a step's name
        steps = await bench.store.runs.steps(ended.id)
        assert [(step.seq, step.nth, step.resource, step.tries) for step in steps] == [
            (0, 0, "tool", 1),
            (1, 1, "tool", 1),
        ]
        finished = bench.told("run_finished")[0].fields
        assert (finished["outcome"], finished["calls"]) == ("succeeded", 2)

    on_bench(tmp_path, main)


def test_calls_see_the_runs_circumstances(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        seen = []

        async def look() -> None:
            seen.append(current())

        async def job(run: Run) -> None:
            await run.call("tool", look)
            await run.call("tool", look)

        bench.workflow(job)
        await bench.worker()
        deadline_ms = bench.clock.now_ms() + 60_000
        run_id = await bench.submit(lane="background", user="ann", deadline_ms=deadline_ms)
        await bench.ended(run_id)
        first, second = seen
        assert (first.tenant, first.user, first.lane, first.rank) == ("t", "ann", "background", 3)
        assert (first.workflow, first.run_id) == ("job", run_id)
        assert first.deadline is not None
        assert abs(first.deadline - 60.0) < 0.01
        assert first.idempotency_key != second.idempotency_key
        assert current().run_id == ""

    on_bench(tmp_path, main)


def test_input_is_read_as_the_annotation_says(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run, ticket: Ticket) -> str:
            return f"{ticket.title}/{ticket.urgency}/{run.input['title']}"

        bench.workflow(job)
        await bench.worker()
        good = await bench.ended(await bench.submit({"title": "help"}))
        bad = await bench.ended(await bench.submit({"title": 3}))
        assert json.loads(good.result or "") == "help/1/help"
        assert (bad.state, bad.reason) == (RunState.FAILED, Reason.ERROR)
        assert bad.detail == "input.title: Input should be a valid string"

    on_bench(tmp_path, main)


def test_ceilings_hold_over_parallel_calls_and_over_attempts(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def failing() -> None:
            raise ConnectionResetError("gone")

        async def job(run: Run, how: str) -> None:
            if how == "parallel":
                await asyncio.gather(*(run.call("tool", bench.do, str(number), 1.0) for number in range(5)))
            assert run.budget.calls is not None
            await run.call("tool", failing)

        bench.workflow(job)
        await bench.worker()
        parallel = await bench.ended(await bench.submit("parallel", budget_calls=3))
        assert (parallel.state, parallel.reason) == (RunState.FAILED, Reason.BUDGET_EXHAUSTED)
        assert bench.ledger.total() == 3
        retried = await bench.ended(await bench.submit("retried", budget_calls=2))
        assert (retried.reason, retried.used_calls) == (Reason.BUDGET_EXHAUSTED, 2)

    on_bench(tmp_path, main, workflows=FAILS)


def test_model_tokens_are_held_on_the_estimate_and_settled_to_what_was_used(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def answer(tokens: int) -> dict[str, Any]:
            return {"usage": {"total_tokens": tokens}}

        async def job(run: Run) -> None:
            await run.call("large", answer, 300, model_tokens=900)
            assert run.budget.model_tokens == 700
            await run.call("large", answer, 700, model_tokens=600)
            await run.call("tool", bench.do, "no model")
            await run.call("large", answer, 1)

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit(budget_model_tokens=1000))
        assert (ended.reason, ended.used_model_tokens) == (Reason.BUDGET_EXHAUSTED, 1000)
        assert bench.ledger["no model"] == 1

    on_bench(tmp_path, main, workflows=FAILS)


def test_parallel_calls_of_the_same_kind_are_different_steps(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> list[str]:
            calls = (run.call("tool", bench.do, what, 1.0) for what in ("a", "b", "a"))
            return list(await asyncio.gather(*calls))

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit())
        assert json.loads(ended.result or "") == ["did a", "did b", "did a"]
        assert bench.clock.monotonic() < 1.5
        steps = await bench.store.runs.steps(ended.id)
        assert len({step.key for step in steps}) == 3
        assert sorted(step.nth for step in steps) == [0, 0, 1]

    on_bench(tmp_path, main)


def test_errors_of_a_group_count_as_the_weightiest_inside(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(run.call("tool", bench.do, "a", 5.0))
                group.create_task(run.call("tool", bench.do, "b", 5.0))

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit(budget_calls=1))
        assert (ended.state, ended.reason) == (RunState.FAILED, Reason.BUDGET_EXHAUSTED)

    on_bench(tmp_path, main, workflows=FAILS)


def test_calls_that_a_workflow_leaves_behind_are_ended_with_it(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        left: list[asyncio.Task[Any]] = []

        async def job(run: Run) -> str:
            left.append(asyncio.create_task(run.call("tool", bench.do, "left", 50.0)))
            await run.call("tool", bench.do, "own", 1.0)
            return "done"

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit())
        assert ended.state is RunState.SUCCEEDED
        assert left[0].cancelled()
        assert bench.clock.monotonic() < 2.0

    on_bench(tmp_path, main)


def test_every_lane_gets_its_turn_on_a_single_slot(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        order: list[str] = []

        async def job(run: Run) -> None:
            order.append(run.lane)
            await asyncio.sleep(1.0)

        bench.workflow(job)
        for _ in range(40):
            for lane in bench.settings.lanes:
                await bench.submit(lane=lane)
        await bench.worker()
        await bench.passes(40.5)
        assert Counter(order[:40]) == {"critical": 8, "interactive": 16, "standard": 12, "background": 4}

    on_bench(tmp_path, main, workers={"slots": 1})


def test_quick_runs_are_claimed_ahead_and_slow_ones_are_given_back(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run, takes_s: float) -> float:
            if takes_s:
                await asyncio.sleep(takes_s)
            return takes_s

        bench.workflow(job)
        for _ in range(100):
            await bench.submit(0.0)
        slow = [await bench.submit(2.0) for _ in range(30)]
        worker = await bench.worker()
        await bench.passes(0.5)
        statistics = worker.statistics()
        assert statistics.finished == {"succeeded": 100}
        assert (statistics.running, statistics.ready) == (4, 0)
        assert statistics.released > 0
        for run_id in slow:
            assert (await bench.ended(run_id)).crashes == 0
        assert worker.statistics().finished == {"succeeded": 130}
        assert bench.clock.monotonic() < 30 / 4 * 2.0 + 2.0

    on_bench(tmp_path, main, workers={"slots": 4})
