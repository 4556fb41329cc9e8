"""How long calls of an attempt have really been carried out: what a run costs the fleet.

Counted from when a function is entered to when it is left, for each call and each try; waiting in line is not in it.
Functions may run in threads.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from threading import Lock

from headgate.clock import Clock


class ResourceTime:
    """Seconds in calls, those in parallel added up. Calls under way count up to now."""

    __slots__ = ("_balance_s", "_clock", "_lock", "_open", "called")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = Lock()
        self._open = 0
        self._balance_s = 0.0
        """Moments at which calls ended less those at which calls began."""
        self.called = False

    @property
    def total_s(self) -> float:
        """So far."""
        with self._lock:
            return self._balance_s + self._open * self._clock.monotonic()

    def inside(self) -> AbstractContextManager[None]:
        """Count the time inside."""
        return _Inside(self)

    def begin(self) -> None:
        """A call is entered."""
        with self._lock:
            self.called = True
            self._open += 1
            self._balance_s -= self._clock.monotonic()

    def end(self) -> None:
        """A call is left."""
        with self._lock:
            self._open -= 1
            self._balance_s += self._clock.monotonic()


class _Inside:
    __slots__ = ("_time",)

    def __init__(self, time: ResourceTime) -> None:
        self._time = time

    def __enter__(self) -> None:
        self._time.begin()

    def __exit__(self, *_: object) -> None:
        self._time.end()
