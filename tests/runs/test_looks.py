"""What a run saw of itself it sees again when it is resumed, so that calls which depend on it are not repeated."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headgate.model.run import RunState
from headgate.runs.context import Run
from headgate.runs.looks import LOOKS_AT_MOST
from headgate.runs.raising import raise_budget

from .bench import Bench, on_bench


async def _raised_until_done(bench: Bench, run_id: str, calls: int) -> None:
    """Let the run go on, by so many calls at a time, until it has ended."""
    async with asyncio.timeout(10_000.0):
        while not (run := await bench.get(run_id)).state.terminal:
            if run.state is RunState.SUSPENDED:
                await raise_budget(
                    bench.store, bench.bus, run_id, tenant=None, then=bench.workers[0].poke, more={"calls": calls}
                )
            await bench.passes(7.0)


def test_a_prompt_that_tells_the_budget_is_the_same_when_a_run_goes_on(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> list[str]:
            said = []
            for n in range(6):
                prompt = f"{n} {run.budget.words()} {run.warnings_for_model()}"
                said.append(await run.call("large", bench.do, prompt, 3.0))
                await run.call("tool", bench.do, f"look {n}")
                if n == 2:
                    await _learn_nothing(run)
            return said

        async def _learn_nothing(run: Run) -> None:
            for _ in range(3):
                await run.call("other", bench.do, "the same")

        bench.workflow(job)
        await bench.worker()
        deadline_ms = bench.clock.now_ms() + 9_000_000
        run_id = await bench.submit(budget_calls=4, budget_wall_ms=600_000, deadline_ms=deadline_ms)
        await _raised_until_done(bench, run_id, calls=2)
        ended = await bench.ended(run_id)
        assert (ended.state, ended.used_calls) == (RunState.SUCCEEDED, 15)
        once = [what for what in bench.ledger if what != "the same"]
        assert len(once) == 12
        assert {bench.ledger[what] for what in once} == {1}
        assert any("until the deadline" in what for what in once)

    on_bench(tmp_path, main)


@pytest.mark.parametrize("calls", [3, 4, 5, 7])
def test_branches_that_end_in_another_order_see_what_they_saw(tmp_path: Path, calls: int) -> None:
    async def main(bench: Bench) -> None:
        async def branch(run: Run, name: str, seconds: float) -> None:
            for n in range(3):
                await run.call("large", bench.do, f"{name} {n} first", seconds)
                await run.call("large", bench.do, f"{name} {n} {run.budget.words()}", seconds)

        async def job(run: Run) -> None:
            await asyncio.gather(*(branch(run, name, s) for name, s in (("a", 5.0), ("b", 3.0), ("c", 1.0))))

        bench.workflow(job)
        await bench.worker()
        run_id = await bench.submit(budget_calls=calls)
        await _raised_until_done(bench, run_id, calls=calls)
        assert (await bench.ended(run_id)).used_calls == 18
        assert set(bench.ledger.values()) == {1}
        assert len(bench.ledger) == 18

    on_bench(tmp_path, main)


def test_a_run_that_waits_for_its_time_to_run_out_without_a_call_comes_to_its_end(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> int:
            looks = 0
            while (run.budget.deadline_s or 0.0) > 1000.0:
                looks += 1
                await asyncio.sleep(1.0)
            return looks

        bench.workflow(job)
        await bench.worker()
        run_id = await bench.submit(deadline_ms=bench.clock.now_ms() + 1_500_000)
        ended = await bench.ended(run_id, within_s=2000.0)
        assert ended.state is RunState.SUCCEEDED
        assert int(ended.result or "0") > LOOKS_AT_MOST

    on_bench(tmp_path, main)
