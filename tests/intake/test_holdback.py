"""Lower lanes are lent fewer slots while higher ones are pressed, if the configuration says so."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest

from headgate.config.load import parse_settings
from headgate.gate import Gate
from headgate.lab.virtual_time import LoopClock, run_virtual

FILE = """
store: sqlite:///{folder}/runs.db?synchronous=off
workers: {{slots: 10}}
preemption: null
{holdback}
lanes: {{critical: {{share: 30%, max_wait: 100s}}, background: {{share: 20%}}}}
tools: {{slow: {{concurrency: 1, queue: {{depth: 20}}}}}}
workflows:
  urgent: {{lane: critical}}
  batch: {{lane: background}}
"""


def most_at_once(tmp_path: Path, holdback: str) -> tuple[int, list[float]]:
    """How many background runs ran at once while one urgent run was there and the tool's line was full."""
    running, most, lent = 0, 0, []

    async def main(clock: LoopClock) -> None:
        settings = parse_settings(FILE.format(folder=tmp_path, holdback=holdback))
        gate = Gate(settings, clock=clock, rng=Random(1), store_mode="inline")

        async def urgent(run: Any, _value: Any) -> None:
            async def use() -> None:
                await asyncio.sleep(20)

            await asyncio.gather(*(run.call("slow", use, key=f"k{n}") for n in range(20)), return_exceptions=True)

        async def batch(_run: Any, _value: Any) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(5)
            running -= 1

        gate.workflow("urgent")(urgent)
        gate.workflow("batch")(batch)
        await gate.start()
        try:
            await gate.submit("urgent")
            await asyncio.sleep(10)
            for _ in range(30):
                await gate.submit("batch")
            for _ in range(10):
                await asyncio.sleep(1)
                lanes = {one["name"]: one for one in gate.capacity()["lanes"]}
                lent.append(lanes["background"]["lent_part"])
        finally:
            await gate.close()

    run_virtual(main)
    return most, lent


def test_off_by_default_everything_idle_is_lent(tmp_path: Path) -> None:
    most, lent = most_at_once(tmp_path, "")
    assert most == 9
    assert set(lent) == {1.0}


@pytest.mark.parametrize("holdback", ["holdback: 50%", "holdback: 70%"])
def test_under_pressure_a_lower_lane_keeps_to_its_share(tmp_path: Path, holdback: str) -> None:
    most, lent = most_at_once(tmp_path, holdback)
    assert min(lent) < 0.2
    assert 1 <= most <= 6
