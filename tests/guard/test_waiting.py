"""The bounded queue: its depth is exact, its ages end on time, its order is by lane."""

import asyncio
from typing import Any

import pytest

from headgate.clock import Clock
from headgate.errors import Overloaded
from headgate.guard.ambient import Ambient, ambient
from headgate.lab.virtual_time import LoopClock, run_virtual

from .workshop import Provider, at_rest, lane, resources, told, tool


async def outcomes(calls: list[Any]) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


def refusals(results: list[Any]) -> list[Overloaded]:
    return [one for one in results if isinstance(one, Overloaded)]


def test_the_bound_is_exact_with_a_hundred_callers() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=3, queue={"depth": 20, "max_age": "1h"})
        provider = Provider()
        tasks = [asyncio.create_task(github.call(provider)) for _ in range(100)]
        await asyncio.sleep(0)
        seen = github.statistics()
        assert (seen.inflight, seen.waiting) == (3, 20)
        results = await outcomes(tasks)
        assert provider.calls == 23
        assert provider.peak == 3
        refused = refusals(results)
        assert len(refused) == 77
        assert {(one.reason, one.scope, one.limit, one.used) for one in refused} == {
            ("queue_full", "resource:github", 20, 20)
        }
        assert all(one.retry_after_s for one in refused)
        assert len({one.retry_after_s for one in refused}) > 50  # they are not sent back in step
        assert github.statistics().refused == {"queue_full": 77}
        assert at_rest(github)

    run_virtual(main)


class Unguarded:
    """The control: the same callers with nothing in between."""

    async def call(self, fn: Any) -> Any:
        return await fn()


def surge(make: Any) -> Provider:
    """Two hundred callers at once on a dependency that is meant for eight."""
    provider = Provider()

    async def main(clock: Clock) -> None:
        guarded = make(clock)
        await outcomes([guarded.call(provider) for _ in range(200)])

    run_virtual(main)
    return provider


def protected(provider: Provider) -> bool:
    return provider.peak <= 8 and provider.calls <= 8 + 40


def test_a_surge_reaches_the_dependency_only_within_its_limit() -> None:
    assert protected(surge(lambda clock: tool(clock, concurrency=8, queue={"depth": 40, "max_age": "1h"})))


def test_the_control_without_limits_fails_the_same_check() -> None:
    assert not protected(surge(lambda _clock: Unguarded()))


def test_ages_end_by_timer_and_not_when_somebody_comes_by() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1, timeout="1h", queue={"depth": 10, "max_age": "3s"})
        holder = asyncio.create_task(github.call(Provider(seconds=60)))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as refused:
            await github.call(Provider())
        assert refused.value.reason == "wait_expired"
        assert 3.0 <= clock.monotonic() < 3.02
        assert refused.value.retry_after_s is not None
        assert refused.value.retry_after_s > 0
        holder.cancel()

    run_virtual(main)


def test_a_caller_can_only_shorten_its_wait() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1, timeout="1h", queue={"depth": 10, "max_age": "3s"})
        holder = asyncio.create_task(github.call(Provider(seconds=60)))
        await asyncio.sleep(0)
        for max_wait, least, reason in ((0, 0, "concurrency"), (1, 1, "wait_expired"), (99, 3, "wait_expired")):
            before = clock.monotonic()
            with pytest.raises(Overloaded) as refused:
                await github.with_options(max_wait=max_wait).call(Provider())
            assert refused.value.reason == reason
            assert least <= clock.monotonic() - before < least + 0.02
        holder.cancel()

    run_virtual(main)


def test_lanes_go_in_order_and_come_first_served_within_one() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1)
        order: list[str] = []

        async def work(name: str) -> None:
            order.append(name)
            await asyncio.sleep(1)

        async def ask(name: str, rank: int) -> None:
            with ambient(lane(rank)):
                await github.call(work, name)

        await asyncio.gather(*(ask(*one) for one in (("a", 9), ("b", 9), ("c", 1), ("d", 5), ("e", 1), ("f", 9))))
        assert order == ["a", "c", "e", "d", "b", "f"]

    run_virtual(main)


def test_a_deadline_that_comes_before_a_slot_ends_the_wait() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1, timeout="1h")
        provider = Provider()
        holder = asyncio.create_task(github.call(Provider(seconds=20)))
        await asyncio.sleep(0)
        with ambient(Ambient(deadline=clock.monotonic() + 2)), pytest.raises(Overloaded) as refused:
            await github.call(provider)
        assert 2.0 <= clock.monotonic() < 2.02
        assert refused.value.reason == "deadline_unreachable"
        assert refused.value.retry_after_s is None
        assert provider.calls == 0
        with ambient(Ambient(deadline=clock.monotonic() - 1)), pytest.raises(Overloaded):
            await github.call(provider)
        assert provider.calls == 0
        holder.cancel()

    run_virtual(main)


