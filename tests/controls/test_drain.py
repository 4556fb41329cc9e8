"""The fleet is drained: nothing new comes in, and all that it has is finished."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest

from headgate import Run
from headgate.config.load import parse_settings
from headgate.errors import InvalidRequest, Rejected
from headgate.gate import Gate
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.model.control import FLEET, Control, ControlKind

FILE = """
store: sqlite:///{folder}/runs.db?synchronous=off
workers: {{slots: 2}}
workflows: {{parent: {{}}, part: {{}}}}
"""


def gate_in(folder: Path, clock: LoopClock) -> Gate:
    gate = Gate(parse_settings(FILE.format(folder=folder)), clock=clock, rng=Random(3), store_mode="inline")

    async def parent(run: Run, given: int) -> Any:
        await asyncio.sleep(10)
        return await run.map("part", [given, given + 1])

    async def part(run: Run, given: int) -> int:
        await asyncio.sleep(1)
        return given

    gate.workflow("parent")(parent)
    gate.workflow("part")(part)
    return gate


def drained(clock: LoopClock, seconds: float | None = None) -> Control:
    until_ms = None if seconds is None else clock.now_ms() + round(1000 * seconds)
    return Control(FLEET, ControlKind.PAUSE, "new database", "ann", clock.now_ms(), until_ms)


def test_what_was_taken_in_is_finished_and_nothing_else_comes_in(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        async with gate_in(tmp_path, clock) as gate:
            runs = [await gate.submit("parent", n, idempotency_key=f"k{n}") for n in range(4)]
            await asyncio.sleep(2)
            await gate.controls.put(gate.store, drained(clock))
            with pytest.raises(Rejected) as refused:
                await gate.submit("part", 1)
            assert (refused.value.reason, refused.value.scope) == ("draining", "fleet")
            assert 60 <= (refused.value.retry_after_s or 0) <= 75
            known = await gate.submit("parent", 0, idempotency_key="k0")
            assert (known.run.id, known.created) == (runs[0].run.id, False)
            report = gate.capacity()
            assert (report["state"], report["drain"]["by"]) == ("draining", "ann")
            assert {lane["admitted_part"] for lane in report["lanes"]} == {0.0}
            results = [await gate.result(one.run.id, timeout_s=120) for one in runs]
            assert results == [[n, n + 1] for n in range(4)]
            await asyncio.sleep(2)
            left = gate.capacity()["runs"]
            assert sum(left.get(state, 0) for state in ("queued", "running", "suspended")) == 0

    run_virtual(main)


def test_a_process_that_starts_later_is_drained_too_until_it_is_over(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        async with gate_in(tmp_path, clock) as gate:
            await gate.controls.put(gate.store, drained(clock, 300))
        async with gate_in(tmp_path, clock) as gate:
            with pytest.raises(Rejected) as refused:
                await gate.submit("part", 1)
            assert 250 <= (refused.value.retry_after_s or 0) <= 375
            await asyncio.sleep(302)
            assert await gate.result((await gate.submit("part", 7)).run.id) == 7
            record = await gate.store.controls.changes(target=FLEET, limit=5)
            assert [(one.changed_by, one.became) for one in record][:1] == [("ann", "drained, nothing new comes in")]

    run_virtual(main)


def test_it_is_ended_by_hand_and_stops_nothing_that_runs(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        async with gate_in(tmp_path, clock) as gate:
            stops = Control(FLEET, ControlKind.PAUSE, "x", "ann", clock.now_ms(), stops_running=True)
            with pytest.raises(InvalidRequest, match="stop_running"):
                await gate.controls.put(gate.store, stops)
            await gate.controls.put(gate.store, drained(clock))
            await gate.controls.drop(gate.store, FLEET, [ControlKind.PAUSE], by="bob", reason="done")
            assert (await gate.submit("part", 1)).created
            assert (gate.capacity()["state"], gate.capacity()["drain"]) == ("serving", None)

    run_virtual(main)
