"""Ends are written whatever becomes of the one beside them, and deadlines are noticed in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from headgate.errors import StoreError
from headgate.model.run import RunState
from headgate.runs.context import Run
from headgate.store.protocols import RunEnd

from .bench import Bench, on_bench

Broken = Callable[[RunEnd], Exception | None]


def finish_fails(bench: Bench, broken: Broken) -> list[int]:
    """Writing fails if one of a batch is broken; returns the sizes of what was asked for."""
    finish, sizes = bench.store.claims.finish, []

    async def failing(ends: Sequence[RunEnd]) -> Any:
        sizes.append(len(ends))
        for end in ends:
            error = broken(end)
            if error is not None:
                raise error
        return await finish(ends)

    bench.store.claims.finish = failing  # type: ignore[method-assign]
    return sizes


async def end_together(bench: Bench, count: int) -> list[str]:
    """Runs that all end in the same turn of the loop, with their number as result."""
    go = asyncio.Event()

    async def job(run: Run, number: int) -> int:
        await go.wait()
        return number

    bench.workflow(job)
    await bench.worker()
    run_ids = [await bench.submit(number) for number in range(count)]
    await bench.passes(1.0)
    go.set()
    return run_ids


def test_an_end_that_cannot_be_stored_fails_its_run_and_no_other(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        sizes = finish_fails(bench, lambda end: TypeError("no such thing") if end.result == "2" else None)
        run_ids = await end_together(bench, 5)
        runs = [await bench.ended(run_id, within_s=5.0) for run_id in run_ids]
        assert [run.result for run in runs] == ["0", "1", None, "3", "4"]
        assert (runs[2].state, runs[2].reason) == (RunState.FAILED, "error")
        assert "its end (succeeded) could not be stored: TypeError" in (runs[2].detail or "")
        assert sizes == [5, 1, 1, 1, 1, 1, 1]
        assert bench.workers[0]._carrier.keeper.held == {}

    on_bench(tmp_path, main)


def test_an_end_that_can_never_be_stored_is_left_to_upkeep(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        run_ids: list[str] = []
        finish_fails(bench, lambda end: TypeError("never") if end.run_id in run_ids[:1] else None)
        run_ids += await end_together(bench, 2)
        assert (await bench.ended(run_ids[1], within_s=5.0)).state is RunState.SUCCEEDED
        await bench.passes(1.0)
        assert bench.workers[0]._carrier.keeper.held == {}
        ended = await bench.ended(run_ids[0], within_s=60.0)
        assert (ended.state, ended.reason) == (RunState.FAILED, "crash_loop")

    on_bench(tmp_path, main)


def test_a_row_that_the_store_does_not_take_holds_up_no_other(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        damaged = [True]
        finish_fails(bench, lambda end: StoreError("a row") if damaged and end.result in {"0", "3"} else None)
        run_ids = await end_together(bench, 5)
        await bench.passes(5.0)
        states = [(await bench.get(run_id)).state for run_id in run_ids]
        done, waits = RunState.SUCCEEDED, RunState.RUNNING
        assert states == [waits, done, done, waits, done]
        later = await bench.submit(9)
        assert (await bench.ended(later, within_s=5.0)).state is done
        damaged.clear()
        assert {(await bench.ended(run_id, within_s=5.0)).state for run_id in run_ids} == {done}
        assert bench.workers[0].statistics().unwritten == 0
        assert bench.workers[0].statistics().finished == {"succeeded": 6}

    on_bench(tmp_path, main)


def test_a_nearer_deadline_after_a_farther_one_is_kept(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> None:
            await asyncio.sleep(3600.0)

        bench.workflow(job)
        await bench.worker()
        began_ms = bench.clock.now_ms()
        for seconds in (100, 10, 50, 20):
            await bench.submit(deadline_ms=began_ms + 1000 * seconds)
            await bench.passes(0.5)
        await bench.passes(110.0)
        told = [event.at_ms - began_ms for event in bench.told("run_finished")]
        assert [round(moment / 1000, 1) for moment in told] == [10.0, 20.0, 50.0, 100.0]

    on_bench(tmp_path, main)


def test_a_call_that_cannot_end_by_the_deadline_expires_its_run(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run, takes_s: float) -> str:
            return str(await run.call("tool", bench.do, "it", takes_s))

        bench.workflow(job)
        await bench.worker()
        for _ in range(10):
            assert (await bench.ended(await bench.submit(4.0))).state is RunState.SUCCEEDED
        late = await bench.ended(await bench.submit(4.0, deadline_ms=bench.clock.now_ms() + 2_000))
        assert (late.state, late.reason) == (RunState.EXPIRED, "deadline_unreachable")
        assert bench.ledger["it"] == 10  # it was not started

    on_bench(tmp_path, main)


def test_slow_runs_do_not_shut_later_ones_out_for_good(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run, takes_s: float) -> str:
            return str(await run.call("tool", bench.do, "it", takes_s))

        async def ends(takes_s: float, left_s: float) -> RunState:
            deadline_ms = bench.clock.now_ms() + round(1000 * left_s)
            return (await bench.ended(await bench.submit(takes_s, deadline_ms=deadline_ms))).state

        bench.workflow(job)
        await bench.worker()
        assert await ends(50.0, 100.0) is RunState.SUCCEEDED
        assert await ends(2.0, 30.0) is RunState.SUCCEEDED  # one slow run proves nothing
        for _ in range(30):
            assert await ends(50.0, 100.0) is RunState.SUCCEEDED
        assert await ends(2.0, 30.0) is RunState.EXPIRED  # by all that is known
        await bench.passes(700.0)
        for _ in range(30):  # refused runs have taught nothing, so what was known is known no longer
            assert await ends(2.0, 30.0) is RunState.SUCCEEDED

    on_bench(tmp_path, main)
