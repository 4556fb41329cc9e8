"""How runs end early: failed, refused, cancelled, late, at a ceiling."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from pathlib import Path
from typing import Any

from headgate import errors
from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.runs.context import Run

from .bench import Bench, on_bench


def test_an_exception_ends_the_run_failed_with_words_and_place(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run, what: str) -> Any:
            if what == "raise":
                raise ValueError("no such customer " + "x" * 5000)
            return {"raw": object()} if what == "raw" else "\ud800"

        bench.workflow(job)
        await bench.worker()
        raised = await bench.ended(await bench.submit("raise"))
        assert (raised.state, raised.reason) == (RunState.FAILED, Reason.ERROR)
        first, *frames = (raised.detail or "").splitlines()
        assert first.startswith("ValueError: no such customer xxx")
        assert len(first) == 2000
        assert frames[-1].endswith("in job")
        raw = await bench.ended(await bench.submit("raw"))
        assert (raw.state, raw.reason) == (RunState.FAILED, Reason.ERROR)
        assert "what the workflow returned cannot be written as JSON" in (raw.detail or "")
        torn = await bench.ended(await bench.submit("surrogate"))
        assert (torn.state, torn.reason) == (RunState.FAILED, Reason.ERROR)

    on_bench(tmp_path, main)


def test_a_retryable_failure_suspends_the_run_and_does_not_repeat_what_is_done(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def flaky() -> str:
            bench.ledger["flaky"] += 1
            if bench.ledger["flaky"] < 3:
                raise ConnectionResetError("gone")
            return "ok"

        async def job(run: Run) -> str:
            await run.call("tool", bench.do, "first")
            answer: str = await run.call("tool", flaky)
            return answer

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit())
        assert (ended.state, ended.attempts, ended.term) == (RunState.SUCCEEDED, 2, 3)
        assert bench.ledger == {"first": 1, "flaky": 3}
        assert ended.used_calls == 4
        waits = [event.fields for event in bench.told("run_suspended")]
        assert [wait["reason"] for wait in waits] == [Reason.RETRY_WAIT, Reason.RETRY_WAIT]
        assert len(bench.told("step_replayed")) == 2

    on_bench(tmp_path, main)


def test_tries_of_a_run_are_bounded(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def down() -> None:
            bench.ledger["down"] += 1
            raise ConnectionRefusedError("nobody there")

        async def job(run: Run) -> None:
            await run.call("tool", down)

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit())
        assert (ended.state, ended.reason) == (RunState.FAILED, Reason.PROVIDER_OVERLOADED)
        assert (ended.attempts, bench.ledger["down"]) == (2, 3)

    on_bench(tmp_path, main)


def test_a_refusal_is_waited_for_as_long_as_it_says(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        begun: list[float] = []

        async def job(run: Run) -> str:
            begun.append(bench.clock.monotonic())
            if len(begun) == 1:
                raise errors.Overloaded(Reason.RATE_LIMITED, scope="tenant:t", retry_after_s=20.0)
            if run.tenant == "t" and len(begun) == 2:
                return "done"
            raise errors.Overloaded(Reason.NEVER_FITS, scope="tenant:t")

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit())
        assert ended.state is RunState.SUCCEEDED
        assert 20.0 <= begun[1] - begun[0] <= 26.5
        refused = await bench.ended(await bench.submit())
        assert (refused.state, refused.reason, refused.attempts) == (RunState.FAILED, Reason.NEVER_FITS, 0)

    on_bench(tmp_path, main)


def test_a_retry_that_would_come_after_the_deadline_is_not_waited_for(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> None:
            raise errors.Overloaded(Reason.RATE_LIMITED, scope="tenant:t", retry_after_s=20.0)

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit(deadline_ms=bench.clock.now_ms() + 10_000))
        assert (ended.state, ended.reason) == (RunState.FAILED, Reason.RATE_LIMITED)
        assert bench.clock.monotonic() < 1.0

    on_bench(tmp_path, main)


def test_a_running_run_is_cancelled_at_the_next_heartbeat(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> None:
            await run.call("tool", bench.do, "slow", 50.0)

        bench.workflow(job)
        worker = await bench.worker()
        run_id = await bench.submit()
        await bench.passes(1.0)
        await bench.store.runs.cancel(run_id, tenant=None, now_ms=bench.clock.now_ms(), detail="by ann")
        ended = await bench.ended(run_id)
        assert (ended.state, ended.reason, ended.detail) == (RunState.CANCELLED, Reason.CANCELLED, "by ann")
        assert bench.clock.monotonic() <= 5.5
        assert worker.statistics().finished == {"cancelled": 1}

    on_bench(tmp_path, main)


def test_a_cancel_in_the_same_process_needs_no_heartbeat(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> None:
            await run.call("tool", bench.do, "slow", 50.0)

        bench.workflow(job)
        worker = await bench.worker()
        run_id = await bench.submit()
        await bench.passes(1.0)
        assert worker.cancel(run_id)
        assert not worker.cancel("another")
        assert (await bench.ended(run_id)).state is RunState.CANCELLED
        assert bench.clock.monotonic() < 1.2

    on_bench(tmp_path, main)


def test_a_workflow_that_swallows_its_cancellation_still_ends(tmp_path: Path) -> None:
    enough = False

    async def main(bench: Bench) -> None:
        nonlocal enough

        async def job(run: Run, how: str) -> str:
            while not enough:
                with contextlib.suppress(BaseException):
                    if how == "sleeps":
                        await asyncio.sleep(50.0)
                    else:
                        await run.call("tool", bench.do, "slow", 50.0)
                if how == "returns":
                    break
            return "as if nothing had happened"

        bench.workflow(job)
        worker = await bench.worker()
        returns, *others = [await bench.submit(how) for how in ("returns", "sleeps", "calls")]
        await bench.passes(1.0)
        assert worker.cancel(returns)
        assert (await bench.ended(returns)).state is RunState.CANCELLED
        assert bench.clock.monotonic() < 1.2
        for run_id in others:
            assert worker.cancel(run_id)
        for run_id in others:
            assert (await bench.ended(run_id)).state is RunState.CANCELLED
        assert bench.clock.monotonic() < 7.0
        assert worker.statistics().abandoned == 2
        assert bench.ledger["slow"] == 2
        await bench.passes(60.0)
        assert len(bench.told("run_finished")) == 3
        assert worker.statistics().running == 0
        enough = True

    on_bench(tmp_path, main)


def test_a_deadline_ends_a_running_run_on_time(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> None:
            await run.call("tool", bench.do, "slow", 50.0)

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit(deadline_ms=bench.clock.now_ms() + 3_000))
        assert (ended.state, ended.reason) == (RunState.EXPIRED, Reason.DEADLINE_PASSED)
        assert 3.0 <= bench.clock.monotonic() < 3.2

    on_bench(tmp_path, main)


def test_a_run_that_has_ended_is_gone_without_the_collector_of_cycles(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        tasks: list[weakref.ref[asyncio.Task[Any]]] = []

        async def job(run: Run) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.append(weakref.ref(task))
            await run.call("tool", bench.do, "first")
            await run.call("tool", bench.do, "second")

        bench.workflow(job)
        await bench.worker()
        gc.disable()
        try:
            for _ in range(4):
                await bench.ended(await bench.submit())
            assert [task() for task in tasks[:3]] == [None] * 3  # the last one is still being told of
        finally:
            gc.enable()

    on_bench(tmp_path, main)
