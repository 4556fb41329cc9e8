"""Workflows that end by something stronger than an exception, or end after they were given up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.runs.context import Run

from .bench import Bench, bench_on, on_bench


class Panic(BaseException):
    """As compiled extensions raise it."""


@pytest.mark.parametrize("where", ["workflow", "call", "group"])
def test_an_exception_that_is_no_exception_ends_the_run_and_frees_its_slot(tmp_path: Path, where: str) -> None:
    async def main(bench: Bench) -> None:
        def panic() -> None:
            raise Panic("index out of bounds")

        async def job(run: Run) -> None:
            if where == "workflow":
                panic()
            elif where == "call":
                await run.call("tool", panic)
            else:
                async with asyncio.TaskGroup() as group:
                    group.create_task(run.call("tool", panic))

        bench.workflow(job)
        worker = await bench.worker()
        ended = await bench.ended(await bench.submit(), within_s=2.0)
        assert (ended.state, ended.reason) == (RunState.FAILED, Reason.ERROR)
        assert "Panic: index out of bounds" in (ended.detail or "")
        assert (worker.statistics().running, worker._carrier.keeper.held) == (0, {})

    on_bench(tmp_path, main)


def leave_by(stop: BaseException, folder: Path, **workflow: int) -> str:
    """A run raises ``stop``; returns its id once that has ended the loop."""
    submitted: list[str] = []

    async def enter(clock: LoopClock) -> None:
        async with bench_on(folder, clock, workflows={"job": workflow}) as bench:

            async def job(run: Run) -> None:
                await run.call("tool", bench.do, "first")
                raise stop

            bench.workflow(job)
            await bench.worker()
            submitted.append(await bench.submit())
            await bench.passes(600.0)

    with pytest.raises(type(stop)):
        run_virtual(enter)
    return submitted[0]


def test_an_interrupt_puts_the_run_back_and_ends_the_process(tmp_path: Path) -> None:
    run_id = leave_by(KeyboardInterrupt(), tmp_path)

    async def main(bench: Bench) -> None:
        run = await bench.get(run_id)
        assert (run.state, run.reason) == (RunState.QUEUED, Reason.INTERRUPTED)
        assert (run.attempts, run.crashes, run.used_calls, run.owner) == (0, 0, 1, None)

    on_bench(tmp_path, main)


def test_an_exit_lets_the_run_go_and_counts_as_a_try(tmp_path: Path) -> None:
    again = leave_by(SystemExit(3), tmp_path, attempts=2)
    (tmp_path / "last").mkdir()
    over = leave_by(SystemExit(3), tmp_path / "last", attempts=1)

    async def waits(bench: Bench) -> None:
        run = await bench.get(again)
        assert run.state in (RunState.SUSPENDED, RunState.QUEUED)
        assert (run.attempts, run.crashes, run.owner) == (1, 0, None)

    async def has_failed(bench: Bench) -> None:
        run = await bench.get(over)
        assert (run.state, run.reason) == (RunState.FAILED, Reason.INTERRUPTED)
        assert "SystemExit: 3" in (run.detail or "")

    on_bench(tmp_path, waits)
    on_bench(tmp_path / "last", has_failed)


def test_a_workflow_that_ends_after_it_was_given_up_is_concluded_once(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        over = asyncio.Event()

        async def job(run: Run) -> str:
            for _ in range(20):
                try:
                    await asyncio.sleep(2.0)
                except asyncio.CancelledError:
                    continue
            over.set()
            return "after all"

        bench.workflow(job)
        worker = await bench.worker()
        run_id = await bench.submit(deadline_ms=bench.clock.now_ms() + 10_000)
        ended = await bench.ended(run_id)
        assert (ended.state, over.is_set()) == (RunState.EXPIRED, False)
        await over.wait()
        await bench.passes(1.0)
        statistics = worker.statistics()
        assert (statistics.abandoned, statistics.finished, statistics.lost) == (1, {"expired": 1}, 0)
        assert worker._carrier.carried == {"standard": 0}
        assert len(bench.told("run_finished")) == 1
        assert await bench.get(run_id) == ended

    on_bench(tmp_path, main)


def test_a_run_that_cannot_be_let_go_is_left_to_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> int:
            if run.attempt == 1:
                await run.call("tool", down)
            return run.attempt

        async def down() -> None:
            raise ConnectionResetError("gone")

        async def broken(*_: object, **__: object) -> bool:
            raise TypeError("a defect")

        bench.workflow(job)
        worker = await bench.worker()
        bench.store.claims.suspend = broken  # type: ignore[method-assign]
        run_id = await bench.submit()
        await bench.passes(1.0)
        assert worker._carrier.keeper.held == {}
        assert worker.statistics().lost == 1
        ended = await bench.ended(run_id, within_s=30.0)
        assert (ended.state, ended.term, ended.crashes) == (RunState.SUCCEEDED, 2, 1)

    on_bench(tmp_path, main)
    assert "it cannot be let go" in caplog.text
