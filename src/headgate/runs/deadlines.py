"""The deadlines of everything a worker runs, behind one timer."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

from headgate.clock import Clock
from headgate.runs.attempt import Attempt

LONGEST_S = 3600.0
"""A timer is never set further ahead; wall clocks may be corrected meanwhile."""


class DeadlineWatch:
    """Tells which attempts have passed their run's deadline. Runs without a deadline cost nothing."""

    def __init__(self, clock: Clock, on_passed: Callable[[Attempt], None]) -> None:
        self._clock = clock
        self._on_passed = on_passed
        self._heap: list[tuple[int, int, Attempt]] = []
        self._numbers = count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0
        self._ended = 0

    def watch(self, attempt: Attempt) -> None:
        """Watch an attempt until it has ended. A deadline that has passed already is told at once."""
        deadline_ms = attempt.run.deadline_ms
        if deadline_ms is None:
            return
        if deadline_ms <= self._clock.now_ms():
            self._on_passed(attempt)
            return
        heapq.heappush(self._heap, (deadline_ms, next(self._numbers), attempt))
        if self._timer is None or deadline_ms < self._timer_ms:
            self._arm()

    def ended(self, attempt: Attempt) -> None:
        """An attempt has ended. Its entry goes with the others once they are the larger part."""
        if attempt.run.deadline_ms is None:
            return
        self._ended += 1
        if self._ended > 256 and 2 * self._ended > len(self._heap):
            self._heap = [entry for entry in self._heap if not entry[2].ended]
            heapq.heapify(self._heap)
            self._ended = 0

    def close(self) -> None:
        """Watch nothing any more."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._heap and self._heap[0][2].ended:
            heapq.heappop(self._heap)
        if self._heap:
            self._timer_ms = self._heap[0][0]
            wait_s = (self._timer_ms - self._clock.now_ms()) / 1000
            self._timer = asyncio.get_running_loop().call_later(min(max(wait_s, 0.001), LONGEST_S), self._look)

    def _look(self) -> None:
        self._timer = None
        now_ms = self._clock.now_ms()
        while self._heap and (self._heap[0][2].ended or self._heap[0][0] <= now_ms):
            _, _, attempt = heapq.heappop(self._heap)
            if not attempt.ended:
                self._on_passed(attempt)
        self._arm()
