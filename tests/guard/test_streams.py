"""Generators hold their slot to the end of the stream, whoever ends it, and give it back once."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import pytest

from headgate.errors import Expired, Overloaded
from headgate.guard.ambient import Ambient, ambient, current_resource
from headgate.guard.resource import Resource
from headgate.lab.virtual_time import LoopClock, run_virtual

from .workshop import at_rest, tool


async def count(to: int, pause_s: float = 1.0) -> AsyncIterator[int]:
    for number in range(to):
        await asyncio.sleep(pause_s)
        assert current_resource() == "github"
        yield number


def count_plainly(to: int) -> Iterator[int]:
    for number in range(to):
        assert current_resource() == "github"
        yield number


def held(github: Resource) -> int:
    return github.turnstile.inflight


def test_a_stream_holds_its_slot_to_its_end() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1)
        seen = []
        async for number in github.guard(count)(3):
            assert current_resource() is None  # the consumer's code is not under the guard's name
            assert held(github) == 1
            with pytest.raises(Overloaded):
                await github.with_options(max_wait=0).call(asyncio.sleep, 0)
            seen.append(number)
        assert seen == [0, 1, 2]
        assert at_rest(github)
        assert github.statistics().p50_s == pytest.approx(3, rel=0.02)
        for number in github.guard(count_plainly)(2):
            assert (held(github), current_resource()) == (1, None)
            seen.append(number)
        assert seen[3:] == [0, 1]
        assert at_rest(github)

    run_virtual(main)


@pytest.mark.parametrize("how", ["closed", "broken off", "cancelled", "thrown away"])
def test_however_a_stream_is_left_its_slot_comes_back_once(how: str) -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1, queue={"depth": 5, "max_age": "1h"})
        count_guarded = github.guard(count)

        async def consume() -> None:
            if how == "broken off":
                async with aclosing(count_guarded(9)) as items:  # type: ignore[type-var]
                    async for _ in items:
                        break
            elif how == "cancelled":
                async for _ in count_guarded(9):
                    await asyncio.sleep(100)
            else:
                items = count_guarded(9)
                await anext(items)
                if how == "closed":
                    await items.aclose()  # type: ignore[attr-defined]

        task = asyncio.create_task(consume())
        waiting = asyncio.create_task(github.call(asyncio.sleep, 0, "served"))
        await asyncio.sleep(2)
        if how == "cancelled":
            assert held(github) == 1
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        gc.collect()
        assert await waiting == "served"
        assert clock.monotonic() < 3
        assert at_rest(github)
        assert github.statistics().error_rate == 0.0

    run_virtual(main)


def test_the_timeout_is_for_each_item_and_never_cuts_the_consumer() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, timeout="5s")
        async for _ in github.guard(count)(5, 3.0):  # 15 s in all, and the consumer takes its time
            await asyncio.sleep(20)
        with pytest.raises(TimeoutError):
            async for _ in github.guard(count)(5, 6.0):
                pass
        with ambient(Ambient(deadline=clock.monotonic() + 4)), pytest.raises(Expired):
            async for _ in github.guard(count)(5, 3.0):
                pass
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        assert at_rest(github)

    run_virtual(main)


def test_the_error_of_a_stream_is_evidence_and_comes_out() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock)

        @github.guard
        async def breaks() -> AsyncIterator[int]:
            yield 1
            raise ConnectionResetError

        @github.guard
        def breaks_plainly() -> Iterator[int]:
            yield 1
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            async for _ in breaks():
                pass
        with pytest.raises(ConnectionResetError):
            list(breaks_plainly())
        assert github.statistics().error_rate == 1.0
        assert at_rest(github)

    run_virtual(main)


def test_a_plain_generator_gives_its_slot_back_when_it_is_dropped() -> None:
    github = tool(concurrency=1)
    items = github.guard(count_plainly)(9)
    assert (next(items), held(github)) == (0, 1)
    del items
    assert at_rest(github)
    assert list(github.guard(count_plainly)(2)) == [0, 1]


def test_a_generator_that_is_collected_in_the_middle_of_our_own_work_does_not_lock_us_up() -> None:
    github = tool(concurrency=1)
    items = github.guard(count_plainly)(9)
    next(items)
    with github.turnstile._lock:  # the collector may run at any allocation
        items.close()  # type: ignore[attr-defined]
    assert github.call_sync(lambda: "works") == "works"
    assert at_rest(github)


def test_a_generator_that_is_not_held_is_refused() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock)
        for make in (count, count_plainly):
            with pytest.raises(TypeError, match="generator"):
                await github.call(make, 3)
            with pytest.raises(TypeError, match="generator"):
                github.call_sync(make, 3)
            with pytest.raises(TypeError, match=r"only made a generator \(count"):
                await github.call(lambda make=make: make(3))  # type: ignore[call-overload]
        assert at_rest(github)

    run_virtual(main)
