"""Plain threads, several event loops, and both at once on one resource. No sleeping: events only."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from headgate.errors import Overloaded

from .workshop import at_rest, tool

PATIENCE_S = 20.0
"""How long a test waits for what must happen at once, before it says that it did not."""


class Gauge:
    """Counts who is inside, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.inside = self.peak = self.total = 0

    def __call__(self) -> int:
        with self._lock:
            self.inside += 1
            self.total += 1
            self.peak = max(self.peak, self.inside)
        for _ in range(200):
            pass
        with self._lock:
            self.inside -= 1
            return self.total

    async def awaited(self) -> None:
        with self._lock:
            self.inside += 1
            self.total += 1
            self.peak = max(self.peak, self.inside)
        for _ in range(3):
            await asyncio.sleep(0)
        with self._lock:
            self.inside -= 1


def wait_until(true: Callable[[], bool]) -> None:
    """Look every millisecond until something is so."""
    stop = threading.Event()
    for _ in range(int(PATIENCE_S * 1000)):
        if true():
            return
        stop.wait(0.001)
    raise AssertionError("it never happened")


async def soon(true: Callable[[], bool]) -> None:
    """Let the loop and the threads get on until something is so."""
    await asyncio.get_running_loop().run_in_executor(None, wait_until, true)


def in_threads(*works: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result(PATIENCE_S) for future in [pool.submit(work) for work in works]]


def test_plain_threads_share_the_limit_without_any_event_loop() -> None:
    github, gauge = tool(concurrency=3, queue={"depth": 100, "max_age": "60s"}), Gauge()

    def caller() -> None:
        for _ in range(50):
            github.call_sync(gauge)

    in_threads(*[caller] * 12)
    assert gauge.total == 600
    assert gauge.peak <= 3
    assert at_rest(github)


def test_loops_and_threads_share_one_resource() -> None:
    github, gauge = tool(concurrency=4, queue={"depth": 500, "max_age": "60s"}), Gauge()

    def loop() -> None:
        async def main() -> None:
            await asyncio.gather(*(github.call(gauge.awaited) for _ in range(60)))

        asyncio.run(main())

    def thread() -> None:
        for _ in range(60):
            with github.slot():
                gauge()

    in_threads(loop, thread, loop, thread, loop)
    assert gauge.total == 300
    assert gauge.peak <= 4
    assert github.statistics().calls == 300
    assert at_rest(github)


def test_a_waiting_thread_is_woken_by_a_loop_and_a_loop_by_a_thread() -> None:
    github = tool(concurrency=1, queue={"depth": 5, "max_age": "60s"})
    held, let_go = threading.Event(), threading.Event()

    def holder() -> None:
        with github.slot():
            held.set()
            assert let_go.wait(PATIENCE_S)

    thread = threading.Thread(target=holder)
    thread.start()
    assert held.wait(PATIENCE_S)

    async def main() -> list[str]:
        inner = asyncio.create_task(github.call(work))
        await soon(lambda: github.statistics().waiting == 1)
        waiting = asyncio.get_running_loop().run_in_executor(None, github.call_sync, lambda: "thread")
        await soon(lambda: github.statistics().waiting == 2)
        let_go.set()
        return [await inner, await waiting]

    async def work() -> str:
        await asyncio.sleep(0)
        return "loop"

    assert asyncio.run(main()) == ["loop", "thread"]
    thread.join(PATIENCE_S)
    assert at_rest(github)


def test_a_thread_waits_no_longer_than_the_queue_allows() -> None:
    github = tool(concurrency=1, queue={"depth": 5, "max_age": "30ms"})
    with github.slot(), ThreadPoolExecutor(1) as pool, pytest.raises(Overloaded) as refused:
        pool.submit(github.call_sync, lambda: None).result(PATIENCE_S)
    assert refused.value.reason == "wait_expired"
    assert at_rest(github)


def test_a_plain_caller_never_blocks_an_event_loop() -> None:
    github = tool(concurrency=1, queue={"depth": 5, "max_age": "60s"})

    async def main() -> None:
        assert github.call_sync(lambda: "free") == "free"
        async with github.slot():
            with pytest.raises(Overloaded) as refused:
                github.call_sync(lambda: "would wait for ever")
            assert refused.value.reason == "concurrency"

    asyncio.run(main())
    assert at_rest(github)


def test_a_plain_function_that_overruns_keeps_its_slot_until_its_thread_is_back() -> None:
    github = tool(concurrency=1, timeout="20ms")
    go_on = threading.Event()

    def stuck() -> str:
        assert go_on.wait(PATIENCE_S)
        return "too late"

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await github.call(stuck)
        assert github.statistics().inflight == 1
        assert github.statistics().error_rate == 1.0
        with pytest.raises(Overloaded):
            await github.with_options(max_wait=0).call(stuck)
        go_on.set()
        await soon(lambda: github.statistics().inflight == 0)
        assert await github.call(lambda: "again") == "again"

    asyncio.run(main())
    assert at_rest(github)


def test_a_thread_that_returns_after_its_loop_is_closed_still_gives_its_slot_back() -> None:
    github = tool(concurrency=1, timeout="20ms")
    go_on = threading.Event()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await github.call(go_on.wait, PATIENCE_S)

    asyncio.run(main())
    assert github.statistics().inflight == 1
    go_on.set()
    wait_until(lambda: at_rest(github))
    assert github.call_sync(lambda: "free") == "free"


def test_who_waited_on_a_loop_that_was_closed_blocks_nobody() -> None:
    github = tool(concurrency=1, queue={"depth": 5, "max_age": "60s"})

    async def wait_for_ever() -> None:
        asyncio.get_running_loop().create_task(github.call(asyncio.sleep, 0)).add_done_callback(lambda _: None)
        await asyncio.sleep(0)
        assert github.statistics().waiting == 1

    with github.slot():
        loop = asyncio.new_event_loop()
        loop.run_until_complete(wait_for_ever())
        (forgotten,) = asyncio.all_tasks(loop)
        loop.close()
    assert at_rest(github)
    assert github.call_sync(lambda: "free") == "free"
    forgotten.get_coro().close()  # no loop will ever end it
    forgotten._log_destroy_pending = False  # type: ignore[attr-defined]  # the leak is what this test is about
    assert at_rest(github)


def test_a_function_that_raises_stop_iteration_does_not_hang_its_caller() -> None:
    github = tool()

    async def main() -> None:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await github.call(next, iter(()))

    asyncio.run(main())
    assert at_rest(github)


def test_a_failing_plain_function_is_repeated_in_its_thread() -> None:
    github = tool(retry={"attempts": 3, "base": "1ms"})
    calls = []

    def flaky() -> str:
        calls.append(threading.get_ident())
        if len(calls) < 3:
            raise ConnectionResetError
        return "done"

    assert github.call_sync(flaky) == "done"
    assert calls == [threading.get_ident()] * 3
    assert github.statistics().retries == 2
    assert at_rest(github)


def test_a_plain_call_that_overran_returns_its_value_and_counts_as_a_timeout() -> None:
    github = tool(timeout="1ms")
    pause = threading.Event()
    assert github.call_sync(lambda: pause.wait(0.01) or "slow") == "slow"
    assert github.statistics().error_rate == 1.0
