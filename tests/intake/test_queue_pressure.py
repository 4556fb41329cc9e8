"""A full queue presses on its own workflow; on others only with its part of all the room."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest

from headgate.config.load import parse_settings
from headgate.errors import Rejected
from headgate.gate import Gate
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.model.control import Control, ControlKind

FILE = """
store: sqlite:///{folder}/runs.db?synchronous=off
workers: {{slots: 4}}
lanes: {{standard: {{share: 80%}}, background: {{share: 20%, sheddable: true}}}}
{budget}
workflows:
  tiny: {{lane: standard, when_full: delay, queue: {{depth: 5, max_age: 1h}}}}
  small: {{lane: background, queue: {{depth: 10, max_age: 1h}}}}
  other: {{lane: background, queue: {{depth: 1000, max_age: 1h}}}}
"""


def opened(tmp_path: Path, clock: LoopClock, budget: str = "") -> Gate:
    gate = Gate(
        parse_settings(FILE.format(folder=tmp_path, budget=budget)), clock=clock, rng=Random(1), store_mode="inline"
    )

    async def work(_run: object, _given: int) -> None:
        await asyncio.sleep(0)

    for name in ("tiny", "small", "other"):
        gate.workflow(name)(work)
    return gate


def test_a_full_queue_of_a_few_places_presses_on_its_own_workflow_only(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        gate = opened(tmp_path, clock)
        try:
            await gate.start(workers=False)
            for n in range(20):
                await gate.submit("tiny", n)  # five wait in line, the others are delayed
            await asyncio.sleep(5)
            outlook = gate.outlook
            assert outlook.pressure_on("tiny") == 1.0
            assert max(outlook.pressure.intake, outlook.pressure_on("other")) < 0.02
            assert (await gate.submit("other", 1)).created
            report = gate.capacity()
            tiny = next(one for one in report["workflows"] if one["name"] == "tiny")
            assert tiny["queue"]["pressure"] == 1.0
            assert report["pressure"]["why"] == "no part is pressed"
        finally:
            await gate.close()

    run_virtual(main)


def test_sheddable_runs_are_refused_by_their_own_full_queue_until_it_has_room(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        gate = opened(tmp_path, clock)
        try:
            await gate.start(workers=False)
            waiting = [(await gate.submit("small", n)).run for n in range(9)]
            await asyncio.sleep(3)
            with pytest.raises(Rejected) as refused:
                await gate.submit("small", 10)
            assert (refused.value.reason, refused.value.scope) == ("shed", "workflow:small")
            assert (await gate.submit("other", 1)).created
            for run in waiting[:6]:
                await gate.cancel(run.id)
            await asyncio.sleep(5)
            assert (await gate.submit("small", 11)).created
        finally:
            await gate.close()

    run_virtual(main)


def test_what_waits_in_all_queues_and_the_bound_of_the_fleet_press_on_all(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        gate = opened(tmp_path, clock, "budget: {waiting: 20}")
        try:
            await gate.start(workers=False)
            for n in range(18):
                await gate.submit("other", n)
            await asyncio.sleep(3)
            assert gate.outlook.pressure.queue == pytest.approx(0.9)
            with pytest.raises(Rejected) as refused:
                await gate.submit("small", 1)
            assert refused.value.reason == "shed"
            pause = Control("workflow:other", ControlKind.PAUSE, "incident 7", "ann", clock.now_ms())
            await gate.controls.put(gate.store, pause)
            await asyncio.sleep(5)
            assert (await gate.submit("small", 2)).created
        finally:
            await gate.close()

    run_virtual(main)
