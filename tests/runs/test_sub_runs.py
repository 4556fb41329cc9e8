"""Sub-runs: spawned once, waited for without a slot, ended with their parents."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from headgate import (
    ChildFailed,
    HeadgateError,
    InvalidRequest,
    Run,
)
from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.store.protocols import RunFilter

from .house import House, doubling, in_house, result_of


def test_a_parent_gets_what_its_sub_run_returned(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        doubling(house, 5.0)

        @house.gate.workflow("parent")
        async def parent(run: Run) -> list[Any]:
            first = await run.call("tool", house.do, "before")
            child = await run.spawn("child", 21)
            again = await run.spawn("child", 21)
            return [first, await child.result(), await again.result(int), child.id != again.id]

        admission = await house.gate.submit("parent", tenant="acme", user="ann", lane="interactive")
        await house.passes(2.0)
        waiting = await house.get(admission.run.id)
        assert (waiting.state, waiting.reason, waiting.spawned) == (RunState.SUSPENDED, Reason.CHILDREN_WAIT, 2)
        ended = await house.gate.ended(admission.run.id)
        assert result_of(ended) == ["did before", 42, 42, True]
        assert house.ledger == {"before": 1, "child 21": 2}
        children = await house.children(ended.id)
        assert {(c.tenant, c.user, c.lane, c.depth, c.parent_id) for c in children} == {
            ("acme", "ann", "interactive", 1, ended.id)
        }
        assert house.gate.clock.monotonic() < 7.0, "they ran side by side and woke their parent at once"
        assert {event.fields["child_id"] for event in house.told("run_spawned")} == {c.id for c in children}

    in_house(tmp_path, main)


def test_a_map_gives_results_in_order_and_at_most_so_many_at_once(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        running: list[int] = [0, 0]

        @house.gate.workflow("child")
        async def child(run: Run, input: int) -> int:
            running[0] += 1
            running[1] = max(running)
            await run.call("tool", house.do, "child", 10.0 - input)
            running[0] -= 1
            return 2 * input

        @house.gate.workflow("parent")
        async def parent(run: Run) -> list[Any]:
            return await run.map("child", range(7), at_most=2)

        assert result_of(await house.ended("parent")) == [0, 2, 4, 6, 8, 10, 12]
        assert running == [0, 2]
        assert house.ledger == {"child": 7}

    in_house(tmp_path, main)


def test_one_slot_is_enough_for_any_depth(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        @house.gate.workflow("parent")
        async def parent(run: Run, input: int) -> int:
            if input == 0:
                return 1
            return sum(await run.map("parent", [input - 1, input - 1], at_most=None))

        ended = await house.ended("parent", 4)
        assert result_of(ended) == 16
        tree = await house.gate.store.runs.page(RunFilter(limit=100))
        assert len(tree) == 31
        assert max(run.depth for run in tree) == 4

    in_house(tmp_path, main, workers={"slots": 1})


def test_a_failed_sub_run_can_be_caught(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        @house.gate.workflow("child")
        async def child(run: Run, input: int) -> int:
            if input % 2:
                raise ValueError(f"{input} is odd")
            return input

        @house.gate.workflow("parent")
        async def parent(run: Run, input: str) -> Any:
            if input == "catch":
                failed = await run.spawn("child", 1)
                try:
                    await failed.result()
                except ChildFailed as error:
                    return [error.run_id == failed.id, error.state, error.reason, error.workflow, str(error)]
            if input == "keep":
                given = await run.map("child", [0, 1, 2], return_exceptions=True)
                return [one if isinstance(one, int) else one.reason for one in given]
            return await run.map("child", [0, 3, 1])

        *caught, words = result_of(await house.ended("parent", "catch"))
        assert caught == [True, "failed", "error", "child"]
        assert "1 is odd" in words
        assert result_of(await house.ended("parent", "keep")) == [0, "error", 2]
        ended = await house.ended("parent", "raise")
        assert (ended.state, ended.reason) == (RunState.FAILED, Reason.CHILD_FAILED)
        assert "3 is odd" in (ended.detail or "")

    in_house(tmp_path, main)


def test_branches_go_on_when_the_sub_run_they_wait_for_has_ended(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        doubling(house, 0.0)

        @house.gate.workflow("slow")
        async def slow(run: Run) -> str:
            return str(await run.call("tool", house.do, "slow", 40.0))

        @house.gate.workflow("parent")
        async def parent(run: Run) -> Any:
            async def quick() -> Any:
                number = await (await run.spawn("child", 1)).result()
                return await run.call("tool", house.do, f"after {number}")

            long = await run.spawn("slow")
            return await asyncio.gather(quick(), long.result())

        admission = await house.gate.submit("parent")
        await house.passes(5.0)
        assert house.ledger["after 2"] == 1
        assert (await house.get(admission.run.id)).state is RunState.SUSPENDED
        assert result_of(await house.gate.ended(admission.run.id)) == ["did after 2", "did slow"]
        assert house.ledger == {"child 1": 1, "after 2": 1, "slow": 1}

    in_house(tmp_path, main)


@pytest.mark.parametrize("end", ["returns", "fails", "is cancelled", "expires", "is cancelled while it waits"])
def test_a_sub_run_ends_with_its_parent_unless_it_is_detached(tmp_path: Path, end: str) -> None:
    async def main(house: House) -> None:
        @house.gate.workflow("child")
        async def child(run: Run, input: int) -> None:
            if input:
                await (await run.spawn("child", input - 1)).result()
            await run.call("tool", house.do, "child", 50.0)

        @house.gate.workflow("parent")
        async def parent(run: Run) -> None:
            held = await run.spawn("child", 2)
            await run.spawn("child", 0, detached=True)
            if end == "is cancelled while it waits":
                await held.result()
            await run.call("tool", house.do, "parent", 5.0)
            if end == "fails":
                raise ValueError(end)
            if end == "is cancelled":
                await run.call("tool", house.do, "parent", 50.0)
            if end == "expires":
                await held.result()

        deadline_s = 20.0 if end == "expires" else None
        admission = await house.gate.submit("parent", deadline_s=deadline_s)
        await house.passes(10.0)
        if end.startswith("is cancelled"):
            await house.gate.cancel(admission.run.id)
        ended = await house.gate.ended(admission.run.id)
        states = {"returns": RunState.SUCCEEDED, "fails": RunState.FAILED, "expires": RunState.EXPIRED}
        assert ended.state is states.get(end, RunState.CANCELLED)
        await house.passes(6.0)
        held, free = sorted(await house.children(ended.id), key=lambda one: one.input, reverse=True)
        assert held.state in (RunState.CANCELLED, RunState.EXPIRED)
        [below] = await house.children(held.id)
        [last] = await house.children(below.id)
        assert {below.state, last.state} <= {RunState.CANCELLED, RunState.EXPIRED}
        assert (await house.gate.ended(free.id)).state is RunState.SUCCEEDED

    in_house(tmp_path, main)


def test_deadlines_are_inherited_and_never_later(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        doubling(house, 0.0)

        @house.gate.workflow("parent")
        async def parent(run: Run) -> None:
            await run.spawn("child", 0)
            await run.spawn("child", 1, deadline_s=10.0)
            await run.spawn("child", 2, deadline_s=500.0)
            await run.spawn("child", 3, deadline_s=500.0, detached=True)

        ended = await house.ended("parent", deadline_s=100.0)
        children = await house.children(ended.id)
        seconds = {c.input: round(((c.deadline_ms or 0) - c.submitted_ms) / 1000) for c in children}
        assert seconds == {"0": 100, "1": 10, "2": 100, "3": 500}

    in_house(tmp_path, main)


def test_a_lane_that_goes_before_the_parents_is_refused(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        doubling(house)

        @house.gate.workflow("parent")
        async def parent(run: Run) -> str:
            with pytest.raises(InvalidRequest, match="'critical' goes before 'standard'"):
                await run.spawn("child", 1, lane="critical")
            with pytest.raises(InvalidRequest, match="share"):
                await run.spawn("child", 1, share=0.0)
            with pytest.raises(InvalidRequest, match="at_most"):
                await run.map("child", [1], at_most=0)
            await run.spawn("child", 1, lane="background", detached=True)
            return "ok"

        ended = await house.ended("parent")
        assert result_of(ended) == "ok"
        assert [child.lane for child in await house.children(ended.id)] == ["background"]

    in_house(tmp_path, main)


def test_a_replay_does_not_redo_sub_runs_that_succeeded(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        broken = [True]

        @house.gate.workflow("child")
        async def child(run: Run, input: int) -> int:
            await run.call("tool", house.do, f"child {input}", effect="once")
            if input == 2 and broken[0]:
                raise ValueError("broken")
            return 2 * input

        @house.gate.workflow("parent")
        async def parent(run: Run) -> Any:
            return await run.map("child", [1, 2, 3])

        dead = await house.ended("parent")
        assert dead.reason == Reason.CHILD_FAILED
        broken[0] = False
        again = await house.gate.intake.replay(dead.id)
        house.gate.poke()
        ended = await house.gate.ended(again.run.id)  # type: ignore[union-attr]  # it was admitted
        assert result_of(ended) == [2, 4, 6]
        assert house.ledger == {"child 1": 1, "child 2": 1, "child 3": 1}, "not even the step of the one that failed"
        assert ended.spawned == 1

    in_house(tmp_path, main)


def test_a_detached_sub_run_has_no_result_here(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        doubling(house)

        @house.gate.workflow("parent")
        async def parent(run: Run) -> str:
            child = await run.spawn("child", 1, detached=True)
            try:
                await child.result()
            except HeadgateError as error:
                return str(error)
            return "waited"

        assert "detached" in result_of(await house.ended("parent"))

    in_house(tmp_path, main)


def test_a_worker_without_a_door_says_so(tmp_path: Path) -> None:
    from .bench import Bench, on_bench

    async def main(bench: Bench) -> None:
        async def job(run: Run) -> None:
            await run.spawn("job", 1)

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit())
        assert ended.state is RunState.FAILED
        assert "takes no runs in" in (ended.detail or "")

    on_bench(tmp_path, main)
