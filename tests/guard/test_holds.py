"""Model tokens are holds: bursts never overshoot, and a hold never outlives its call."""

import asyncio
import gc
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.errors import Overloaded
from headgate.lab.virtual_time import LoopClock, run_virtual

from .workshop import QUIET_MODEL, Provider, at_rest, resources, tool, usage_answer

CEILING = 60_000
"""Model tokens a minute; as many may be taken at once."""


def burst(parallel: int, estimates: list[int], seed: int, *, guarded: bool) -> list[tuple[float, float]]:
    """When calls started and how many model tokens each then used."""
    used: list[tuple[float, float]] = []

    async def main(clock: LoopClock) -> None:
        rng = random.Random(seed)
        limit: dict[str, Any] = {"model_tokens": f"{CEILING}/min"} if guarded else {}
        queue = {"depth": 1000, "max_age": "10h"}
        large = resources(
            clock, models={"large": {**QUIET_MODEL, **limit, "concurrency": 100, "queue": queue, "timeout": "5s"}}
        ).get("large")

        async def ask(estimate: int) -> None:
            async def body() -> Any:
                takes = rng.randint(1, estimate)
                used.append((clock.monotonic(), takes))
                await asyncio.sleep(rng.choice([0.1, 1.0, 9.0]))
                return usage_answer(takes)

            await large.with_options(model_tokens=float(estimate)).call(body)

        tasks = [asyncio.create_task(ask(estimates[number % len(estimates)])) for number in range(parallel)]
        for task in tasks[::7]:
            asyncio.get_running_loop().call_later(rng.random() * 3, task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert at_rest(large)

    run_virtual(main)
    return used


def overshoot(used: list[tuple[float, float]]) -> float:
    """The most that any stretch of time used beyond the bucket and its refill."""
    worst = 0.0
    for first, (begin, _) in enumerate(used):
        total = 0.0
        for moment, takes in used[first:]:
            total += takes
            worst = max(worst, total - CEILING - (moment - begin) * CEILING / 60)
    return worst


@pytest.mark.parametrize("parallel", [5, 50])
@settings(max_examples=15, deadline=None)
@given(estimates=st.lists(st.integers(2, 30_000), min_size=1, max_size=6), seed=st.integers(0, 10**6))
def test_bursts_never_overshoot(parallel: int, estimates: list[int], seed: int) -> None:
    assert overshoot(burst(parallel, estimates, seed, guarded=True)) <= 1e-6


def test_the_control_without_holds_overshoots() -> None:
    assert overshoot(burst(50, [30_000], 1, guarded=False)) > CEILING


def test_what_a_lost_hold_took_is_there_again_after_the_window() -> None:
    async def main(clock: LoopClock) -> None:
        large = resources(clock, models={"large": {**QUIET_MODEL, "model_tokens": "1000/min"}}).get("large")
        view = large.with_options(model_tokens=1000.0, max_wait=0.0)
        with pytest.raises(TimeoutError):
            await view.with_options(timeout=1).call(Provider(seconds=99))
        with pytest.raises(Overloaded):
            await view.call(Provider())
        await asyncio.sleep(60)
        assert await view.call(Provider(seconds=0)) == 0

    run_virtual(main)


def test_a_slot_that_is_thrown_away_serves_who_waits_and_cuts_nobody() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1, timeout="5s", queue={"depth": 5, "max_age": "1h"})
        context = github.slot()
        await context.__aenter__()
        waiting = asyncio.create_task(github.call(Provider(seconds=1)))
        await asyncio.sleep(2)
        del context
        gc.collect()
        assert await waiting == 0
        assert clock.monotonic() == pytest.approx(3, abs=0.02)
        await asyncio.sleep(30)  # the timer of the lost slot has gone off meanwhile
        assert at_rest(github)

    run_virtual(main)


@pytest.mark.parametrize("watched", [True, False])
def test_a_slot_thrown_away_by_a_plain_thread_comes_back_when_the_resource_is_watched(watched: bool) -> None:
    async def main(clock: LoopClock) -> None:
        both = resources(clock, tools={"github": {"concurrency": 1, "queue": {"depth": 5, "max_age": "1h"}}})
        github = both.get("github")
        context = github.slot()
        context.__enter__()
        waiting = asyncio.create_task(github.call(Provider(seconds=1)))
        await asyncio.sleep(2)
        del context
        gc.collect()
        await asyncio.sleep(0.5)
        assert not waiting.done()
        if watched:
            both.watch(0.0)
        else:
            github.statistics()
        assert await waiting == 0
        assert at_rest(github)

    run_virtual(main)


def test_a_slot_that_is_thrown_away_comes_back() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1)
        context = github.slot()
        context.__enter__()
        assert github.statistics().inflight == 1
        with pytest.raises(Overloaded):
            await github.with_options(max_wait=0).call(Provider())
        del context
        gc.collect()
        assert await github.with_options(max_wait=0).call(Provider(seconds=0)) == 0
        assert at_rest(github)

    run_virtual(main)
