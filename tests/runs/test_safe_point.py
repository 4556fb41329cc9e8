"""How far an attempt is from its next safe point."""

from __future__ import annotations

import asyncio

import pytest

from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.policy.preemption import CallTimes
from headgate.runs.safe_point import CALLS_KEPT, SafePoint


def test_a_call_is_as_far_from_its_end_as_its_like_and_what_was_done_before_it_is_done_again() -> None:
    async def main(clock: LoopClock) -> list[tuple[float, float]]:
        point = SafePoint(clock)
        for takes_s in (1.0, 3.0):
            point.call_begins()
            await asyncio.sleep(takes_s)
            point.passed()
        assert list(point.calls_s) == pytest.approx([1.0, 3.0])
        times = CallTimes(point.calls_s)
        await asyncio.sleep(0.5)
        point.call_begins()
        seen = []
        for _ in range(5):
            seen.append(point.cost_s(times, calling=True))
            await asyncio.sleep(1.0)
        assert [left_s for _, left_s in seen] == pytest.approx([times.left_s(second) for second in range(5)])
        return seen

    seen = run_virtual(main)
    assert [redo_s for redo_s, _ in seen] == pytest.approx([0.5] * 5)
    assert [left_s for _, left_s in seen] == pytest.approx([4 / 3, 1.5, 1.5, 3.0, 4.0])


def test_outside_of_calls_what_was_done_since_the_last_step_is_done_again() -> None:
    async def main(clock: LoopClock) -> tuple[float, float]:
        point = SafePoint(clock)
        await asyncio.sleep(9.0)
        point.passed(step=False)
        await asyncio.sleep(2.0)
        assert not point.calls_s
        return point.cost_s(CallTimes([1.0]), calling=False)

    assert run_virtual(main) == pytest.approx((2.0, 2.0))


def test_only_the_latest_calls_are_kept() -> None:
    async def main(clock: LoopClock) -> list[float]:
        point = SafePoint(clock)
        for number in range(CALLS_KEPT + 3):
            point.call_begins()
            await asyncio.sleep(number)
            point.passed()
        return list(point.calls_s)

    assert run_virtual(main) == pytest.approx(list(range(3, CALLS_KEPT + 3)))
