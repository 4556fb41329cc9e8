"""What operators set by hand: pause, resume, override, reset."""

import asyncio
from typing import Any

import pytest

from headgate.config.units import Rate
from headgate.errors import Overloaded
from headgate.lab.virtual_time import LoopClock, run_virtual

from .workshop import Provider, ProviderError, at_rest, resources, tool


def test_a_pause_refuses_who_comes_and_who_waits_and_lets_running_calls_end() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1, queue={"depth": 9, "max_age": "1h"})
        provider = Provider(seconds=10)
        tasks = [asyncio.create_task(github.call(provider)) for _ in range(3)]
        await asyncio.sleep(1)
        github.pause("maintenance")
        refused = await asyncio.gather(*tasks[1:], return_exceptions=True)
        assert [one.reason for one in refused if isinstance(one, Overloaded)] == ["paused", "paused"]
        assert clock.monotonic() == 1
        with pytest.raises(Overloaded) as late:
            await github.call(provider)
        assert late.value.reason == "paused"
        assert late.value.retryable
        assert await tasks[0] == 0
        seen = github.statistics()
        assert seen.pause is not None
        assert (seen.pause.reason, seen.pause.since, seen.pause.until) == ("maintenance", 1.0, None)
        assert (seen.pressure, seen.refused) == (0.0, {"paused": 3})
        github.resume()
        assert github.statistics().pause is None
        assert await github.call(provider) == 1
        assert at_rest(github)

    run_virtual(main)


def test_with_a_budget_for_it_callers_wait_for_the_end_of_a_pause() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1, queue={"depth": 9, "max_age": "1m", "max_age_down": "5s"})
        provider = Provider(seconds=1)
        github.pause("short", until=clock.monotonic() + 3)
        first = asyncio.create_task(github.call(provider))
        await asyncio.sleep(0.5)
        second = asyncio.create_task(github.call(provider))
        assert await asyncio.gather(first, second) == [0, 1]
        assert provider.started_at == pytest.approx([3.0, 4.0], abs=0.02)
        github.pause("long")
        before = clock.monotonic()
        third = asyncio.create_task(github.call(provider))
        await asyncio.sleep(2)
        fourth = asyncio.create_task(github.call(provider))
        with pytest.raises(Overloaded) as refused:
            await third
        assert refused.value.reason == "paused"
        assert 5.0 <= clock.monotonic() - before < 5.02
        github.resume()
        assert await fourth == 2
        assert at_rest(github)

    run_virtual(main)


def test_who_stood_in_line_before_the_pause_waits_for_its_own_budget_from_there_on() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1, timeout="1h", queue={"depth": 9, "max_age": "1h", "max_age_down": "5s"})
        holder = asyncio.create_task(github.call(Provider(seconds=60)))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(github.call(Provider()))
        await asyncio.sleep(30)
        github.pause("x")
        with pytest.raises(Overloaded):
            await waiting
        assert 35.0 <= clock.monotonic() < 35.02
        holder.cancel()

    run_virtual(main)


def test_the_breaker_is_waited_for_in_the_same_way() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(
            clock,
            concurrency=4,
            breaker={"consecutive": 2, "open_for": "4s", "kind": "hard"},
            queue={"depth": 50, "max_age": "1m", "max_age_down": "20s"},
        )
        broken = Provider(seconds=0.1, answer=lambda number: ProviderError(500) if number < 2 else "well")
        for _ in range(2):
            with pytest.raises(ProviderError):
                await github.call(broken)
        assert await asyncio.gather(*(github.call(broken) for _ in range(6))) == ["well"] * 6
        assert github.statistics().refused == {}
        assert broken.peak <= 4
        assert at_rest(github)

    run_virtual(main)


def test_an_override_replaces_the_limit_until_its_end_and_wakes_the_line() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1, queue={"depth": 99, "max_age": "1h"})
        provider = Provider(seconds=1)
        tasks = [asyncio.create_task(github.call(provider)) for _ in range(20)]
        await asyncio.sleep(0.5)
        github.override(limit=4, reason="more today", until=clock.monotonic() + 2)
        await asyncio.sleep(0)
        assert provider.inflight == 4
        seen = github.statistics()
        assert (seen.limit, seen.base_limit) == (4, 1)
        assert seen.override is not None
        assert (seen.override.limit, seen.override.reason, seen.override.until) == (4, "more today", 2.5)
        await asyncio.sleep(2)
        assert github.statistics().override is None
        await asyncio.sleep(1.1)
        assert provider.inflight == 1
        github.override(limit=2, reason="a little more")
        github.reset()
        await asyncio.gather(*tasks)
        assert provider.peak == 4
        assert at_rest(github)

    run_virtual(main)


def test_the_end_of_a_smaller_limit_starts_the_line_by_itself() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=3, timeout="1h", queue={"depth": 99, "max_age": "1h"})
        github.override(limit=1, reason="less", until=5.0)
        provider = Provider(seconds=100)
        tasks = [asyncio.create_task(github.call(provider)) for _ in range(3)]
        await asyncio.gather(*tasks)
        assert provider.started_at == pytest.approx([0.0, 5.0, 5.0], abs=0.02)

    run_virtual(main)


def test_an_override_replaces_the_rate() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=50, queue={"depth": 99, "max_age": "1h"})
        github.override(rate=Rate(2, 1.0), reason="slowly", until=4.0)
        provider = Provider(seconds=0)
        await asyncio.gather(*(github.call(provider) for _ in range(30)))
        assert provider.started_at[:5] == pytest.approx([0, 0, 0.5, 1.0, 1.5], abs=0.02)
        assert sum(moment >= 4 for moment in provider.started_at) >= 20
        assert clock.monotonic() < 4.1

    run_virtual(main)


@pytest.mark.parametrize(
    "wrong", [{}, {"limit": 0}, {"limit": float("inf")}, {"rate": Rate(0, 1.0)}, {"limit": 3, "until": -1.0}]
)
def test_nonsense_is_refused_and_changes_nothing(wrong: dict[str, Any]) -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=2)
        with pytest.raises(ValueError, match=r"override|limit|rate|end"):
            github.override(reason="?", **wrong)
        with pytest.raises(ValueError, match="end"):
            github.pause("?", until=clock.monotonic())
        seen = github.statistics()
        assert (seen.limit, seen.override, seen.pause) == (2, None, None)

    run_virtual(main)


def test_a_paused_resource_falls_back_and_shadow_mode_only_counts() -> None:
    async def main(clock: LoopClock) -> None:
        models = resources(clock, models={"large": {"fallback": "small"}, "small": {}, "free": {"mode": "shadow"}})
        models.get("large").pause("too dear today")
        done = await models.get("large").perform(Provider(), (), {})
        assert done.degraded == "resource:small"
        models.get("free").pause("only looking")
        assert await models.get("free").call(Provider()) == 0
        assert models.get("free").statistics().would_refuse == {"paused": 1}

    run_virtual(main)
