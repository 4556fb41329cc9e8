"""What the guard costs around a call that does nothing, against a bare semaphore and the stack people assemble.

    python bench/guard_overhead.py [--calls 40000] [--rounds 5]

Prints µs of processor time per successful call for one caller and for a hundred at once, and the ratios to
`asyncio.Semaphore` and to the assembled stack (semaphore, aiolimiter, purgatory, stamina, `asyncio.timeout`), all
measured in the same run. The figures are the best round of several: other work on the machine only adds. The stack
needs the dependency group ``bench``; without it its line is left out and said so.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from headgate.clock import REAL_CLOCK
from headgate.config.settings import GateSettings
from headgate.guard.ambient import Ambient, ambient
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


ASSEMBLED = "the assembled stack"
ASSEMBLED_OF = ("aiolimiter", "purgatory", "stamina")


def assembled(body: Once) -> Once:
    """Retries around a breaker around a rate around a semaphore around a timeout, each from the library for it."""
    aiolimiter, purgatory, stamina = (importlib.import_module(name) for name in ASSEMBLED_OF)
    gate = asyncio.Semaphore(50)
    rate = aiolimiter.AsyncLimiter(1_000_000, 1)
    breakers = purgatory.AsyncCircuitBreakerFactory(default_threshold=8, default_ttl=10)

    @stamina.retry(on=ConnectionError, attempts=3, wait_initial=0.5)  # type: ignore[untyped-decorator]
    async def once() -> None:
        async with await breakers.get_breaker("github"), rate, gate, asyncio.timeout(30):
            await body()

    return once  # type: ignore[no-any-return]


def missing() -> list[str]:
    """Libraries of the assembled stack that are not installed."""
    return [name for name in ASSEMBLED_OF if importlib.util.find_spec(name) is None]


def guard(body: Once, **more: Any) -> Once:
    """Concurrency, bounded queue, timeout, breaker, retries and a rate: everything a tool can have."""
    settings = {"concurrency": 50, "timeout": "30s", "rate": "1000000/s", "queue": {"depth": 1000}, **more}
    bus = EventBus(REAL_CLOCK)
    tools = GateSettings.model_validate({"tools": {"github": settings}})
    resource = Resources(tools, clock=REAL_CLOCK, rng=random.Random(1), bus=bus).get("github")
    return lambda: resource.call(body)


def full_guard(body: Once) -> Once:
    """And all that is new: model tokens per minute, a tenant with a run, deadline and remaining work, a fallback."""
    settings = {"concurrency": "50..200", "timeout": "30s", "model_tokens": "1G/s", "queue": {"depth": 1000}}
    models = {"large": {**settings, "rate": "1000000/s", "fallback": "small"}, "small": settings}
    made = Resources(
        GateSettings.model_validate({"models": models}),
        clock=REAL_CLOCK,
        rng=random.Random(1),
        bus=EventBus(REAL_CLOCK),
    )
    resource = made.get("large").with_options(model_tokens=100.0)
    whose = Ambient(tenant="acme", run_id="r1", deadline=REAL_CLOCK.monotonic() + 3600, remaining_s=1.0)

    async def once() -> None:
        with ambient(whose):
            await resource.call(body)

    return once


def adaptive_guard(body: Once) -> Once:
    return guard(body, concurrency="50..200")


CONTENDERS: dict[str, Callable[[Once], Once]] = {
    "bare await": bare,
    "asyncio.Semaphore": semaphore,
    "Semaphore + asyncio.timeout": semaphore_with_timeout,
    ASSEMBLED: assembled,
    "guard, fixed": guard,
    "guard, adaptive": adaptive_guard,
    "guard, everything": full_guard,
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
            if name == ASSEMBLED and missing():
                continue
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
    head = f"{'CPU µs per successful call':30} {'1 caller':>10} {'/sem.':>7} {'/stack':>7}"
    print(f"{head} {'100 callers':>13} {'/sem.':>7} {'/stack':>7}")
    for name, figures in best.items():
        line = f"{name:30}"
        for place, (figure, width) in enumerate(zip(figures, (10, 13), strict=True)):
            line += f" {figure:{width}.2f} {figure / best['asyncio.Semaphore'][place]:7.1f}"
            line += f" {figure / best[ASSEMBLED][place]:7.2f}" if ASSEMBLED in best else f" {'–':>7}"
        print(line)
    if absent := missing():
        print(f"{ASSEMBLED}: not measured, because {', '.join(absent)} is not installed (dependency group bench)")


if __name__ == "__main__":
    main()