def test_a_rate_paces_those_in_line_and_refuses_who_cannot_wait() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=10, rate="2/s", queue={"depth": 100, "max_age": "3.2s"})
        provider = Provider(seconds=0)
        results = await outcomes([github.call(provider) for _ in range(20)])
        refused = refusals(results)
        assert {one.reason for one in refused} == {"rate_limited"}
        assert len(results) - len(refused) == 2 + 6  # two at once, then two a second for three seconds
        assert all(one.retry_after_s is not None and one.retry_after_s >= 3 for one in refused)
        for start, moment in enumerate(sorted(provider.started_at)):
            assert start + 1 <= 2 + 2 * moment + 1e-6
        assert at_rest(github)

    run_virtual(main)


def test_the_fleet_bounds_tool_calls_over_all_tools() -> None:
    async def main(clock: LoopClock) -> None:
        both = resources(clock, budget={"tool_calls": 3}, tools={"a": {"concurrency": 8}, "b": {"concurrency": 8}})
        provider = Provider()
        await asyncio.gather(*(both.get(name).call(provider) for name in "aabbabab"))
        assert provider.calls == 8
        assert provider.peak == 3
        assert clock.monotonic() == pytest.approx(3.0, abs=0.05)
        assert at_rest(both.get("a"))
        assert at_rest(both.get("b"))

    run_virtual(main)


def test_room_in_the_fleet_reaches_another_tools_line() -> None:
    async def main(clock: LoopClock) -> None:
        both = resources(clock, budget={"tool_calls": 1}, tools={"a": {}, "b": {}})
        waiting = Provider()
        await asyncio.gather(both.get("a").call(Provider(seconds=3)), both.get("b").call(waiting))
        assert waiting.started_at == [3.0]

    run_virtual(main)


def test_pressure_rises_from_idle_to_full() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=2, timeout="1h", queue={"depth": 4, "max_age": "100s"})
        seen = [github.statistics().pressure]
        tasks = []
        for _ in range(6):
            tasks.append(asyncio.create_task(github.call(Provider(seconds=1000))))
            await asyncio.sleep(0)
            seen.append(github.statistics().pressure)
        assert seen == [0.0, 0.25, 0.5, 0.625, 0.75, 0.875, 1.0]
        await asyncio.sleep(10)
        assert github.statistics().oldest_wait_s == pytest.approx(10)
        for task in tasks:
            task.cancel()
        await outcomes(tasks)
        assert github.statistics().pressure == 0.0

    run_virtual(main)


def test_shadow_mode_counts_and_lets_everything_through() -> None:
    async def main(clock: LoopClock) -> None:
        heard: list[Any] = []
        github = tool(clock, heard=heard, concurrency=2, queue={"depth": 3, "max_age": "1h"}, mode="shadow")
        provider = Provider()
        results = await outcomes([github.call(provider) for _ in range(10)])
        assert refusals(results) == []
        assert provider.peak == 10
        seen = github.statistics()
        assert (seen.refused, seen.would_refuse) == ({}, {"queue_full": 5})
        assert [fields["shadow"] for fields in told(heard, "call_refused")] == [True] * 5
        assert at_rest(github)

    run_virtual(main)


def test_a_refusal_carries_what_an_operator_wants_to_read() -> None:
    async def main(clock: LoopClock) -> None:
        heard: list[Any] = []
        github = tool(clock, heard=heard, concurrency=1, queue={"depth": 1, "max_age": "9s"})
        whose = Ambient(tenant="acme", lane="interactive", workflow="triage", run_id="r1")
        with ambient(whose):
            await outcomes([github.call(Provider()) for _ in range(3)])
        (fields,) = told(heard, "call_refused")
        assert {name: fields[name] for name in ("resource", "reason", "tenant", "lane", "workflow", "run_id")} == {
            "resource": "github",
            "reason": "queue_full",
            "tenant": "acme",
            "lane": "interactive",
            "workflow": "triage",
            "run_id": "r1",
        }
        assert (fields["queue_depth"], fields["queue_limit"], fields["inflight"], fields["limit"]) == (1, 1, 1, 1)
        assert fields["retry_after_ms"] > 0
        assert [fields["queued_ms"] for fields in told(heard, "call_started")] == [0, 1000]
        assert [fields["outcome"] for fields in told(heard, "call_finished")] == ["ok", "ok"]

    run_virtual(main)
