"""Runs that repeat themselves: warned, refused, stopped; and runs that only look like it."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from headgate.errors import LoopDetected
from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.runs.context import Run

from .bench import Bench, on_bench

CALM: dict[str, Any] = {"tool": {"retry": {"attempts": 1}, "breaker": None}, "other": {}}


async def broken(what: str) -> None:
    raise ValueError(f"{what} is broken")


def test_a_call_that_fails_again_and_again_is_warned_refused_and_stopped(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        notes: list[str] = []
        refusals: list[dict[str, Any]] = []
        warned: list[str] = []

        async def job(run: Run) -> None:
            while True:
                try:
                    await run.call("tool", broken, "disk")
                except LoopDetected as refusal:
                    refusals.append(json.loads(refusal.as_tool_result()))
                except ValueError as error:
                    notes.append(" ".join(getattr(error, "__notes__", [])))
                warned[:] = [*run.warnings, run.warnings_for_model()]

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit())
        assert (ended.state, ended.reason) == (RunState.FAILED, Reason.LOOP_DETECTED)
        assert "failed 6 times" in (ended.detail or "")
        assert [bool(note) for note in notes] == [False, False, True, True]
        assert "3 times in a row" in notes[2]
        assert [(one["executed"], one["why"], one["count"]) for one in refusals] == [(False, "failing", 5)]
        assert warned[-1].startswith("Warnings: (1) ")
        told = [(event.fields["outcome"], event.fields["count"]) for event in bench.told("loop_warned")]
        assert told == [("warned", 3), ("warned", 4), ("refused", 5), ("stopped", 6)]

    on_bench(tmp_path, main, tools=CALM)


def test_a_refused_call_that_nobody_catches_ends_the_run(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> None:
            while True:
                await run.call("tool", bench.do, "look")

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit())
        assert (ended.state, ended.reason) == (RunState.FAILED, Reason.LOOP_DETECTED)
        assert bench.ledger["look"] == 3

    loops = {"warn": 2, "refuse": 3, "stop": 4}
    on_bench(tmp_path, main, workflows={"job": {"loops": loops}})


def test_detection_can_be_left_out(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> int:
            for _ in range(30):
                await run.call("tool", bench.do, "look")
            return len(run.warnings)

        bench.workflow(job)
        await bench.worker()
        assert (await bench.ended(await bench.submit())).result == "0"

    on_bench(tmp_path, main, workflows={"job": {"loops": None}})


def test_maps_votes_and_patient_polling_are_no_loops(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        polls = 0

        async def vote(question: str) -> str:
            await bench.passes(1.0)
            return "yes"

        async def status() -> str:
            nonlocal polls
            polls += 1
            return "running" if polls < 11 else "done"

        async def same(page: int) -> str:
            return "nothing found"

        async def job(run: Run) -> int:
            await asyncio.gather(*(run.call("large", vote, "well?") for _ in range(12)))
            await asyncio.gather(*(run.call("tool", same, page) for page in range(40)))
            while await run.call("other", status, repeats=True) != "done":
                await bench.passes(5.0)
            return len(run.warnings)

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit())
        assert (ended.state, ended.result) == (RunState.SUCCEEDED, "0")
        assert bench.told("loop_warned") == []

    on_bench(tmp_path, main)


def test_a_resumed_run_does_not_count_its_memories(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> int:
            await asyncio.gather(*(run.call("tool", bench.do, "vote", 1.0) for _ in range(9)))
            await run.approval("replies", "go on?")
            await run.call("tool", bench.do, "vote", 1.0)
            return len(run.warnings)

        bench.workflow(job)
        await bench.worker()
        run_id = await bench.submit()
        async with asyncio.timeout(50.0):
            while not (asked := await bench.store.approvals.waiting(queue=None, tenant=None, limit=1)):
                await bench.passes(0.1)
        await bench.store.approvals.decide(
            asked[0].id, tenant=None, approved=True, by="kim", note=None, now_ms=bench.clock.now_ms()
        )
        ended = await bench.ended(run_id)
        assert (ended.state, ended.result) == (RunState.SUCCEEDED, "0")

    on_bench(tmp_path, main, tools={"tool": {"concurrency": 16}})


def test_refusals_by_a_limit_are_no_failures(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        class Busy(Exception):
            status_code = 429

        async def busy() -> None:
            raise Busy

        async def job(run: Run) -> int:
            for _ in range(12):
                try:
                    await run.call("tool", busy)
                except Busy:
                    await bench.passes(1.0)
            return len(run.warnings)

        bench.workflow(job)
        await bench.worker()
        assert (await bench.ended(await bench.submit())).result == "0"

    on_bench(tmp_path, main, tools=CALM)


def test_a_poll_with_changing_results_goes_on_also_beside_a_constant_call(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def depth() -> int:
            bench.ledger["looks"] += 1
            return (3, 4, 5, 4)[bench.ledger["looks"] % 4]

        async def beat() -> str:
            return "ok"

        async def job(run: Run) -> list[Any]:
            for _ in range(30):
                await run.call("tool", depth)
                await bench.passes(1.0)
            for _ in range(30):
                await run.call("tool", depth)
                await run.call("other", beat)
                await bench.passes(1.0)
            return run.warnings

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit())
        assert (ended.state, ended.result) == (RunState.SUCCEEDED, "[]"), ended.detail

    on_bench(tmp_path, main)


def test_a_poll_that_stands_still_is_a_loop_unless_the_workflow_says_that_it_repeats(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def status() -> str:
            bench.ledger["status"] += 1
            if bench.ledger["status"] % 4 == 0:
                raise ValueError("not there yet")
            return "running"

        async def job(run: Run) -> list[str]:
            for _ in range(40):
                with suppress(ValueError):
                    await run.call("other", status, effect="pure", repeats=bool(run.input))
                await bench.passes(1.0)
            return run.warnings

        bench.workflow(job)
        await bench.worker()
        declared = await bench.ended(await bench.submit(True))
        assert (declared.state, declared.result) == (RunState.SUCCEEDED, "[]"), declared.detail
        assert bench.ledger["status"] == 40
        silent = await bench.ended(await bench.submit(False))
        assert (silent.state, silent.reason) == (RunState.FAILED, Reason.LOOP_DETECTED)

    other = {"retry": {"attempts": 1}, "breaker": None}
    on_bench(tmp_path, main, tools={"tool": {}, "other": other})


def test_an_agent_that_searches_the_same_again_and_again_is_found_though_its_prompt_grows(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def think(prompt: list[str]) -> str:
            return f"thought {len(prompt)}"

        async def search(words: str) -> list[str]:
            bench.ledger["searches"] += 1
            return []

        refusals: list[str] = []

        async def job(run: Run) -> None:
            prompt: list[str] = []
            for _ in range(40):
                prompt.append(await run.call("large", think, prompt))
                try:
                    prompt.append(str(await run.call("tool", search, "cheap flights")))
                except LoopDetected as refusal:
                    refusals.append(refusal.as_tool_result())
                    prompt.append(refusals[-1])

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit())
        assert (ended.state, ended.reason) == (RunState.FAILED, Reason.LOOP_DETECTED)
        assert bench.ledger["searches"] == 4
        assert [json.loads(one)["why"] for one in refusals] == ["repetition"]
        told = [(event.fields["outcome"], event.fields["count"]) for event in bench.told("loop_warned")]
        assert told == [("warned", 3), ("warned", 4), ("refused", 5), ("stopped", 6)]

    on_bench(tmp_path, main)


def test_work_on_one_chunk_after_another_is_no_loop(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def read(chunk: int) -> str:
            return ""

        async def judge(chunk: int, text: str) -> str:
            return "fine"

        async def job(run: Run) -> list[str]:
            for chunk in range(40):
                await run.call("large", judge, chunk, await run.call("tool", read, chunk))
            return run.warnings

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit())
        assert (ended.state, ended.result) == (RunState.SUCCEEDED, "[]"), ended.detail
        assert bench.told("loop_warned") == []

    on_bench(tmp_path, main)


@pytest.mark.parametrize("thinks_s", [0.0, 1.0])
def test_a_batch_of_the_same_refused_call_is_one_refusal(tmp_path: Path, thinks_s: float) -> None:
    """Also where its branches come to the call one after another, each from an answer of its own."""

    async def main(bench: Bench) -> None:
        counts: list[list[int]] = []

        async def think(turn: int, number: int) -> str:
            await bench.passes(thinks_s * (1 + number))
            return "search"

        async def job(run: Run) -> None:
            async def branch(turn: int, number: int) -> None:
                if thinks_s:
                    await run.call("large", think, turn, number)
                await run.call("tool", bench.do, "search")

            for _ in range(4):
                await run.call("tool", bench.do, "search")
            for turn in range(10):
                branches = [branch(turn, number) for number in range(20)]
                answers = await asyncio.gather(*branches, return_exceptions=True)
                counts.append([answer.count for answer in answers if isinstance(answer, LoopDetected)])

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit())
        assert (ended.state, ended.reason) == (RunState.FAILED, Reason.LOOP_DETECTED)
        assert counts[:1] == [[5] * 20]
        assert bench.ledger["search"] == 4

    on_bench(tmp_path, main, models={"large": {"concurrency": 32}})
