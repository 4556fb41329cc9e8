"""The call itself: timeouts, deadlines, cancellation, threads, decorators, slots."""

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from headgate.errors import Expired, Overloaded, UnknownResource
from headgate.guard.ambient import Ambient, ambient, current_resource
from headgate.lab.virtual_time import LoopClock, run_virtual

from .workshop import Provider, at_rest, resources, told, tool


def test_a_timeout_ends_the_call_and_is_told_as_one() -> None:
    async def main(clock: LoopClock) -> None:
        heard: list[Any] = []
        github = tool(clock, heard=heard, timeout="2s")
        with pytest.raises(TimeoutError, match=r"resource:github: no answer within 2 s"):
            await github.call(Provider(seconds=100))
        assert 2.0 <= clock.monotonic() < 2.02
        assert [fields["outcome"] for fields in told(heard, "call_finished")] == ["timeout"]
        assert github.statistics().error_rate == 1.0
        assert at_rest(github)

    run_virtual(main)


def test_a_cancellation_from_outside_is_not_swallowed_by_a_timeout() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, timeout="2s")
        inner = asyncio.create_task(github.call(Provider(seconds=100)))
        asyncio.get_running_loop().call_at(2.0, inner.cancel)
        with pytest.raises(asyncio.CancelledError):
            await inner
        assert at_rest(github)

    run_virtual(main)


def test_a_timeout_leaves_the_task_usable() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, timeout="1s")
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await github.call(Provider(seconds=100))
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        async with asyncio.timeout(5):
            assert await github.call(Provider(seconds=0.5, answer=lambda _: "fine")) == "fine"

    run_virtual(main)


def test_a_nested_timeout_of_the_callers_own_stays_its_own() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, timeout="5s")
        with pytest.raises(TimeoutError) as raised:
            async with asyncio.timeout(1):
                await github.call(Provider(seconds=100))
        assert "github" not in str(raised.value)
        assert github.statistics().error_rate == 0.0  # stopped by us: no evidence
        assert at_rest(github)

    run_virtual(main)


def test_the_deadline_cuts_a_call_and_is_no_evidence_while_nothing_is_known() -> None:
    async def main(clock: LoopClock) -> None:
        heard: list[Any] = []
        github = tool(clock, heard=heard, timeout="60s")
        with ambient(Ambient(deadline=clock.monotonic() + 1)), pytest.raises(Expired):
            await github.call(Provider(seconds=100))
        for _ in range(10):
            await github.call(Provider(seconds=0.5))
        with ambient(Ambient(deadline=clock.monotonic() + 1)), pytest.raises(Expired):
            await github.call(Provider(seconds=100))
        outcomes = [fields["outcome"] for fields in told(heard, "call_finished")]
        assert outcomes == ["ignored", *["ok"] * 10, "timeout"]

    run_virtual(main)


def test_a_caller_may_shorten_the_timeout_but_not_lengthen_it() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, timeout="2s")
        for asked, got in ((1.0, 1.0), (50.0, 2.0)):
            before = clock.monotonic()
            with pytest.raises(TimeoutError):
                await github.with_options(timeout=asked).call(Provider(seconds=100))
            assert clock.monotonic() - before == pytest.approx(got, abs=0.02)

    run_virtual(main)


@pytest.mark.parametrize("phase", ["waiting", "granted", "running", "between tries"])
def test_cancellation_in_every_phase_leaks_nothing(phase: str) -> None:
    async def main(clock: LoopClock) -> None:
        retry = {"attempts": 3, "base": "10s"}
        github = tool(clock, concurrency=1, retry=retry, queue={"depth": 5, "max_age": "1h"})
        loop = asyncio.get_running_loop()
        if phase == "waiting":
            holder = asyncio.create_task(github.call(Provider(seconds=30)))
            await asyncio.sleep(0)
            victim = asyncio.create_task(github.call(Provider()))
            await asyncio.sleep(1)
        elif phase == "granted":
            holder = asyncio.create_task(github.call(Provider(seconds=1)))
            await asyncio.sleep(0)
            victim = asyncio.create_task(github.call(Provider()))
            holder.add_done_callback(lambda _task: victim.cancel())
            await asyncio.wait([victim])
        elif phase == "running":
            holder = loop.create_task(asyncio.sleep(0))
            victim = asyncio.create_task(github.call(Provider(seconds=30)))
            await asyncio.sleep(1)
        else:
            holder = loop.create_task(asyncio.sleep(0))
            victim = asyncio.create_task(github.call(Provider(seconds=0, answer=lambda _: OSError("broken"))))
            await asyncio.sleep(0.001)
        victim.cancel()
        with pytest.raises(asyncio.CancelledError):
            await victim
        await holder
        assert at_rest(github)
        assert await github.call(Provider(answer=lambda _: "still works")) == "still works"

    run_virtual(main)


