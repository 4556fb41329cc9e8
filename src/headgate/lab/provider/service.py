"""The physics on an event loop, without sockets: real time for the HTTP process, virtual time for the lab."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from headgate.clock import Clock
from headgate.lab.provider.physics import Answer, Call, ModelSpec, Pool
from headgate.lab.weather import Spell


@dataclass(slots=True)
class Pending:
    """A call at work."""

    pool: Pool
    number: int
    answer: asyncio.Future[Answer]


class UnknownModel(LookupError):
    """The provider has no model of that name."""


class Provider:
    """Simulated models that share one clock and one seed.

    Spells are told in seconds after the provider began, or after the last `schedule`.
    """

    def __init__(
        self, models: Sequence[ModelSpec], *, clock: Clock, rng: random.Random, spells: Sequence[Spell] = ()
    ) -> None:
        self._clock = clock
        self._born = clock.monotonic()
        self._schedule_s = 0.0
        self.pools = {spec.name: Pool(spec, rng=random.Random(rng.getrandbits(64)), spells=spells) for spec in models}
        self._pending: dict[tuple[str, int], Pending] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def now(self) -> float:
        """Seconds since the provider began."""
        return self._clock.monotonic() - self._born

    def schedule(self, spells: Sequence[Spell]) -> None:
        """Replace the spells; their times count from now."""
        now = self._schedule_s = self.now()
        for pool in self.pools.values():
            pool.advance(now)
            pool.spells = tuple(replace(s, start_s=s.start_s + now, end_s=s.end_s + now) for s in spells)
            self._attend(pool)

    async def complete(self, call: Call) -> Answer:
        """Carry out one call and answer. Cancelling it frees its place.

        Raises:
            UnknownModel: there is no such model.
        """
        begun = self.begin(call)
        if isinstance(begun, Answer):
            return begun
        try:
            return await begun.answer
        finally:
            self.leave(begun)

    def begin(self, call: Call) -> Pending | Answer:
        """Start a call, or refuse it at once. Whoever begins must `leave` in the end.

        Raises:
            UnknownModel: there is no such model.
        """
        pool = self.pools.get(call.model)
        if pool is None:
            raise UnknownModel(f"there is no model {call.model!r}; there are {', '.join(self.pools)}")
        offered = pool.offer(call, self.now())
        if isinstance(offered, Answer):
            self._attend(pool)
            return offered
        pending = Pending(pool, offered, asyncio.get_running_loop().create_future())
        self._pending[pool.spec.name, offered] = pending
        self._attend(pool)
        return pending

    def leave(self, pending: Pending) -> None:
        """The caller is done with a call, answered or not."""
        if self._pending.pop((pending.pool.spec.name, pending.number), None) is not None:
            pending.pool.withdraw(pending.number, self.now())
            self._attend(pending.pool)

    def progress(self, pending: Pending) -> float:
        """How much of a call is done, 0..1."""
        share = pending.pool.progress(pending.number, self.now())
        self._attend(pending.pool)
        return share

    def statistics(self) -> dict[str, Any]:
        """What was received and how it was answered, per model and in all; plain JSON."""
        now = self.now()
        models: dict[str, Any] = {}
        for name, pool in self.pools.items():
            pool.advance(now)
            self._attend(pool)
            counts, weather = pool.counts, pool.weather(now)
            models[name] = {
                "received": counts.received,
                "by_status": {str(status): n for status, n in sorted(counts.by_status.items())},
                "inflight": pool.inflight,
                "waiting": pool.waiting,
                "peak": counts.peak,
                "input_tokens": counts.input_tokens,
                "output_tokens": counts.output_tokens,
                "weather": {"capacity": weather.capacity, "slow": weather.slow, "errors": weather.errors},
            }
        return {
            "now_s": now,
            "schedule_s": now - self._schedule_s,
            "received": sum(model["received"] for model in models.values()),
            "ok": sum(model["by_status"].get("200", 0) for model in models.values()),
            "models": models,
        }

    def _attend(self, pool: Pool) -> None:
        """Answer what has ended and set the timer for what ends next."""
        name, now = pool.spec.name, self.now()
        for number, answer in pool.collect(now):
            pending = self._pending.pop((name, number), None)
            if pending is not None and not pending.answer.done():
                pending.answer.set_result(answer)
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        due = pool.next_event()
        if due is not None:
            wait_s = max(due - now, 1e-6)
            self._timers[name] = asyncio.get_running_loop().call_later(wait_s, self._attend, pool)
