"""A worker, a real store and virtual time, for tests of what becomes of a run."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from headgate.config.settings import GateSettings
from headgate.guard.registry import Resources
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.model.decision import Admission
from headgate.model.duplicates import Duplicates
from headgate.model.ids import uuid7
from headgate.model.run import RunRecord
from headgate.observe.bus import Event, EventBus
from headgate.runs.registry import WorkflowRegistry
from headgate.runs.upkeep import Upkeep
from headgate.runs.worker import Worker
from headgate.store.open import open_store
from headgate.store.protocols import RunOffer, Store

T = TypeVar("T")

SETTINGS: dict[str, Any] = {
    "tools": {"tool": {"retry": {"attempts": 1}}, "other": {}},
    "models": {"large": {"retry": {"attempts": 1}}, "small": {}},
    "stages": {"publish": {"concurrency": 1}},
    "approvals": {"replies": {"depth": 2, "max_age": 600.0}},
    "workflows": {"job": {}},
}


class Bench:
    """One store, one registry, any number of workers."""

    def __init__(self, store: Store, clock: LoopClock, settings: GateSettings) -> None:
        self.store, self.clock, self.settings = store, clock, settings
        self.rng = Random(7)
        self.bus = EventBus(clock)
        self.events: list[Event] = []
        self.bus.subscribe(self.events.append)
        self.registry = WorkflowRegistry()
        self.resources = Resources(settings, clock=clock, rng=self.rng, bus=self.bus)
        self.pressure = 0.0
        self.workers: list[Worker] = []
        self.upkeep = Upkeep(store, settings, clock=clock, bus=self.bus, rng=self.rng)
        self.ledger: Counter[str] = Counter()
        """What really happened in the world, however often."""

    def workflow(self, function: Callable[..., Any]) -> None:
        self.registry.register("job", function)

    async def worker(self, owner: str = "w1") -> Worker:
        worker = Worker(
            self.store,
            self.registry,
            self.resources,
            self.settings,
            clock=self.clock,
            rng=self.rng,
            bus=self.bus,
            owner=owner,
            pressure=lambda _workflow: self.pressure,
        )
        self.workers.append(worker)
        await worker.start()
        return worker

    async def submit(self, input: Any = None, **fields: Any) -> str:
        now_ms = self.clock.now_ms()
        run_id = uuid7(now_ms, self.rng.getrandbits)
        offer: dict[str, Any] = {
            "id": run_id,
            "origin_id": run_id,
            "replay_of": None,
            "workflow": "job",
            "tenant": "t",
            "user": None,
            "lane": "standard",
            "input": json.dumps(input),
            "now_ms": now_ms,
            "available_ms": now_ms,
            "queue_deadline_ms": None,
            "deadline_ms": None,
            "cost": 1.0,
            "weight": 1.0,
            "idempotency_key": None,
            "body_hash": "",
            "content_key": None,
            "duplicates": Duplicates.ALLOW,
            "bounds": (),
            "rates": (),
            "budget_calls": 1000,
            "budget_model_tokens": None,
            **fields,
        }
        answer = await self.store.admissions.admit(RunOffer(**offer))
        assert isinstance(answer, Admission), answer
        for worker in self.workers:
            worker.poke()
        return answer.run.id

    async def get(self, run_id: str) -> RunRecord:
        run = await self.store.runs.get(run_id)
        assert run is not None
        return run

    async def ended(self, run_id: str, *, within_s: float = 600.0) -> RunRecord:
        async with asyncio.timeout(within_s):
            while True:
                run = await self.get(run_id)
                if run.state.terminal:
                    return run
                await self.passes(0.05)

    async def passes(self, seconds: float) -> None:
        """Virtual time passes; nothing really waits."""
        await asyncio.sleep(seconds)

    async def do(self, what: str, takes_s: float = 0.0) -> str:
        """A thing done in the world."""
        self.ledger[what] += 1
        if takes_s:
            await asyncio.sleep(takes_s)
        return f"did {what}"

    def told(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]


def vanish(worker: Worker) -> None:
    """The worker's process is gone: nothing more is done or written."""
    carrier = worker._carrier
    running = [attempt.task for attempt in carrier.running if attempt.task is not None]
    for task in [*worker._loops, *carrier.tasks, *running]:
        task.cancel()
    for attempt in carrier.keeper.held.values():
        attempt.ended = True
        if attempt.grace is not None:
            attempt.grace.cancel()
    carrier.deadlines.close()
    carrier.ready.clear()
    carrier.leaving = True
    worker._loops = []


@asynccontextmanager
async def bench_on(folder: Path, clock: LoopClock, **settings: Any) -> AsyncIterator[Bench]:
    # Nothing here loses power, so nothing is flushed.
    store = await open_store(f"sqlite:///{folder}/runs.db?synchronous=off", mode="inline")
    bench = Bench(store, clock, GateSettings.model_validate({**SETTINGS, **settings}))
    await bench.upkeep.start()
    try:
        yield bench
    finally:
        for worker in bench.workers:
            await worker.stop()
        await bench.upkeep.stop()
        bench.resources.close()
        await store.close()


def on_bench(folder: Path, main: Callable[[Bench], Coroutine[Any, Any, T]], **settings: Any) -> T:
    """Run ``main(bench)`` in virtual time."""

    async def enter(clock: LoopClock) -> T:
        async with bench_on(folder, clock, **settings) as bench:
            return await main(bench)

    return run_virtual(enter)
