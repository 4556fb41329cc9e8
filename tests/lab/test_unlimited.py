"""The control holds nothing back: that is what it is for."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from headgate.lab.unlimited import IMMEDIATE_RETRIES, Unlimited, UnlimitedRecord, UnlimitedRun
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.model.run import RunState


def carry_out(workflow: Any, *, times: int = 1, seconds: float = 100.0) -> list[UnlimitedRecord]:
    async def main(clock: LoopClock) -> list[UnlimitedRecord]:
        unlimited = Unlimited({"work": workflow}, clock=clock, rng=random.Random(1))
        records = [unlimited.submit("work", number) for number in range(times)]
        await asyncio.sleep(seconds)
        await unlimited.stop()
        return records

    return run_virtual(main)


def test_everything_runs_at_once() -> None:
    running, peak = 0, 0

    async def work(run: UnlimitedRun, number: int) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(1)
        running -= 1

    records = carry_out(work, times=500)
    assert peak == 500
    assert {record.state for record in records} == {RunState.SUCCEEDED}


def test_a_failed_call_is_repeated_at_once_and_then_fails_the_run() -> None:
    tries: list[float] = []

    async def broken(number: int) -> None:
        tries.append(asyncio.get_running_loop().time())
        raise ConnectionError("nobody there")

    async def work(run: UnlimitedRun, number: int) -> None:
        await run.call("search", broken, number, effect="pure")

    (record,) = carry_out(work)
    assert tries == [0.0] * (1 + IMMEDIATE_RETRIES)
    assert (record.state, record.detail) == (RunState.FAILED, "ConnectionError: nobody there")
    assert [(step.tries, step.succeeded) for step in record.steps] == [(4, False)]


def test_a_late_success_of_a_retry_counts() -> None:
    left = [ConnectionError("once"), ConnectionError("twice")]

    async def flaky() -> str:
        await asyncio.sleep(0.5)
        if left:
            raise left.pop()
        return "done"

    async def work(run: UnlimitedRun, number: int) -> None:
        assert await run.call("search", flaky) == "done"
        assert await run.call("search", lambda: "sync too") == "sync too"

    (record,) = carry_out(work)
    assert record.state is RunState.SUCCEEDED
    assert [(step.tries, step.ran_ms, step.succeeded) for step in record.steps] == [(3, 1500, True), (1, 0, True)]


def test_nothing_is_turned_down() -> None:
    async def work(run: UnlimitedRun, number: int) -> None:
        assert run.knob("articles", 8) == 8
        assert run.allows("review")
        assert run.deadline_ms is None
        async with run.stage("publish"):
            await run.approval("replies", {"draft": "x"})

    (record,) = carry_out(work)
    assert (record.state, record.detail) == (RunState.SUCCEEDED, None)


def test_stopping_cancels_what_still_runs() -> None:
    async def work(run: UnlimitedRun, number: int) -> None:
        await asyncio.sleep(1000)

    (record,) = carry_out(work, seconds=5.0)
    assert record.state is RunState.CANCELLED
    assert record.finished_ms is not None
