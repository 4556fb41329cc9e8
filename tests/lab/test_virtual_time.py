"""The loop whose clock jumps."""

import asyncio
import time
from random import Random

import pytest

from headgate.lab.virtual_time import EPOCH_MS, LoopClock, StandstillError, run_virtual


def test_an_hour_takes_no_time_and_both_clocks_show_it() -> None:
    async def main(clock: LoopClock) -> tuple[int, float]:
        await asyncio.sleep(3600)
        return clock.now_ms(), clock.monotonic()

    begin = time.monotonic()
    wall_ms, monotonic = run_virtual(main)
    assert time.monotonic() - begin < 5
    assert wall_ms == EPOCH_MS + 3_600_000
    assert monotonic == 3600


def test_timers_fire_in_order_at_their_moments() -> None:
    async def main(clock: LoopClock) -> list[tuple[float, int]]:
        fired: list[tuple[float, int]] = []
        rng = Random(7)
        waits = [round(rng.uniform(0, 100), 3) for _ in range(200)]

        async def one(index: int, wait: float) -> None:
            await asyncio.sleep(wait)
            fired.append((round(clock.monotonic(), 3), index))

        await asyncio.gather(*(one(index, wait) for index, wait in enumerate(waits)))
        assert sorted(wait for wait, _ in fired) == sorted(waits)
        return fired

    fired = run_virtual(main)
    assert fired == sorted(fired, key=lambda pair: pair[0])


def test_work_in_threads_stops_the_clock() -> None:
    async def main(clock: LoopClock) -> float:
        async with asyncio.timeout(10):
            await asyncio.to_thread(sum, range(2_000_000))
        return clock.monotonic()

    assert run_virtual(main) == 0.0


def test_waiting_for_what_never_comes_is_reported() -> None:
    async def main(clock: LoopClock) -> None:
        await asyncio.Event().wait()

    with pytest.raises(StandstillError, match="stands still"):
        run_virtual(main)


def test_timeouts_expire_in_virtual_time() -> None:
    async def main(clock: LoopClock) -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.Event().wait()
        return clock.monotonic()

    assert run_virtual(main) == 30.0
