"""What the guard costs around a call that does nothing, against `asyncio.Semaphore`.

    python bench/guard_overhead.py [--calls 40000] [--rounds 5]

Prints µs of processor time per successful call for one caller and for a hundred at once, and the ratio to the
semaphore measured in the same run. The figures are the best round of several: other work on the machine only adds.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from headgate.clock import REAL_CLOCK
from headgate.config.settings import GateSettings
from headgate.guard.registry import Resources
from headgate.observe.bus import EventBus

Once = Callable[[], Awaitable[Any]]


async def nothing() -> None:
    """The body: as cheap as a coroutine gets."""


async def yielding() -> None:
    """The body for concurrent callers: lets the others in, so that they really meet."""
    await asyncio.sleep(0)


def bare(body: Once) -> Once:
    return body


def semaphore(body: Once) -> Once:
    gate = asyncio.Semaphore(50)

    async def once() -> None:
        async with gate:
            await body()

    return once


def semaphore_with_timeout(body: Once) -> Once:
    gate = asyncio.Semaphore(50)

    async def once() -> None:
        async with gate, asyncio.timeout(30):
            await body()

    return once


def guard(body: Once, **more: Any) -> Once:
    """Concurrency, bounded queue, timeout, breaker, retries and a rate: everything a tool can have."""
    settings = {"concurrency": 50, "timeout": "30s", "rate": "1000000/s", "queue": {"depth": 1000}, **more}
    bus = EventBus(REAL_CLOCK)
    tools = GateSettings.model_validate({"tools": {"github": settings}})
    resource = Resources(tools, clock=REAL_CLOCK, rng=random.Random(1), bus=bus).get("github")
    return lambda: resource.call(body)


def adaptive_guard(body: Once) -> Once:
    return guard(body, concurrency="50..200", latency_high="10s")


CONTENDERS: dict[str, Callable[[Once], Once]] = {
    "bare await": bare,
    "asyncio.Semaphore": semaphore,
    "Semaphore + asyncio.timeout": semaphore_with_timeout,
    "guard, fixed": guard,
    "guard, adaptive": adaptive_guard,
}


async def one_caller(once: Once, calls: int) -> float:
    began = time.process_time()
    for _ in range(calls):
        await once()
    return (time.process_time() - began) / calls * 1e6


async def many_callers(once: Once, calls: int, callers: int = 100) -> float:
    async def caller() -> None:
        for _ in range(calls // callers):
            await once()

    began = time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return (time.process_time() - began) / calls * 1e6


def measure(calls: int, rounds: int) -> dict[str, tuple[float, float]]:
    best: dict[str, tuple[float, float]] = {}
    for _ in range(rounds):
        for name, make in CONTENDERS.items():
            single = asyncio.run(one_caller(make(nothing), calls))
            together = asyncio.run(many_callers(make(yielding), calls))
            before = best.get(name, (single, together))
            best[name] = (min(before[0], single), min(before[1], together))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    best = measure(chosen.calls, chosen.rounds)
    reference = best["asyncio.Semaphore"]
    print(f"{'CPU µs per successful call':30} {'1 caller':>10} {'ratio':>7} {'100 callers':>13} {'ratio':>7}")
    for name, (single, together) in best.items():
        ratios = single / reference[0], together / reference[1]
        print(f"{name:30} {single:10.2f} {ratios[0]:7.1f} {together:13.2f} {ratios[1]:7.1f}")


if __name__ == "__main__":
    main()
