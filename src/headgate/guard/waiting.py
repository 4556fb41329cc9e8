"""How a caller waits for its slot: a future on an event loop, or an event in a plain thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from headgate.clock import Clock
from headgate.guard.slot import Slot, SlotState
from headgate.guard.timer_wheel import TimerWheel, wheel_of
from headgate.guard.turnstile import Turnstile


class LoopWaiter:
    """Reaches a coroutine that waits on an event loop, from any thread."""

    __slots__ = ("_clock", "_loop", "_slot", "_tick", "_turnstile", "_wheel", "future")

    def __init__(self, slot: Slot, turnstile: Turnstile, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self._slot = slot
        self._turnstile = turnstile
        self._clock = clock
        self._loop = loop
        self._wheel: TimerWheel = wheel_of(loop)
        self._tick: int | None = None
        self.future: asyncio.Future[None] = loop.create_future()

    def wake(self) -> bool:
        return self._on_loop(self._done)

    def nudge(self) -> bool:
        return self._on_loop(self.arm)

    def arm(self) -> None:
        """Set the timer for the slot's next moment."""
        self.disarm()
        slot = self._slot
        if slot.state is SlotState.WAITING:
            moment = slot.wait_until if slot.nudge_at is None else min(slot.wait_until, slot.nudge_at)
            self._tick = self._wheel.add(moment - self._clock.monotonic(), self)

    def disarm(self) -> None:
        """Forget the timer."""
        if self._tick is not None:
            self._wheel.remove(self._tick, self)
            self._tick = None

    def due(self) -> None:
        self._tick = None
        self._turnstile.tick(self._slot)
        if not self.future.done():
            self.arm()

    def _done(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

    def _on_loop(self, act: Callable[[], None]) -> bool:
        if running_loop() is self._loop:
            act()
            return True
        try:
            self._loop.call_soon_threadsafe(act)
        except RuntimeError:  # the loop is closed, and with it whoever waited there
            return False
        return True


async def wait_on_loop(slot: Slot, turnstile: Turnstile, clock: Clock) -> None:
    """Stand in line until the slot is held.

    Raises:
        Overloaded: refused, at the door or when its age was over.
        asyncio.CancelledError: the caller was cancelled; nothing is held.
    """
    waiter = LoopWaiter(slot, turnstile, clock, asyncio.get_running_loop())
    slot.waker = waiter
    try:
        turnstile.line_up(slot, clock.monotonic())
        if slot.state is SlotState.WAITING:
            waiter.arm()
            await waiter.future
    except BaseException:
        turnstile.withdraw(slot)
        raise
    finally:
        waiter.disarm()
        slot.waker = None
    if slot.refusal is not None:
        raise slot.refusal


class ThreadWaiter:
    """Reaches a plain thread."""

    __slots__ = ("event",)

    def __init__(self) -> None:
        self.event = threading.Event()

    def wake(self) -> bool:
        self.event.set()
        return True

    def nudge(self) -> bool:
        self.event.set()
        return True


def wait_in_thread(slot: Slot, turnstile: Turnstile, clock: Clock) -> None:
    """As `wait_on_loop`, blocking the calling thread."""
    waiter = ThreadWaiter()
    slot.waker = waiter
    try:
        turnstile.line_up(slot, clock.monotonic())
        while slot.state is SlotState.WAITING:
            now = clock.monotonic()
            moment = slot.wait_until if slot.nudge_at is None else min(slot.wait_until, slot.nudge_at)
            if now >= moment:
                turnstile.tick(slot)
                continue
            waiter.event.wait(moment - now)
            waiter.event.clear()
    except BaseException:
        turnstile.withdraw(slot)
        raise
    if slot.refusal is not None:
        raise slot.refusal


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that the calling thread runs now, if it runs one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
