"""How far an attempt is from its next safe point."""

from __future__ import annotations

import asyncio

import pytest

from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.runs.safe_point import SafePoint


def test_a_call_is_nearer_to_its_end_the_longer_it_has_lasted_up_to_the_longest() -> None:
    async def main(clock: LoopClock) -> list[tuple[float, float]]:
        point = SafePoint(clock)
        for takes_s in (1.0, 3.0):
            point.call_begins()
            await asyncio.sleep(takes_s)
            point.passed()
        assert point.usual_s(4.0) == pytest.approx(2.0)
        await asyncio.sleep(0.5)
        point.call_begins()
        seen = []
        for _ in range(5):
            seen.append(point.cost_s(calling=True, usual_s=point.usual_s(4.0), longest_s=point.longest_s))
            await asyncio.sleep(1.0)
        return seen

    seen = run_virtual(main)
    assert [redo_s for redo_s, _ in seen] == pytest.approx([0.5] * 5)
    assert [left_s for _, left_s in seen] == pytest.approx([2.0, 1.0, 0.5, 0.0, 4.0])


def test_outside_of_calls_what_was_done_since_the_last_step_is_done_again() -> None:
    async def main(clock: LoopClock) -> tuple[float, float]:
        point = SafePoint(clock)
        await asyncio.sleep(9.0)
        point.passed(step=False)
        await asyncio.sleep(2.0)
        assert point.usual_s(0.0) == 0.0
        return point.cost_s(calling=False, usual_s=1.0, longest_s=1.0)

    assert run_virtual(main) == pytest.approx((2.0, 2.0))
