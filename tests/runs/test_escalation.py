"""Throttles cost no attempt, used-up attempts may go to a person, unusable answers count as failures, and calls of
runs that are nearly done say so."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from headgate.guard.ambient import current
from headgate.model.reason import Reason
from headgate.model.run import RunRecord, RunState
from headgate.runs import verdict
from headgate.runs.context import Run
from headgate.store.protocols import Approval

from .bench import Bench, on_bench

TOOLS = {"tool": {"retry": {"attempts": 1}, "breaker": None}, "other": {"retry": {"attempts": 3}, "breaker": None}}
ASKS = {"job": {"attempts": 2, "on_failure": "approval:replies"}}


class Throttled(Exception):
    status_code = 429


class Broken(Exception):
    status_code = 500


def test_throttles_cost_no_attempt_and_end_at_the_deadline(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def busy(until: float) -> str:
            bench.ledger["tried"] += 1
            if bench.clock.monotonic() < until:
                raise Throttled
            return "in"

        async def job(run: Run, until: float) -> str:
            return str(await run.call("tool", busy, until))

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit(200.0))
        assert (ended.state, ended.attempts) == (RunState.SUCCEEDED, 0)
        assert bench.ledger["tried"] > 3
        deadline_ms = bench.clock.now_ms() + 100_000
        late = await bench.ended(await bench.submit(1e9, deadline_ms=deadline_ms))
        assert (late.state, late.reason) == (RunState.FAILED, Reason.PROVIDER_OVERLOADED)
        assert late.finished_ms is not None
        assert late.finished_ms <= deadline_ms

    on_bench(tmp_path, main, tools=TOOLS)


def test_a_run_without_a_deadline_is_not_throttled_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verdict.THROTTLED_AT_MOST_S == 86_400.0
    monkeypatch.setattr(verdict, "THROTTLED_AT_MOST_S", 3600.0)  # a day takes a minute even in virtual time

    async def main(bench: Bench) -> None:
        async def busy() -> None:
            raise Throttled

        async def job(run: Run) -> None:
            await run.call("tool", busy)

        bench.workflow(job)
        await bench.worker()
        run_id = await bench.submit()
        while not (run := await bench.get(run_id)).state.terminal:
            await bench.passes(60.0)
        assert (run.state, run.attempts) == (RunState.FAILED, 0)
        assert run.finished_ms is not None
        assert 3_500_000 < run.finished_ms - run.submitted_ms < 3_660_000

    on_bench(tmp_path, main, tools=TOOLS, workers={"poll": "60s", "lease": "1h"})


async def _question(bench: Bench) -> Approval:
    async with asyncio.timeout(100.0):
        while True:
            waiting = await bench.store.approvals.waiting(queue="replies", tenant=None, limit=1)
            if waiting:
                return waiting[0]
            await bench.passes(0.1)


async def _decide(bench: Bench, *, approved: bool) -> None:
    question = await _question(bench)
    await bench.store.approvals.decide(
        question.id, tenant=None, approved=approved, by="kim", note=None, now_ms=bench.clock.now_ms()
    )
    bench.workers[0].poke()


def _failing(bench: Bench, good_from: int) -> None:
    async def fragile() -> str:
        bench.ledger["tried"] += 1
        if bench.ledger["tried"] < good_from:
            raise Broken
        return "whole"

    async def job(run: Run) -> Any:
        return await run.call("tool", fragile)

    bench.workflow(job)


async def _ended(bench: Bench, run_id: str) -> RunRecord:
    return await bench.ended(run_id, within_s=2000.0)


def test_a_yes_is_another_round_of_attempts(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        _failing(bench, good_from=6)
        worker = await bench.worker()
        run_id = await bench.submit()
        question = await _question(bench)
        assert '"attempts":2' in question.payload
        waiting = await bench.get(run_id)
        assert (waiting.state, waiting.reason, waiting.attempts) == (RunState.SUSPENDED, Reason.APPROVAL_WAIT, 2)
        assert worker.statistics().running == 0
        await _decide(bench, approved=True)
        while bench.ledger["tried"] < 4:
            await bench.passes(0.1)
        await _decide(bench, approved=True)
        ended = await _ended(bench, run_id)
        assert (ended.state, ended.attempts, bench.ledger["tried"]) == (RunState.SUCCEEDED, 5, 6)

    on_bench(tmp_path, main, tools=TOOLS, workflows=ASKS, approvals={"replies": {"max_age": "1h"}})


def test_a_no_is_a_dead_letter(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        _failing(bench, good_from=99)
        await bench.worker()
        run_id = await bench.submit()
        await _decide(bench, approved=False)
        ended = await _ended(bench, run_id)
        assert (ended.state, ended.reason) == (RunState.FAILED, Reason.APPROVAL_DENIED)
        assert bench.ledger["tried"] == 2

    on_bench(tmp_path, main, tools=TOOLS, workflows=ASKS)


def test_a_full_queue_of_people_is_a_dead_letter_with_the_cause(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        _failing(bench, good_from=99)
        await bench.worker()
        first = await bench.submit()
        await _question(bench)
        second = await _ended(bench, await bench.submit())
        assert (second.state, second.reason) == (RunState.FAILED, Reason.ERROR)
        assert (await bench.get(first)).state is RunState.SUSPENDED

    on_bench(tmp_path, main, tools=TOOLS, workflows=ASKS, approvals={"replies": {"depth": 1}})


def test_answers_that_fail_the_check_are_tried_again_within_bounds(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def write(good_from: int) -> str:
            bench.ledger[f"written {good_from}"] += 1
            return "{}" if bench.ledger[f"written {good_from}"] >= good_from else "not json"

        async def job(run: Run, good_from: int) -> str:
            return str(await run.call("other", write, good_from, check=lambda text: text.startswith("{")))

        bench.workflow(job)
        await bench.worker()
        good = await _ended(bench, await bench.submit(3))
        assert (good.state, good.result, good.used_calls) == (RunState.SUCCEEDED, '"{}"', 3)
        bad = await _ended(bench, await bench.submit(1000))
        assert (bad.state, bad.reason) == (RunState.FAILED, Reason.ERROR)
        assert "none of which passed the check" in (bad.detail or "")
        assert bench.ledger["written 1000"] <= 9

    on_bench(tmp_path, main, tools=TOOLS)


def test_calls_say_how_far_their_run_is(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        seen: list[tuple[float | None, float | None]] = []

        async def look(n: int) -> int:
            seen.append((current().remaining_s, current().progress))
            await bench.passes(2.0)
            return n

        async def job(run: Run) -> None:
            for n in range(4):
                await run.call("tool", look, n)

        bench.workflow(job)
        await bench.worker()
        await bench.ended(await bench.submit())
        assert seen == [(None, None)] * 4
        seen.clear()
        await bench.ended(await bench.submit())
        assert seen == [(None, 0.0), (None, 0.25), (None, 0.5), (None, 0.75)]
        for _ in range(6):
            await bench.ended(await bench.submit())
        seen.clear()
        await bench.ended(await bench.submit())
        assert [progress for _, progress in seen] == [0.0, 0.25, 0.5, 0.75]
        assert [round(left or 0.0) for left, _ in seen] == [8, 6, 4, 2]

    on_bench(tmp_path, main)
