"""Foreground and background apart in one process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headgate.config.load import parse_settings
from headgate.config.settings import DEFAULT_LANES, GateSettings
from headgate.errors import ConfigError
from headgate.gate import Gate
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.model.run import RunState

TAKES_S = 10.0


def gate_at(folder: Path, clock: LoopClock, **workers: Any) -> Gate:
    settings = GateSettings.model_validate(
        {
            "store": f"sqlite:///{folder}/runs.db",
            "workers": {"slots": 2, "background": {"slots": 1}} | workers,
            "workflows": {"job": {}},
        }
    )
    gate = Gate(settings, clock=clock, rng=Random(1), store_mode="inline")

    @gate.workflow("job")
    async def job(run: Any, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"

    return gate


async def running(gate: Gate) -> dict[str, int]:
    """Running runs by lane."""
    queues = (await gate.store.runs.overview()).queues
    return {one.lane: one.running for one in queues if one.lane and not one.workflow and one.running}


def test_background_takes_no_foreground_slot_and_the_other_way_round(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        async with gate_at(tmp_path, clock) as gate:
            for _ in range(4):
                await gate.submit("job", TAKES_S, lane="background")
            await asyncio.sleep(3.0)
            assert await running(gate) == {"background": 1}
            for _ in range(4):
                await gate.submit("job", TAKES_S, lane="critical")
            await asyncio.sleep(3.0)
            assert await running(gate) == {"background": 1, "critical": 2}
            assert gate.worker is not None
            statistics = gate.worker.statistics()
            assert (statistics.slots, statistics.running, statistics.claimed) == (3, 3, 3)

    run_virtual(main)


def test_an_idle_pool_lends_nothing_to_the_other(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        async with gate_at(tmp_path, clock) as gate:
            for _ in range(4):
                await gate.submit("job", TAKES_S, lane="standard")
            await asyncio.sleep(5.0)
            assert await running(gate) == {"standard": 2}  # lent by critical and interactive, not by background

    run_virtual(main)


def test_without_a_background_section_all_lanes_share_all_slots(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        async with gate_at(tmp_path, clock, background=None) as gate:
            for _ in range(4):
                await gate.submit("job", TAKES_S, lane="background")
            await asyncio.sleep(3.0)
            assert await running(gate) == {"background": 2}

    run_virtual(main)


def test_both_pools_are_cancelled_drained_and_told_of(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        gate = gate_at(tmp_path, clock)
        await gate.start()
        lanes = ("background", "critical", "critical")
        runs = [(await gate.submit("job", 1000.0, lane=lane)).run.id for lane in lanes]
        await asyncio.sleep(2.0)
        reports = await gate.store.reports.all(now_ms=clock.now_ms())
        told = {one.name: one.limit for report in reports for one in report.resources}
        assert told == {"worker slots": 2, "background slots": 1}
        await gate.cancel(runs[0])
        await asyncio.sleep(1.0)
        assert (await gate.store.runs.get(runs[0])).state is RunState.CANCELLED  # type: ignore[union-attr]
        again = (await gate.submit("job", 1000.0, lane="background")).run.id
        await asyncio.sleep(2.0)
        await gate.drain(timeout_s=0.5)
        for run_id in (again, *runs[1:]):
            run = await gate.store.runs.get(run_id)
            assert run is not None
            assert (run.state, run.crashes) == (RunState.QUEUED, 0)
        await gate.close()

    run_virtual(main)


def test_forecasts_count_the_slots_and_the_line_of_the_own_pool(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        async with gate_at(tmp_path, clock) as gate:
            for _ in range(12):
                lasts = [(await gate.submit("job", TAKES_S, lane=lane)).run.id for lane in ("background", "critical")]
                for run_id in lasts:
                    await gate.ended(run_id)
            await asyncio.sleep(3.0)
            for _ in range(3):
                await gate.submit("job", TAKES_S, lane="critical")
            await gate.submit("job", TAKES_S, lane="background")
            await asyncio.sleep(2.0)
            assert (await gate.submit("job", TAKES_S, lane="critical")).position == 1
            waits = await gate.submit("job", TAKES_S, lane="background")
            assert waits.position == 0
            located = await gate.intake.locate(waits.run.id)
            assert located is not None
            assert located.position == 0
            assert located.eta_ms == pytest.approx(1000 * (TAKES_S - 2.0), rel=0.5)
            assert gate.outlook.forecaster.slots == 3
            prospects = [gate.outlook.forecaster.prospect("job", lane) for lane in ("critical", "background")]
            assert [one.slots for one in prospects if one is not None] == [2, 1]

    run_virtual(main)


def test_mistakes_are_told() -> None:
    for background, lanes, words in (
        ({"slots": 1, "lanes": "backgroud"}, None, "there is no lane 'backgroud'"),
        ({"slots": 1}, {"a": {}, "b": {}}, "no lane is sheddable"),
        ({"slots": 1, "lanes": ["a", "b"]}, {"a": {}, "b": {}}, "no lane is left"),
        ({}, None, "slots"),
    ):
        given: dict[str, Any] = {"workers": {"background": background}} | ({"lanes": lanes} if lanes else {})
        with pytest.raises(ValidationError, match=words):
            GateSettings.model_validate(given)
    with pytest.raises(ConfigError, match="there is no lane 'nobody'"):
        parse_settings("workers: {background: {slots: 4, lanes: nobody}}")


@given(st.sets(st.sampled_from(list(DEFAULT_LANES)), min_size=1, max_size=len(DEFAULT_LANES) - 1))
def test_every_lane_belongs_to_one_pool(apart: set[str]) -> None:
    settings = GateSettings.model_validate({"workers": {"background": {"slots": 1, "lanes": sorted(apart)}}})
    assert set(settings.background_lanes) == apart
    for lane in settings.lanes:
        sharing = settings.sharing(lane)
        assert lane in sharing
        assert list(sharing) == [one for one in settings.lanes if (one in apart) == (lane in apart)]
