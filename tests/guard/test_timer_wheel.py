"""The shared timer: never early, hardly late, one handle, nothing left behind."""

import asyncio
import gc
import random

from headgate.guard.timer_wheel import TICK_S, TimerWheel, wheel_of
from headgate.lab.virtual_time import LoopClock, run_virtual


class Item:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.at: list[float] = []

    def due(self) -> None:
        self.at.append(self._loop.time())


def test_never_early_and_at_most_a_tick_late() -> None:
    async def main(clock: LoopClock) -> None:
        loop, rng = asyncio.get_running_loop(), random.Random(3)
        wheel = wheel_of(loop)
        items = []
        for _ in range(300):
            after, item = rng.uniform(0, 30), Item(loop)
            items.append((clock.monotonic() + after, item))
            wheel.add(after, item)
            await asyncio.sleep(rng.uniform(0, 0.2))
        await asyncio.sleep(40)
        for moment, item in items:
            (at,) = item.at
            assert moment <= at <= moment + TICK_S + 1e-9
        assert len(wheel) == 0

    run_virtual(main)


def test_a_removed_item_hears_nothing_and_leaves_nothing() -> None:
    async def main(_clock: LoopClock) -> None:
        loop = asyncio.get_running_loop()
        wheel, item = TimerWheel(loop), Item(loop)
        tick = wheel.add(1.0, item)
        wheel.remove(tick, item)
        wheel.remove(tick, item)
        assert len(wheel) == 0
        await asyncio.sleep(5)
        assert item.at == []
        wheel.remove(tick, item)

    run_virtual(main)


def test_quick_calls_do_not_pile_up_timers() -> None:
    async def main(_clock: LoopClock) -> None:
        loop = asyncio.get_running_loop()
        wheel, item = TimerWheel(loop), Item(loop)
        before = len(loop._scheduled)  # type: ignore[attr-defined]  # the loop's own heap is what must stay small
        for _ in range(20_000):
            wheel.remove(wheel.add(30.0, item), item)
        assert len(loop._scheduled) - before <= 1  # type: ignore[attr-defined]
        await asyncio.sleep(31)
        assert item.at == []
        assert len(loop._scheduled) == before  # type: ignore[attr-defined]

    run_virtual(main)


def test_one_wheel_for_each_loop_and_none_for_loops_that_are_gone() -> None:
    async def main(_clock: LoopClock) -> TimerWheel:
        loop = asyncio.get_running_loop()
        assert wheel_of(loop) is wheel_of(loop)
        assert wheel_of(loop).loop_of() is loop
        return wheel_of(loop)

    first, second = run_virtual(main), run_virtual(main)
    assert first is not second
    gc.collect()
    assert first.loop_of() is None
