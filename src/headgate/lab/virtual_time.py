"""An asyncio event loop whose clock jumps.

When nothing is ready to run, time moves at once to the next timer. Ordinary code (sleeps, timeouts, timers)
runs unchanged, an hour takes as long as its work takes to compute, and a run is repeated exactly by its seed.

Rules: work handed to threads (`loop.run_in_executor`, `asyncio.to_thread`) stops the clock until it has ended.
Sockets work but their traffic takes no virtual time. When nothing is ready, no timer is set and no thread is
at work, nothing can ever happen again: that is reported as `StandstillError` instead of hanging.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from headgate.errors import HeadgateError

T = TypeVar("T")

EPOCH_MS = 1_700_000_000_000
"""Where virtual wall clocks start: a fixed moment, so that runs are repeatable."""


class StandstillError(HeadgateError, RuntimeError):
    """Everything waits for something that nobody will do."""


TURNS_UNSEEN = 16
"""While something is ready to run, sockets are looked at in one turn of so many: they rarely have anything."""


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of blocking for ``timeout``, moves the clock by it."""

    jump: Callable[[float | None], bool]
    _unseen = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout == 0 and self._unseen < TURNS_UNSEEN:
            self._unseen += 1
            return []
        self._unseen = 0
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.jump(timeout):
            return []
        return super().select(None)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """The loop. ``loop.time()`` starts at 0 and only moves when nothing is ready."""

    def __init__(self) -> None:
        self._now = 0.0
        self._threads_at_work = 0
        selector = _JumpingSelector()
        selector.jump = self._jump
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def _jump(self, timeout: float | None) -> bool:
        if self._threads_at_work:
            return False
        if timeout is None:
            raise StandstillError(
                f"virtual time stands still at {self._now:.3f} s: nothing is ready, no timer is set"
            )
        self._now += timeout
        return True

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future = super().run_in_executor(executor, func, *args)
        self._threads_at_work += 1
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        self._threads_at_work += 1  # its own helper thread wakes the loop
        try:
            await super().shutdown_default_executor()
        finally:
            self._threads_at_work -= 1

    def _thread_done(self, _future: asyncio.Future[Any]) -> None:
        self._threads_at_work -= 1


class LoopClock:
    """A `headgate.clock.Clock` that reads a virtual loop."""

    __slots__ = ("_epoch_ms", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, epoch_ms: int = EPOCH_MS) -> None:
        self._loop = loop
        self._epoch_ms = epoch_ms

    def now_ms(self) -> int:
        return self._epoch_ms + int(self._loop.time() * 1000 + 1e-6)

    def monotonic(self) -> float:
        return self._loop.time()


def run_virtual(main: Callable[[LoopClock], Coroutine[Any, Any, T]]) -> T:
    """Run ``main(clock)`` to its end on a fresh virtual-time loop.

    Raises:
        StandstillError: everything waits for something that nobody will do.
    """
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(_enter(main))


async def _enter(main: Callable[[LoopClock], Coroutine[Any, Any, T]]) -> T:
    return await main(LoopClock(asyncio.get_running_loop()))
