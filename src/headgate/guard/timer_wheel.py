"""One coarse timer for many waits: timeouts and queue ages of every call on one event loop.

A timer handle per call costs more than the rest of the guard, and cancelled handles linger in the loop's heap until
their time has come. Here adding and removing are two dictionary operations, and the loop carries one handle, for
the next tick that has anything in it, and none at all once the wheel was found empty.

Nothing is due early; it may be up to `TICK_S` late. A wheel belongs to its loop and is used only in its thread.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import weakref
from typing import Protocol

PER_S = 128
"""Ticks per second; a power of two, so that multiples are exact in floating point."""
TICK_S = 1 / PER_S


class Due(Protocol):
    """Something that wants to know when its time has come."""

    def due(self) -> None:
        """Called once, in the loop's thread. Must not raise."""
        ...


class TimerWheel:
    """The wheel of one event loop."""

    __slots__ = ("_armed_for", "_handle", "_ticks", "_waiting", "loop_of")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop_of = weakref.ref(loop)
        """Its loop, or ``None`` when that is gone."""
        self._waiting: dict[int, dict[Due, None]] = {}
        self._ticks: list[int] = []
        """Heap of the keys of ``_waiting``."""
        self._handle: asyncio.TimerHandle | None = None
        self._armed_for = 0

    def add(self, after_s: float, item: Due) -> int:
        """Call ``item.due()`` in ``after_s`` seconds; the returned tick is needed to `remove` it."""
        loop = self.loop_of()
        if loop is None:
            raise RuntimeError("the event loop of this timer wheel is gone")
        tick = math.ceil((loop.time() + (after_s if after_s > 0 else 0.0)) * PER_S)
        items = self._waiting.get(tick)
        if items is None:
            self._waiting[tick] = {item: None}
            heapq.heappush(self._ticks, tick)
            if self._handle is None or tick < self._armed_for:
                self._arm(loop, tick)
        else:
            items[item] = None
        return tick

    def remove(self, tick: int, item: Due) -> None:
        """Forget ``item``; nothing happens when its time has come already."""
        items = self._waiting.get(tick)
        if items is not None:
            items.pop(item, None)

    def __len__(self) -> int:
        return sum(len(items) for items in self._waiting.values())

    def _arm(self, loop: asyncio.AbstractEventLoop, tick: int) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._armed_for = tick
        self._handle = loop.call_at(tick / PER_S, self._turn)

    def _turn(self) -> None:
        self._handle = None
        loop = self.loop_of()
        if loop is None:
            return
        now = math.floor(loop.time() * PER_S + 1e-6)
        now = max(now, self._armed_for)  # loops may call a timer within their clock's resolution too early
        ready: list[Due] = []
        while self._ticks and self._ticks[0] <= now:
            ready.extend(self._waiting.pop(heapq.heappop(self._ticks)))
        while self._ticks and not self._waiting[self._ticks[0]]:
            del self._waiting[heapq.heappop(self._ticks)]
        if self._ticks:
            self._arm(loop, self._ticks[0])
        for item in ready:
            item.due()


class _Wheels:
    """Every loop's wheel, and the one that was asked for last: a weak dictionary costs as much as a timer."""

    def __init__(self) -> None:
        self._all: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, TimerWheel] = weakref.WeakKeyDictionary()
        self._latest: TimerWheel | None = None

    def of(self, loop: asyncio.AbstractEventLoop) -> TimerWheel:
        latest = self._latest
        if latest is not None and latest.loop_of() is loop:
            return latest
        wheel = self._all.get(loop)
        if wheel is None:
            wheel = self._all[loop] = TimerWheel(loop)
        self._latest = wheel
        return wheel


wheel_of = _Wheels().of
"""The one wheel of a loop."""
