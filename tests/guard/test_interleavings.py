"""Random interleavings of everything that can happen to calls: nothing leaks, nothing goes negative."""

import asyncio
import random
from typing import Any

import pytest

from headgate.errors import Expired, Overloaded, UnusableResult
from headgate.guard.ambient import Ambient, ambient
from headgate.guard.registry import Resources
from headgate.lab.virtual_time import LoopClock, run_virtual

from .workshop import ProviderError, at_rest, resources, usage_answer

CALLS = 1200
EXPECTED = (
    Overloaded,
    Expired,
    TimeoutError,
    asyncio.CancelledError,
    ProviderError,
    UnusableResult,
    ConnectionError,
    ValueError,
)


def plant(clock: LoopClock, seed: int) -> Resources:
    common: dict[str, Any] = {
        "timeout": "4s",
        "queue": {"depth": 12, "max_age": "5s"},
        "retry": {"attempts": 3, "base": "500ms"},
        "breaker": {"consecutive": 4, "open_for": "2s", "minimum_calls": 8},
    }
    return resources(
        clock,
        seed=seed,
        budget={"model_tokens": "120k/min", "tool_calls": 5},
        limits=[
            {"per": "tenant", "model_tokens": "60k/min"},
            {"per": "user", "model_tokens": "30k/min", "mode": "shadow"},
        ],
        tools={"a": {**common, "concurrency": "1..8", "rate": "20/s"}, "b": {**common, "concurrency": 3}},
        models={
            "large": {**common, "concurrency": "1..6", "model_tokens": "90k/min", "fallback": "small"},
            "small": {**common, "concurrency": 4, "mode": "shadow"},
        },
        stages={"publish": {**common, "concurrency": 2}},
    )


async def dependency(rng: random.Random) -> Any:
    await asyncio.sleep(rng.choice([0, 0, 0.1, 0.5, 2, 30]))
    fate = rng.random()
    if fate < 0.5:
        return usage_answer(rng.randrange(1, 5000))
    if fate < 0.6:
        return None
    raise rng.choice(
        [
            ProviderError(429, {"retry-after": str(rng.randrange(3))}),
            ProviderError(500),
            ProviderError(503),
            ProviderError(400),
            ConnectionRefusedError(),
            ValueError("malformed"),
        ]
    )


async def one_call(all_of_them: Resources, clock: LoopClock, rng: random.Random) -> None:
    name = rng.choice(["a", "a", "b", "large", "large", "small", "publish"])
    guarded = all_of_them.get(name).with_options(
        max_wait=rng.choice([None, 0.0, 0.3]),
        timeout=rng.choice([None, 0.2]),
        once=rng.random() < 0.2,
        model_tokens=rng.choice([None, 100.0, 5000.0, 200_000.0]),
        healthy=rng.choice([None, bool]),
    )
    deadline = clock.monotonic() + rng.choice([0.05, 1, 100]) if rng.random() < 0.4 else None
    whose = Ambient(tenant=rng.choice("xyz"), user=rng.choice([None, "u"]), rank=rng.randrange(3), deadline=deadline)
    with ambient(whose):
        if rng.random() < 0.2:
            async with guarded.slot() as slot:
                await asyncio.sleep(rng.choice([0, 0.5, 30]))
                if rng.random() < 0.5:
                    slot.result(None)
                if rng.random() < 0.3:
                    slot.failed(OSError())
        elif rng.random() < 0.1:
            guarded.call_sync(lambda: None)
        else:
            await guarded.call(dependency, rng)


def check(all_of_them: Resources) -> None:
    for resource in all_of_them.all():
        now = resource.statistics()
        assert 0 <= now.waiting <= now.queue_limit
        assert now.inflight >= 0
        assert now.least <= now.limit <= now.most or now.breaker != "closed" or now.limit >= 1
        assert 0 <= now.pressure <= 1
        assert 0 <= resource.turnstile.evidence.retry_budget.balance(1e9) <= 10


@pytest.mark.parametrize("seed", range(6))
def test_everything_returns_to_zero(seed: int) -> None:
    async def main(clock: LoopClock) -> None:
        rng = random.Random(seed)
        all_of_them = plant(clock, seed)
        tasks: list[asyncio.Task[None]] = []
        for _ in range(CALLS):
            tasks.append(asyncio.create_task(one_call(all_of_them, clock, rng)))
            if rng.random() < 0.3:
                rng.choice(tasks[-30:]).cancel()
            if rng.random() < 0.5:
                await asyncio.sleep(rng.choice([0, 0, 0.01, 0.2]))
            check(all_of_them)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        strange = [one for one in results if one is not None and not isinstance(one, (*EXPECTED, OSError))]
        assert strange == []
        assert any(one is None for one in results)
        assert all(at_rest(resource) for resource in all_of_them.all())
        fleet = all_of_them.get("a").turnstile._fleet
        assert fleet is not None
        assert fleet.inflight == 0
        await asyncio.sleep(3600)
        for resource in all_of_them.all():  # and everything still works
            assert await resource.call(asyncio.sleep, 0, "well") == "well"
        assert all(at_rest(resource) for resource in all_of_them.all())

    run_virtual(main)


def test_the_same_seed_gives_the_same_history() -> None:
    def history() -> list[Any]:
        async def main(clock: LoopClock) -> list[Any]:
            rng = random.Random(5)
            all_of_them = plant(clock, 5)
            tasks = [asyncio.create_task(one_call(all_of_them, clock, rng)) for _ in range(200)]
            results = await asyncio.gather(*tasks, return_exceptions=True)
            return [[str(one) for one in results], all_of_them.statistics(), clock.monotonic()]

        return run_virtual(main)

    assert history() == history()