def test_a_slot_ends_once_whatever_is_called() -> None:
    async def main(clock: LoopClock) -> None:
        heard: list[Any] = []
        github = tool(clock, heard=heard, concurrency=2)
        async with github.slot() as slot:
            assert github.statistics().inflight == 1
            slot.result({"usage": {}})
            slot.result(None)
            slot.failed(OSError("too late"))
            assert github.statistics().inflight == 0
        assert github.statistics().inflight == 0
        assert [fields["outcome"] for fields in told(heard, "call_finished")] == ["ok"]
        with pytest.raises(RuntimeError, match="only once"):
            async with slot:
                raise AssertionError("a slot is used once")

    run_virtual(main)


def test_a_slot_learns_from_how_its_block_ends() -> None:
    async def main(clock: LoopClock) -> None:
        heard: list[Any] = []
        github = tool(clock, heard=heard, timeout="3s")
        with pytest.raises(OSError, match="broken"):
            async with github.slot():
                raise OSError("broken")
        with pytest.raises(TimeoutError, match="github"):
            async with github.slot():
                await asyncio.sleep(100)
        async with github.slot() as slot:
            slot.failed(ConnectionResetError())
        with github.slot():
            await asyncio.sleep(1)
        assert [fields["outcome"] for fields in told(heard, "call_finished")] == ["failed", "timeout", "failed", "ok"]
        assert at_rest(github)

    run_virtual(main)


def test_a_decorator_keeps_async_async_and_plain_plain() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock)

        @github.guard
        async def search(text: str, *, limit: int = 3) -> list[str]:
            """Find things."""
            assert current_resource() == "github"
            return [text] * limit

        @github.guard
        def read(path: str) -> str:
            return path.upper()

        assert inspect.iscoroutinefunction(search)
        assert not inspect.iscoroutinefunction(read)
        assert (search.__name__, search.__doc__) == ("search", "Find things.")
        assert await search("a", limit=2) == ["a", "a"]
        assert read("b") == "B"
        assert current_resource() is None
        assert github.statistics().calls == 2

        @github.guard
        async def stream() -> AsyncIterator[int]:
            yield 1

        @github.guard
        def items() -> Iterator[int]:
            yield 2

        assert inspect.isasyncgenfunction(stream)
        assert inspect.isgeneratorfunction(items)
        assert [one async for one in stream()] + list(items()) == [1, 2]
        assert at_rest(github)

    run_virtual(main)


def test_functions_in_every_shape_are_carried_out() -> None:
    async def work(value: int) -> int:
        await asyncio.sleep(0)
        return value

    @functools.wraps(work)
    def decorated(value: int) -> Any:
        return work(value)

    class Worker:
        async def method(self, value: int) -> int:
            return value

        async def __call__(self, value: int) -> int:
            return value

    def plain(value: int) -> int:
        assert current_resource() == "github"
        assert threading.current_thread() is not threading.main_thread()
        return value

    async def main(clock: LoopClock) -> None:
        github = tool(clock)
        for number, fn in enumerate(
            (work, decorated, Worker().method, Worker(), functools.partial(work), plain, lambda value: work(value))
        ):
            assert await github.call(fn, number) == number  # type: ignore[call-overload]
        assert at_rest(github)

    run_virtual(main)


def test_perform_gives_the_account() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1)
        first, second = await asyncio.gather(
            github.perform(Provider(seconds=2), (), {}), github.perform(Provider(seconds=1), (), {})
        )
        assert (first.queued_s, first.ran_s, first.tries, first.degraded) == (0.0, 2.0, 1, None)
        assert (second.queued_s, second.ran_s, second.tries, second.degraded) == (2.0, 1.0, 1, None)

    run_virtual(main)


def test_names_are_looked_up_with_a_hint() -> None:
    known = resources(tools={"github": {}}, models={"large": {}}, stages={"publish": {}})
    assert [(one.name, one.kind) for one in known.all()] == [
        ("github", "tool"),
        ("large", "model"),
        ("publish", "stage"),
    ]
    assert set(known.statistics()) == {"github", "large", "publish"}
    with pytest.raises(UnknownResource, match="did you mean 'github'"):
        known.get("gihub")
    with pytest.raises(ValueError, match="unique"):
        resources(tools={"same": {}}, models={"same": {}})


def test_a_refusal_is_an_answer_a_model_can_act_on() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1)
        holder = asyncio.create_task(github.call(Provider(seconds=9)))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as refused:
            await github.with_options(max_wait=0).call(Provider())
        text = refused.value.as_tool_result()
        assert '"executed": false' in text
        assert '"scope": "resource:github"' in text
        holder.cancel()

    run_virtual(main)
