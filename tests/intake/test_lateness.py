"""What comes in with hardly any time left presses on its workflow, and on no other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest

from headgate.config.load import parse_settings
from headgate.errors import Rejected
from headgate.gate import Gate
from headgate.intake.lateness import LEAST, LOOKED_BACK_MS, Lateness
from headgate.lab.virtual_time import LoopClock, run_virtual

FILE = """
store: sqlite:///{folder}/runs.db?synchronous=off
workers: {{slots: 4}}
workflows:
  busy: {{deadline: 20s, degrade: [{{at: 60%, knobs: {{size: 1}}}}]}}
  quiet: {{deadline: 20s}}
"""


def test_one_in_a_hurry_is_no_overload() -> None:
    lateness = Lateness()
    for nth in range(LEAST):
        lateness.look(1000 * nth)
        assert lateness.levels == {}
        lateness.note("agent", "standard", 1.0, now_ms=1000 * nth)
    lateness.look(1000 * LEAST)
    assert lateness.levels == {"agent": 1.0}


def test_the_tightest_lane_counts_and_what_is_over_fades() -> None:
    lateness = Lateness()
    for lane, tight in (("critical", 0.2), ("standard", 0.8)):
        for _ in range(LEAST):
            lateness.note("agent", lane, tight, now_ms=0)
    lateness.look(0)
    assert lateness.levels == {"agent": pytest.approx(0.8)}
    lateness.look(LOOKED_BACK_MS + 1)
    assert 0.2 < lateness.levels["agent"] < 0.3  # a tenth less in each of ten seconds
    lateness.look(100_000)
    assert lateness.levels == {}


def test_a_workflow_whose_runs_hardly_fit_is_done_more_cheaply(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> tuple[float, float, list[Any]]:
        settings = parse_settings(FILE.format(folder=tmp_path))
        gate = Gate(settings, clock=clock, rng=Random(1), store_mode="inline")
        knobs: list[Any] = []
        refused: set[str] = set()

        async def busy(run: Any, _value: Any) -> None:
            knobs.append(run.knob("size", 9))
            await asyncio.sleep(1)

        async def quiet(_run: Any, _value: Any) -> None:
            await asyncio.sleep(0.1)

        gate.workflow("busy")(busy)
        gate.workflow("quiet")(quiet)
        await gate.start()
        try:
            for _ in range(20):
                await gate.submit("busy")
                await asyncio.sleep(0.5)
            calm, seen = gate.outlook.pressure_on("busy"), len(knobs)
            for _ in range(40):
                for _ in range(4):
                    try:
                        await gate.submit("busy")
                    except Rejected as refusal:
                        refused.add(str(refusal.reason))
                await asyncio.sleep(0.5)
            assert set(knobs[:seen]) == {9}
            assert refused == {"too_late"}
            return calm, gate.outlook.pressure_on("busy"), [gate.outlook.pressure_on("quiet"), *knobs[-20:]]
        finally:
            await gate.close()

    calm, pressed, (quiet, *knobs) = run_virtual(main)
    assert calm < 0.2
    assert pressed > 0.6 > quiet
    assert knobs.count(1) > 10
