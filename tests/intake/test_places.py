"""Places of a queue that lower lanes leave to higher ones."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest

from headgate.config.settings import GateSettings
from headgate.errors import Rejected
from headgate.gate import Gate
from headgate.intake.places import IN_USE_MS
from headgate.lab.virtual_time import LoopClock, run_virtual


def gate_at(folder: Path, clock: LoopClock) -> Gate:
    settings = GateSettings.model_validate(
        {"store": f"sqlite:///{folder}/runs.db", "workflows": {"job": {"queue": {"depth": 20, "max_age": "10h"}}}}
    )
    gate = Gate(settings, clock=clock, rng=Random(1), store_mode="inline")

    @gate.workflow("job")
    async def job(_run: Any) -> None:
        return None

    return gate


async def fill(gate: Gate, lane: str) -> int:
    """How many came in before one was refused."""
    refused: list[Rejected] = []
    taken = -1
    while not refused and taken < 100:
        taken += 1
        try:
            await gate.submit("job", lane=lane)
        except Rejected as refusal:
            refused.append(refusal)
    assert [(one.reason, one.scope) for one in refused] == [("queue_full", "workflow:job")]
    return taken


def test_a_lane_alone_has_the_whole_queue(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        gate = gate_at(tmp_path, clock)
        await gate.start(workers=False)
        assert await fill(gate, "background") == 20
        await gate.close()

    run_virtual(main)


def test_a_flood_of_a_lower_lane_leaves_room_for_each_lane_in_use_before_it(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        gate = gate_at(tmp_path, clock)
        await gate.start(workers=False)
        await gate.submit("job", lane="critical")
        await gate.submit("job", lane="standard")
        assert await fill(gate, "background") == 20 - 2 * 2 - 2
        assert await fill(gate, "standard") == 2
        assert await fill(gate, "critical") == 2
        with pytest.raises(Rejected):
            await gate.submit("job", lane="background")
        await gate.close()

    run_virtual(main)


def test_a_lane_that_is_not_used_any_more_keeps_nothing(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        gate = gate_at(tmp_path, clock)
        await gate.start(workers=False)
        await gate.submit("job", lane="critical")
        assert await fill(gate, "standard") == 20 - 2 - 1
        await asyncio.sleep(IN_USE_MS / 1000)
        await gate.submit("job", lane="standard")
        await gate.close()

    run_virtual(main)
