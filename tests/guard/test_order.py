"""Who gets the next slot: lanes, tenants, urgency; what is not worth starting; who makes room in a full line."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from headgate.errors import Overloaded
from headgate.guard.ambient import Ambient, ambient
from headgate.guard.resource import Resource
from headgate.lab.virtual_time import LoopClock, run_virtual

from .workshop import QUIET_MODEL, Provider, at_rest, lane, resources, tool

LONG: dict[str, Any] = {"depth": 500, "max_age": "10h"}


async def served(github: Resource, wishes: list[tuple[str, Ambient]], seconds: float = 1.0) -> list[str]:
    """The order in which these calls start, all asked at once behind one that holds the only slot."""
    order: list[str] = []

    async def work(name: str) -> None:
        order.append(name)
        await asyncio.sleep(seconds)

    async def ask(name: str, whose: Ambient) -> None:
        with ambient(whose):
            await github.call(work, name)

    holder = asyncio.create_task(github.call(Provider(seconds=1)))
    await asyncio.sleep(0)
    await asyncio.gather(*(ask(*wish) for wish in wishes))
    await holder
    return order


def test_within_a_tenant_near_deadlines_and_nearly_finished_runs_lead() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1, timeout="1h", queue=LONG)
        order = await served(
            github,
            [
                ("whenever", Ambient()),
                ("hour", Ambient(deadline=3600.0, remaining_s=10.0)),
                ("just begun", Ambient(deadline=60.0, remaining_s=20.0)),
                ("nearly done", Ambient(deadline=60.0, remaining_s=2.0)),
                ("further along", Ambient(progress=0.9)),
            ],
        )
        assert order == ["nearly done", "just begun", "further along", "whenever", "hour"]

    run_virtual(main)


def test_the_lane_comes_before_urgency() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1, queue=LONG)
        order = await served(github, [("late lane", Ambient(rank=5, deadline=50.0)), ("lane", Ambient(rank=1))])
        assert order == ["lane", "late lane"]

    run_virtual(main)


@pytest.mark.parametrize(("seconds", "share"), [((1.0, 1.0), (0.45, 0.55)), ((4.0, 1.0), (0.15, 0.25))])
def test_a_flood_does_not_starve_another_tenant(seconds: tuple[float, float], share: tuple[float, float]) -> None:
    """Seconds in use are shared, so whoever makes calls four times as long makes a quarter as many."""

    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=4, timeout="1h", queue=LONG)
        ended: list[str] = []

        async def ask(tenant: str, length: float) -> None:
            with ambient(Ambient(tenant=tenant)):
                await github.call(asyncio.sleep, length)
            ended.append(tenant)

        flood = [asyncio.create_task(ask("flood", seconds[0])) for _ in range(200)]
        await asyncio.sleep(0)
        mouse = [asyncio.create_task(ask("mouse", seconds[1])) for _ in range(200)]
        await asyncio.sleep(60)
        part = Counter(ended)["flood"] / len(ended)
        assert share[0] <= part <= share[1]
        for task in flood + mouse:
            task.cancel()
        await asyncio.gather(*flood, *mouse, return_exceptions=True)
        assert at_rest(github)

    run_virtual(main)


def test_weights_of_tenants_are_their_shares() -> None:
    async def main(clock: LoopClock) -> None:
        github = resources(
            clock,
            tenants={"gold": {"weight": 3}},
            tools={"github": {"concurrency": 1, "queue": LONG}},
        ).get("github")
        wishes = [(tenant, Ambient(tenant=tenant)) for tenant in ("gold", "tin") for _ in range(40)]
        order = await served(github, wishes)
        assert 28 <= Counter(order[:40])["gold"] <= 32

    run_virtual(main)


def test_a_full_line_makes_room_for_others_than_the_flooder() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1, timeout="1h", queue={"depth": 4, "max_age": "10h"})

        def asking(tenant: str, rank: int = 100) -> asyncio.Task[Any]:
            async def ask() -> Any:
                with ambient(Ambient(tenant=tenant, rank=rank)):
                    return await github.call(Provider(seconds=1, answer=lambda _: tenant))

            return asyncio.create_task(ask())

        flood = [asking("flood") for _ in range(6)]
        await asyncio.sleep(0)
        mouse, earlier = asking("mouse"), asking("vip", 1)
        results = await asyncio.gather(*flood, mouse, earlier, return_exceptions=True)
        assert [str(one) if isinstance(one, str) else one.reason for one in results] == [  # type: ignore[union-attr]
            "flood",
            "flood",
            "flood",
            "queue_full",
            "queue_full",
            "queue_full",
            "mouse",
            "vip",
        ]
        assert at_rest(github)

    run_virtual(main)


def test_work_that_cannot_end_in_time_is_not_started() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1, timeout="1h", queue=LONG)
        provider = Provider(seconds=4)
        for _ in range(8):
            await github.call(provider)
        now = clock.monotonic()
        with ambient(Ambient(deadline=now + 3)), pytest.raises(Overloaded) as too_late:
            await github.call(provider)
        assert (too_late.value.reason, too_late.value.retry_after_s) == ("deadline_unreachable", None)
        with ambient(Ambient(deadline=now + 20, remaining_s=30.0)), pytest.raises(Overloaded):
            await github.call(provider)
        assert clock.monotonic() == now
        assert provider.calls == 8
        holder = asyncio.create_task(github.call(provider))
        await asyncio.sleep(0)
        with ambient(Ambient(deadline=now + 6)), pytest.raises(Overloaded) as at_dispatch:
            await github.call(provider)
        assert at_dispatch.value.reason == "deadline_unreachable"
        assert clock.monotonic() == pytest.approx(now + 4, abs=0.02)  # at its turn, not at its deadline
        await holder
        with ambient(Ambient(deadline=clock.monotonic() + 4.1)):
            await github.call(provider)
        assert provider.calls == 10

    run_virtual(main)


def test_what_can_end_in_time_is_judged_by_size() -> None:
    async def main(clock: LoopClock) -> None:
        large = resources(clock, models={"large": {**QUIET_MODEL, "concurrency": 50}}).get("large")

        async def ask(tokens: int, *, left_s: float | None = None, calls: int = 1) -> list[str]:
            view, deadline = large.with_options(model_tokens=tokens), None
            if left_s is not None:
                deadline = clock.monotonic() + left_s
            with ambient(Ambient(deadline=deadline)):
                made = (view.call(asyncio.sleep, tokens / 1000, "done") for _ in range(calls))
                ends = await asyncio.gather(*made, return_exceptions=True)
            return [one.reason if isinstance(one, Overloaded) else str(one) for one in ends]

        assert set(await ask(20_000, calls=20)) == {"done"}
        assert await ask(300, left_s=1) == ["done"]  # of its size nothing is known
        assert await ask(20_000, left_s=15) == ["deadline_unreachable"]
        assert await ask(300_000, left_s=15) == ["deadline_unreachable"]  # it takes no less than smaller ones
        await ask(300, calls=20)
        assert await ask(300, left_s=0.2) == ["deadline_unreachable"]
        assert await ask(300, left_s=1) == ["done"]
        assert at_rest(large)

    run_virtual(main)


def test_few_slow_calls_refuse_little() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=50, timeout="1h")

        async def takes(*seconds: float) -> None:
            await asyncio.gather(*(github.call(asyncio.sleep, one) for one in seconds))

        await takes(1, 2, 3, 3, 4, 5, 5, 6)
        with ambient(Ambient(deadline=clock.monotonic() + 2.9)):  # less than the median, but eight are few
            await github.call(asyncio.sleep, 1)
        await takes(*(3, 4, 5) * 30)
        with ambient(Ambient(deadline=clock.monotonic() + 2.9)), pytest.raises(Overloaded):
            await github.call(asyncio.sleep, 1)

    run_virtual(main)


def test_later_lanes_make_room_in_bytes() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1, timeout="1h", queue={**LONG, "bytes": "1000B"})
        holder = asyncio.create_task(github.call(Provider(seconds=5)))
        await asyncio.sleep(0)

        async def ask(rank: int, name: str, size: int) -> str:
            with ambient(lane(rank)):
                try:
                    await github.with_options(size=size).call(Provider(seconds=1))
                except Overloaded as refused:
                    return f"{name} {refused.reason}"
            return f"{name} done"

        early = [asyncio.create_task(ask(rank, name, 300)) for rank, name in ((9, "a"), (5, "b"), (9, "c"))]
        await asyncio.sleep(1)
        late = [asyncio.create_task(ask(rank, name, 700)) for rank, name in ((0, "d"), (1, "e"), (9, "f"))]
        ends = await asyncio.gather(*early, *late)
        assert ends == ["a queue_full", "b done", "c queue_full", "d done", "e queue_full", "f queue_full"]
        await holder
        assert at_rest(github)
        assert github.turnstile._queue.bytes == 0

    run_virtual(main)


def test_the_line_is_bounded_in_bytes() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1, timeout="1h", queue={**LONG, "bytes": "10kB"})
        big = github.with_options(size=4000)
        tasks = [asyncio.create_task(big.call(Provider(seconds=1))) for _ in range(4)]
        await asyncio.sleep(0)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        refused = [one for one in results if isinstance(one, Overloaded)]
        assert [(one.reason, one.limit, one.used) for one in refused] == [("queue_full", 10_000, 8000)]
        assert github.turnstile._queue.bytes == 0

    run_virtual(main)
