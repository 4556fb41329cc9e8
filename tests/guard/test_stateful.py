"""Over ten thousand random steps of everything a resource can be asked: nothing leaks, nothing goes negative."""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from headgate.config.units import Rate
from headgate.errors import Expired, Overloaded, UnusableResult
from headgate.guard.ambient import Ambient, ambient
from headgate.guard.registry import Resources
from headgate.lab.virtual_time import LoopClock, run_virtual

from .workshop import ProviderError, at_rest, resources, usage_answer

STEPS = 3000
SEEDS = 4
EXPECTED = (Overloaded, Expired, TimeoutError, asyncio.CancelledError, ProviderError, UnusableResult, OSError)


class Bench:
    """Three resources, what is asked of them, and what must hold after every step."""

    def __init__(self, clock: LoopClock, seed: int) -> None:
        self.clock = clock
        self.rng = random.Random(seed)
        self.tasks: list[asyncio.Task[Any]] = []
        self.done: Counter[str] = Counter()
        common: dict[str, Any] = {
            "timeout": "3s",
            "queue": {"depth": 10, "max_age": "4s", "max_age_down": "1s", "bytes": "20kB"},
            "retry": {"attempts": 3, "base": "300ms"},
            "breaker": {"probe_every": "500ms"},
            "stale": {"keep": 20},
        }
        self.all: Resources = resources(
            clock,
            seed=seed,
            tenants={"x": {"weight": 3}},
            budget={"tool_calls": 6, "model_tokens": "200k/min"},
            limits=[{"per": "tenant", "model_tokens": "100k/min"}],
            tools={
                "a": {**common, "concurrency": "1..8", "rate": "30/s"},
                "b": {**common, "concurrency": 3, "breaker": {"kind": "hard", "open_for": "2s"}, "fallback": "a"},
            },
            models={"m": {**common, "concurrency": 4, "model_tokens": "120k/min", "fallback": ["a", "b"]}},
        )

    async def body(self) -> Any:
        await asyncio.sleep(self.rng.choice([0, 0.05, 0.4, 20]))
        fate = self.rng.random()
        if fate < 0.6:
            return usage_answer(self.rng.randrange(1, 4000))
        raise self.rng.choice(
            [ProviderError(500), ProviderError(429, {"retry-after": "9"}), ProviderError(400), OSError("broken")]
        )

    async def call(self, name: str) -> None:
        rng = self.rng
        options: dict[str, Any] = {
            "max_wait": rng.choice([None, 0.0, 0.5]),
            "timeout": rng.choice([None, 0.2]),
            "once": rng.random() < 0.1,
            "size": rng.choice([0, 100, 9000]),
            "model_tokens": rng.choice([None, 50.0, 8000.0]),
            "stale": rng.random() < 0.3,
            "fallback": rng.choice([None, None, False]),
        }
        if rng.random() < 0.2:
            options["fallback_value"] = "static"
        whose = Ambient(
            tenant=rng.choice("xyz"),
            rank=rng.randrange(3),
            run_id=rng.choice(["", "r1", "r2"]),
            deadline=self.clock.monotonic() + rng.choice([0.3, 5, 99]) if rng.random() < 0.5 else None,
            remaining_s=rng.choice([None, 0.1, 20.0]),
            progress=rng.choice([None, 0.9]),
        )
        view = self.all.get(name).with_options(**options)
        with ambient(whose):
            if rng.random() < 0.15:
                async with view.slot():
                    await self.body()
            else:
                account = await view.perform(self.body)
                self.done[account.degraded or "plain"] += 1

    def step(self) -> None:
        rng, act = self.rng, self.rng.random()
        one = self.all.get(rng.choice("abm"))
        until = rng.choice([None, self.clock.monotonic() + 0.5])
        if act < 0.75:
            self.tasks.append(asyncio.create_task(self.call(one.name)))
        elif act < 0.87:
            if self.tasks:
                rng.choice(self.tasks[-20:]).cancel()
        elif act < 0.89:
            one.pause("test", until)
        elif act < 0.93:
            one.resume()
        elif act < 0.96:
            one.override(rng.choice([None, 1, 2.5, 20]), Rate(50, 1.0), reason="test", until=until)
        else:
            one.reset()

    def check(self) -> None:
        for one in self.all.all():
            seen, inner = one.statistics(), one.turnstile
            assert 0 <= seen.waiting <= seen.queue_limit
            assert 0 <= inner._queue.bytes <= 20_000
            assert seen.inflight >= 0
            assert 0 <= inner._retries.active <= max(1, seen.calls)
            assert 0 <= inner.evidence.retry_budget.balance(self.clock.monotonic()) <= 10
            assert seen.limit >= 1
            assert (seen.pause is None) == (inner._door.controls.paused(self.clock.monotonic()) is None)

    def check_rest(self) -> None:
        for one in self.all.all():
            inner = one.turnstile
            assert at_rest(one)
            assert (inner._retries.active, inner._queue.bytes, inner._door.reserved) == (0, 0, 0)
            assert inner._queue.everybody() == []
        fleet = self.all.get("a").turnstile._fleet
        assert fleet is not None
        assert fleet.inflight == 0


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_leaks_whatever_happens(seed: int) -> None:
    async def main(clock: LoopClock) -> None:
        bench = Bench(clock, seed)
        for _ in range(STEPS):
            bench.step()
            if bench.rng.random() < 0.6:
                await asyncio.sleep(bench.rng.choice([0, 0, 0.01, 0.1]))
            bench.check()
        for one in bench.all.all():
            one.resume()
            one.reset()
        results = await asyncio.gather(*bench.tasks, return_exceptions=True)
        assert [one for one in results if one is not None and not isinstance(one, EXPECTED)] == []
        bench.check_rest()
        assert set(bench.done) >= {"plain", "static", "resource:a"}
        await asyncio.sleep(3600)
        for one in bench.all.all():  # every bucket has come back, and everything still works
            assert await one.call(asyncio.sleep, 0, "well") == "well"
            left = one.statistics().rate_remaining
            assert left is None or left == pytest.approx(29.0)
        bench.check_rest()

    assert STEPS * SEEDS >= 10_000
    run_virtual(main)
