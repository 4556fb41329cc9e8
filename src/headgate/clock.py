"""The only reader of real time.

Everything else receives a `Clock` (effects) or a plain `now` (policies). Two scales exist on purpose:

* ``now_ms()``: wall clock, integer milliseconds since the Unix epoch. Stored in rows, shown to people,
  compared between processes.
* ``monotonic()``: seconds as a float, never going back. Measures latency and drives waits inside a process.

On the virtual-time loop both come from the loop's own clock, so they jump together.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def now_ms(self) -> int:
        """Wall-clock time in integer milliseconds since 1970-01-01T00:00:00Z."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; only differences mean anything."""
        ...


class RealClock:
    """The computer's clocks."""

    __slots__ = ()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


REAL_CLOCK = RealClock()
