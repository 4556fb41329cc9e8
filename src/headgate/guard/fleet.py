"""A bound on the tool calls in flight over all tools together.

A tool whose call finds no room here leaves word and is told when room appears. Calls on it stay in their own line
meanwhile, so that the bound costs nobody a slot.
"""

from __future__ import annotations

import threading
from typing import Protocol


class Told(Protocol):
    """Who is told that there is room again."""

    def pump(self) -> None:
        """Start what can start now."""
        ...


class FleetSlots:
    """Counts calls in flight, at most ``limit``."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._inflight = 0
        self._blocked: dict[Told, None] = {}

    @property
    def inflight(self) -> int:
        """Calls in flight now."""
        return self._inflight

    def take(self, who: Told) -> bool:
        """Take one; when there is none, ``who`` is told later."""
        with self._lock:
            if self._inflight < self.limit:
                self._inflight += 1
                return True
            self._blocked[who] = None
            return False

    def take_anyway(self) -> None:
        """Count a call that starts whether or not there is room (shadow mode)."""
        with self._lock:
            self._inflight += 1

    def give_back(self) -> None:
        """Return one. Call `tell` afterwards, holding no lock."""
        with self._lock:
            self._inflight -= 1

    def tell(self) -> None:
        """Tell everybody who found no room, in the order in which they came."""
        while self._blocked:
            with self._lock:
                if not self._blocked or self._inflight >= self.limit:
                    return
                who = next(iter(self._blocked))
                del self._blocked[who]
            who.pump()
