"""Keeping the leases of everything a worker holds, with one heartbeat for all.

Every third of a lease (counted from sending, not from the answer) the worker says which (run, term) pairs it
believes it holds. The answer extends those that are still its own; what is missing in it was lost; what somebody
wants ended is named. An attempt relies on its lease only for the lease's length less a margin, counted from
*sending* the last answered heartbeat: by then a stale owner must have stopped acting, because another may begin.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from random import Random

from headgate.clock import Clock
from headgate.observe.bus import EventBus
from headgate.runs.attempt import Attempt, Stop
from headgate.store.protocols import Claims, Extension

log = logging.getLogger("headgate.runs")

MARGIN_S = 3.0
"""How long before its end a lease is no longer relied on (at most a fifth of the lease)."""


def trusted_s(lease_s: float) -> float:
    """For how long after sending a heartbeat the lease may be relied on."""
    return lease_s - min(MARGIN_S, lease_s / 5)


class LeaseKeeper:
    """Holds attempts by (run, term) and extends their leases."""

    def __init__(
        self,
        claims: Claims,
        owner: str,
        *,
        lease_s: float,
        clock: Clock,
        rng: Random,
        bus: EventBus,
        on_stop: Callable[[Attempt, Stop], None],
    ) -> None:
        """``on_stop`` is told which attempts must end, and why (`Stop.LOST` or `Stop.CANCEL`)."""
        self.held: dict[tuple[str, int], Attempt] = {}
        self._claims = claims
        self._owner = owner
        self._lease_s = lease_s
        self._clock = clock
        self._rng = rng
        self._bus = bus
        self._on_stop = on_stop
        self._heard_at = clock.monotonic()
        self._soon = asyncio.Event()

    @property
    def age_s(self) -> float:
        """Seconds since the last answered heartbeat was sent; 0 while nothing is held."""
        return self._clock.monotonic() - self._heard_at if self.held else 0.0

    def hurry(self) -> None:
        """Send the next heartbeat now (somebody asked for a run's end)."""
        self._soon.set()

    async def keep(self) -> None:
        """Send heartbeats until cancelled."""
        wait_s = self._lease_s / 3
        while True:
            with contextlib.suppress(TimeoutError):  # the ordinary case: nobody hurried
                async with asyncio.timeout(wait_s):
                    await self._soon.wait()
            self._soon.clear()
            sent = self._clock.monotonic()
            if await self.beat():  # a late answer makes the next one due at once: it extended from when it was sent
                wait_s = max(0.0, self._lease_s / 3 - (self._clock.monotonic() - sent))
            else:
                wait_s = self._lease_s / 15 * self._rng.uniform(0.8, 1.2)

    async def beat(self) -> bool:
        """One heartbeat. False if the store could not be asked."""
        sent = self._clock.monotonic()
        asked = dict(self.held)
        if not asked:
            self._heard_at = sent
            return True
        now_ms = self._clock.now_ms()
        costs = self._overruns(asked)
        try:
            answer = await self._claims.extend(
                self._owner,
                list(asked),
                now_ms=now_ms,
                lease_until_ms=now_ms + round(1000 * self._lease_s),
                costs={attempt.run.id: cost for attempt, cost in costs.items()},
            )
        except Exception as error:  # noqa: BLE001  whatever it is, the next heartbeat must come
            log.warning("heartbeat: %s", error)
            self._bus.emit("store_failed", operation="extend", reason=f"{type(error).__name__}: {error}")
            return False
        self._heard_at = sent
        for attempt, cost in costs.items():
            attempt.charged = cost
        self._hear(asked, answer, sent)
        return True

    def _overruns(self, asked: dict[tuple[str, int], Attempt]) -> dict[Attempt, float]:
        """What attempts have cost that cost more than was charged for them."""
        costs = {attempt: attempt.cost for attempt in asked.values() if not attempt.ended}
        return {attempt: cost for attempt, cost in costs.items() if cost > attempt.charged}

    def _hear(self, asked: dict[tuple[str, int], Attempt], answer: Extension, sent: float) -> None:
        for key, attempt in asked.items():
            if attempt.ended:
                continue  # its end is on the way to the store, where the fence decides
            if key not in answer.held:
                self._on_stop(attempt, Stop.LOST)
            else:
                attempt.confirm(sent)
                if attempt.run.id in answer.cancel:
                    self._on_stop(attempt, Stop.CANCEL)
