"""Sub-runs within bounds: room, places, budgets, fan-out and depth."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from headgate import (
    BudgetExhausted,
    LoopDetected,
    Rejected,
    Run,
)
from headgate.model.reason import Reason
from headgate.model.run import RunState

from .house import House, doubling, in_house, result_of


def test_a_full_queue_makes_the_parent_wait_outside(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        doubling(house, 3.0)

        @house.gate.workflow("parent")
        async def parent(run: Run, input: str) -> Any:
            if input == "raise":
                try:
                    for number in range(9):
                        await run.spawn("child", number, on_refusal="raise")
                except Rejected as refused:
                    return refused.reason
            return await run.map("child", range(6))

        settings = house.gate.settings
        assert settings.workflows["child"].queue.depth == 2
        admission = await house.gate.submit("parent", "wait")
        await house.passes(0.5)
        waiting = await house.get(admission.run.id)
        assert (waiting.state, waiting.reason) == (RunState.SUSPENDED, Reason.CHILDREN_WAIT)
        assert "queue_full" in (waiting.detail or "")
        assert result_of(await house.gate.ended(admission.run.id, timeout_s=900.0)) == [0, 2, 4, 6, 8, 10]
        assert sum(house.ledger.values()) == 6
        assert result_of(await house.ended("parent", "raise")) == "queue_full"

    in_house(tmp_path, main, workers={"slots": 1}, workflows={"parent": {}, "child": {"queue": {"depth": 2}}})


def test_a_parent_that_finds_no_room_before_its_deadline_is_told(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        doubling(house, 1000.0)

        @house.gate.workflow("parent")
        async def parent(run: Run) -> str:
            try:
                for number in range(5):
                    await run.spawn("child", number)
            except Rejected as refused:
                return refused.reason
            return "all"

        ended = await house.ended("parent", deadline_s=30.0)
        assert (ended.state, ended.reason) in (
            (RunState.SUCCEEDED, Reason.SUCCEEDED),
            (RunState.EXPIRED, Reason.DEADLINE_PASSED),
        )

    in_house(tmp_path, main, workers={"slots": 1}, workflows={"parent": {}, "child": {"queue": {"depth": 2}}})


def test_the_budget_is_shared_held_and_settled(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        left: list[Any] = []
        kept: list[Any] = []

        @house.gate.workflow("child")
        async def child(run: Run, input: int) -> int:
            for number in range(input):
                await run.call("tool", house.do, f"call {number}")
            left.append(run.budget.calls)
            return input

        @house.gate.workflow("parent")
        async def parent(run: Run) -> Any:
            await run.call("tool", house.do, "own")
            kept.append(run.budget.calls)
            first = await run.spawn("child", 2)
            kept.append(run.budget.calls)
            second = await run.spawn("child", 3, share=1.0)
            kept.append(run.budget.calls)
            await first.result()
            await second.result()
            return run.budget.calls

        # 41 calls: 1 of its own, half of 40 to the first, all 20 left to the second.
        assert result_of(await house.ended("parent")) == 35
        assert kept[:3] == [40, 20, 0]
        assert sorted(left) == [17, 18]

    in_house(tmp_path, main, workflows={"parent": {"budget": {"calls": 41}}, "child": {}})


def test_a_call_waits_for_what_sub_runs_do_not_use(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        doubling(house, 20.0)

        @house.gate.workflow("parent")
        async def parent(run: Run) -> Any:
            child = await run.spawn("child", 1, share=1.0)
            mine = await run.call("tool", house.do, "mine")
            other = await run.spawn("child", 2, share=1.0)
            third = await run.spawn("child", 3, share=1.0)
            return [mine, await child.result(), await other.result(), await third.result()]

        admission = await house.gate.submit("parent")
        await house.passes(10.0)
        waiting = await house.get(admission.run.id)
        assert (waiting.state, waiting.reason) == (RunState.SUSPENDED, Reason.CHILDREN_WAIT)
        assert house.ledger == {"child 1": 1}
        assert result_of(await house.gate.ended(admission.run.id)) == ["did mine", 2, 4, 6]
        assert 60.0 <= house.gate.clock.monotonic() < 63.0
        assert house.ledger == {"child 1": 1, "child 2": 1, "child 3": 1, "mine": 1}

    in_house(tmp_path, main, workflows={"parent": {"budget": {"calls": 10, "at_ceiling": "fail"}}, "child": {}})


def test_fan_out_depth_and_the_tree_are_bounded(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        @house.gate.workflow("child")
        async def child(run: Run, input: Any) -> Any:
            if isinstance(input, int):
                try:
                    return await (await run.spawn("child", input + 1)).result()
                except BudgetExhausted as error:
                    return [run.attempt > 0, error.dimension, error.limit]
            return input

        @house.gate.workflow("parent")
        async def parent(run: Run, input: str) -> Any:
            if input == "deep":
                return await (await run.spawn("child", 0)).result()
            with pytest.raises(BudgetExhausted, match="sub-runs of its own"):
                await run.map("child", ["a"] * 5)
            first = await run.map("child", ["a"] * 4)
            with pytest.raises(BudgetExhausted, match="sub-runs of its own"):
                await run.spawn("child", "b")
            return first

        assert result_of(await house.ended("parent", "wide")) == ["a"] * 4
        assert result_of(await house.ended("parent", "deep")) == [True, "generations of sub-runs", 3]

    budget = {"fan_out": 4, "depth": 3}
    in_house(tmp_path, main, workflows={"parent": {"budget": budget}, "child": {"budget": budget}})


def test_runaway_recursion_is_warned_of_and_refused(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        @house.gate.workflow("child")
        async def child(run: Run, input: int) -> Any:
            try:
                return await (await run.spawn("child", (input + 1) % 4)).result()
            except LoopDetected as error:
                return [input, error.why, error.count, len(run.warnings)]

        assert result_of(await house.ended("child", 0)) == [3, "recursion", 1, 1]
        outcomes = [(event.fields["outcome"], event.fields["reason"]) for event in house.told("loop_warned")]
        assert outcomes == [("warned", "recursion"), ("refused", "recursion")]

    in_house(tmp_path, main, workflows={"child": {"budget": {"depth": 50}, "loops": {"warn": 3}}})


def test_sub_runs_need_no_place_of_a_limit_in_which_their_parent_has_one(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        doubling(house)

        @house.gate.workflow("middle")
        async def middle(run: Run, input: int) -> int:
            doubled: int = await (await run.spawn("child", input)).result()
            return 1 + doubled

        @house.gate.workflow("parent")
        async def parent(run: Run, input: int) -> list[int]:
            return await run.map("middle", [input, input])

        runs = [(await house.gate.submit("parent", n, tenant="acme")).run for n in (1, 2)]
        with pytest.raises(Rejected) as refused:
            await house.gate.submit("parent", 3, tenant="acme")
        assert refused.value.reason == Reason.CONCURRENCY
        ended = [await house.gate.ended(run.id, timeout_s=60) for run in runs]
        assert [result_of(run) for run in ended] == [[3, 3], [5, 5]]
        assert await house.gate.store.holds.held() == await house.gate.store.holds.held_by_runs() == {}

    in_house(
        tmp_path, main, limits=[{"per": "tenant", "concurrent": 2}],
        workflows={"parent": {}, "middle": {}, "child": {}},
    )  # fmt: skip


def test_a_raise_wakes_a_parent_whose_sub_runs_hold_what_it_lacks(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        @house.gate.workflow("child")
        async def child(run: Run, input: int) -> int:
            await asyncio.sleep(200)
            return input

        @house.gate.workflow("parent")
        async def parent(run: Run, input: int) -> int:
            sub_run = await run.spawn("child", input, share=1.0)
            await run.call("tool", house.do, "call")
            result: int = await sub_run.result()
            return result

        run_id = (await house.gate.submit("parent", 7)).run.id
        await house.passes(5)
        assert (await house.get(run_id)).reason == Reason.CHILDREN_WAIT
        assert house.ledger["call"] == 0
        await house.gate.raise_budget(run_id, calls=100)
        await house.passes(5)
        assert house.ledger["call"] == 1
        assert result_of(await house.gate.ended(run_id, timeout_s=250)) == 7
        assert [run.id for run in await house.children(run_id)] == [
            event.fields["child_id"] for event in house.told("run_spawned")
        ]

    in_house(tmp_path, main, workflows={"parent": {"budget": {"calls": 4}}, "child": {}})
