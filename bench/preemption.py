"""What preemption costs and what it is worth: random preemptions with crashes in between, on the real store.

    python -m bench.preemption [--preemptions 1000] [--seeds 10] [--longest-call 8]

In virtual time, two workers of eight slots carry long runs of the background lane, a quarter of whose calls are
``once``, and now and then a short critical run comes. The tool takes as many calls as there are slots, so that a call
lasts as long as it takes. Every so often a worker vanishes without a word, and another one comes. Counted are
remembered steps that were done again, ``once`` effects that happened twice, runs that were lost, and how long
critical runs waited, beside the same without preemption. The exit status says whether it kept its promises: nothing
lost, nothing repeated, and 99 of 100 critical runs waited no longer than the longest background call.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

from headgate.config.settings import GateSettings
from headgate.guard.registry import Resources
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.model.decision import Admission
from headgate.model.duplicates import Duplicates
from headgate.model.ids import uuid7
from headgate.observe.bus import Event, EventBus
from headgate.runs.registry import WorkflowRegistry
from headgate.runs.upkeep import Upkeep
from headgate.runs.worker import Worker
from headgate.store.open import open_store
from headgate.store.protocols import RunFilter, RunOffer, Store

WORKERS, SLOTS = 2, 8
BACKLOG = 4
"""Background runs that wait at any moment."""
CRASH_EVERY_S = 60.0
SETTINGS: dict[str, Any] = {
    "lanes": {"critical": {"share": 0.5, "preemptible": False}, "background": {"share": 0.5}},
    "workers": {"slots": SLOTS, "max_crashes": 100},
    "tools": {"tool": {"retry": {"attempts": 1}, "concurrency": WORKERS * SLOTS}},
    "workflows": {"long": {}, "short": {}},
}


@dataclass
class Result:
    """What happened."""

    preemptions: int = 0
    crashes: int = 0
    finished: int = 0
    unknown: int = 0
    """Runs whose worker vanished inside a ``once`` call: a person must say, nothing is repeated."""
    lost_runs: int = 0
    lost_steps: int = 0
    repeated: int = 0
    waits_s: list[float] = field(default_factory=list)
    calls_s: list[float] = field(default_factory=list)
    """The longest call of background runs in each world, as their workflows saw it."""

    def add(self, other: Result) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def quantile(self, part: float) -> float:
        ordered = sorted(self.waits_s)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


class World:
    """One store, workers that come and go, and the record of what was really done."""

    def __init__(
        self, store: Store, clock: LoopClock, rng: Random, settings: GateSettings, *, longest_s: float
    ) -> None:
        self.store, self.clock, self.rng, self.settings, self.longest_s = store, clock, rng, settings, longest_s
        self.bus = EventBus(clock)
        self.bus.subscribe(self._hear)
        self.registry = WorkflowRegistry()
        self.registry.register("long", self._long)
        self.registry.register("short", self._short)
        self.resources = Resources(settings, clock=clock, rng=rng, bus=self.bus)
        self.workers: list[Worker] = []
        self.result = Result()
        self.tries: Counter[tuple[str, int]] = Counter()
        self.known: dict[tuple[str, int], int] = {}
        """What the workflow was told that a step returned, the first time."""
        self._names = 0
        self._longest_s = 0.0

    def _hear(self, event: Event) -> None:
        if event.name == "run_released" and event.fields["reason"] == "preempted":
            self.result.preemptions += 1

    async def _call(self, step: tuple[str, int], takes_s: float, once: bool) -> int:
        self.tries[step] += 1
        self.result.repeated += once and self.tries[step] > 1
        await asyncio.sleep(takes_s)
        return self.tries[step]

    async def _long(self, run: Any, seed: int) -> int:
        plan = Random(seed)  # the same steps whenever it is carried out
        for number in range(plan.randint(15, 30)):
            step, takes_s, once = (run.id, number), plan.uniform(0.5, self.longest_s), plan.random() < 0.25
            effect, began = "once" if once else "idempotent", self.clock.monotonic()
            told = await run.call("tool", self._call, step, takes_s, once, key=str(number), effect=effect)
            self._longest_s = max(self._longest_s, self.clock.monotonic() - began)
            self.result.lost_steps += self.known.setdefault(step, told) != told
        return seed

    async def _short(self, run: Any, seed: int) -> int:
        await run.call("tool", asyncio.sleep, 0.5)
        return seed

    async def work(self) -> None:
        """One more worker."""
        self._names += 1
        worker = Worker(
            self.store, self.registry, self.resources, self.settings, clock=self.clock, rng=self.rng, bus=self.bus,
            owner=f"w{self._names}", pressure=lambda _workflow: 0.0,
        )  # fmt: skip
        self.workers.append(worker)
        await worker.start()

    async def crash(self) -> None:
        """A worker's process is gone: nothing more is done or written. Another one comes."""
        worker = self.workers.pop(self.rng.randrange(len(self.workers)))
        carrier = worker._carrier
        for task in [*worker._loops, *carrier.tasks, *(one.task for one in carrier.running if one.task)]:
            task.cancel()
        for attempt in carrier.keeper.held.values():
            attempt.ended = True
            for timer in (attempt.grace, attempt.wall_timer):
                if timer is not None:
                    timer.cancel()
        carrier.deadlines.close()
        carrier.ready.clear()
        carrier.leaving, worker._loops = True, []
        self.result.crashes += 1
        await self.work()

    async def submit(self, workflow: str, lane: str) -> str:
        now_ms, run_id = self.clock.now_ms(), uuid7(self.clock.now_ms(), self.rng.getrandbits)
        answer = await self.store.admissions.admit(
            RunOffer(
                id=run_id, origin_id=run_id, replay_of=None, workflow=workflow, tenant="t", user=None, lane=lane,
                input=json.dumps(self.rng.randrange(1 << 30)), now_ms=now_ms, available_ms=now_ms,
                queue_deadline_ms=None, deadline_ms=None, cost=1.0, weight=1.0, idempotency_key=None, body_hash="",
                content_key=None, duplicates=Duplicates.ALLOW, bounds=(), rates=(), budget_calls=1000,
                budget_model_tokens=None,
            )
        )  # fmt: skip
        assert isinstance(answer, Admission), answer
        for worker in self.workers:
            worker.poke()
        return run_id

    async def fill(self) -> None:
        """Keep background work waiting."""
        queues = (await self.store.runs.overview()).queues
        waiting = next((one.depth for one in queues if one.lane == "background"), 0)
        for _ in range(BACKLOG - waiting):
            await self.submit("long", "background")

    async def play(self, preemptions: int, at_most_s: float) -> float:
        """Until there were so many preemptions; returns the seconds that it took."""
        began, shorts = self.clock.monotonic(), list[str]()
        crash_at = began + self.rng.expovariate(1 / CRASH_EVERY_S)
        for _ in range(WORKERS):
            await self.work()
        while self.result.preemptions < preemptions and self.clock.monotonic() - began < at_most_s:
            await self.fill()
            await asyncio.sleep(self.rng.uniform(2.0, 12.0))
            if self.clock.monotonic() >= crash_at:
                await self.crash()
                crash_at += self.rng.expovariate(1 / CRASH_EVERY_S)
            shorts.append(await self.submit("short", "critical"))
        took_s = self.clock.monotonic() - began
        await self._all_ended()
        for run_id in shorts:
            run = await self.store.runs.get(run_id)
            assert run is not None
            assert run.started_ms is not None
            self.result.waits_s.append((run.started_ms - run.submitted_ms) / 1000)
        self.result.calls_s.append(self._longest_s)
        await self._count()
        return took_s

    async def _all_ended(self) -> None:
        for _ in range(10_000):
            if not any((await self.store.runs.overview()).states.values()):
                return
            await asyncio.sleep(5.0)
        raise RuntimeError("runs never ended")

    async def _count(self) -> None:
        last = None
        while page := await self.store.runs.page(RunFilter(limit=500, before=last)):
            for run in page:
                self.result.finished += run.state == "succeeded"
                self.result.unknown += run.reason == "unknown_outcome"
                self.result.lost_runs += run.state != "succeeded" and run.reason != "unknown_outcome"
            last = page[-1].id


def play(
    seed: int, preemptions: int, at_most_s: float, *, longest_s: float, preempting: bool
) -> tuple[Result, float]:
    """One world from its beginning until everything has ended."""
    settings = GateSettings.model_validate(SETTINGS | ({} if preempting else {"preemption": None}))

    async def main(clock: LoopClock) -> tuple[Result, float]:
        with tempfile.TemporaryDirectory() as folder:
            store = await open_store(f"sqlite:///{folder}/runs.db?synchronous=off", mode="inline")
            world = World(store, clock, Random(seed), settings, longest_s=longest_s)
            upkeep = Upkeep(store, settings, clock=clock, bus=world.bus, rng=world.rng)
            await upkeep.start()
            took_s = await world.play(preemptions, at_most_s)
            for worker in world.workers:
                await worker.stop()
            await upkeep.stop()
            world.resources.close()
            await store.close()
            return world.result, took_s

    return run_virtual(main)


def main() -> int:
    """Play, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preemptions", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--controls", type=int, default=2, help="so many seeds also without preemption")
    parser.add_argument("--longest-call", type=float, default=8.0, help="seconds; the safe-point interval")
    wanted = parser.parse_args()
    longest_s = wanted.longest_call
    each = -(-wanted.preemptions // wanted.seeds)
    with_it, without = Result(), Result()
    for seed in range(wanted.seeds):
        result, took_s = play(seed, each, 50_000.0, longest_s=longest_s, preempting=True)
        with_it.add(result)
        if seed < wanted.controls:
            without.add(play(seed, sys.maxsize, took_s, longest_s=longest_s, preempting=False)[0])
        print(
            f"seed {seed}: {result.preemptions} preemptions, {result.crashes} crashes in {took_s:.0f} s", flush=True
        )
    for name, one in (("with preemption", with_it), ("without (control)", without)):
        print(
            f"{name}: {one.preemptions} preemptions, {one.crashes} crashes, {one.finished} runs succeeded, "
            f"{one.unknown} await a word on a once call, {one.lost_runs} lost; "
            f"lost steps {one.lost_steps}, repeated once effects {one.repeated}; {len(one.waits_s)} critical runs "
            f"waited p50 {one.quantile(0.5):.2f} s, p99 {one.quantile(0.99):.2f} s, longest {max(one.waits_s):.2f} s"
        )
    kept = not (with_it.lost_steps or with_it.repeated or with_it.lost_runs)
    kept = kept and with_it.preemptions >= wanted.preemptions and with_it.quantile(0.99) <= longest_s
    told = without.quantile(0.99) > 2 * longest_s
    verdict = f"{'kept' if kept else 'NOT KEPT'}; control fails: {told}"
    print(f"longest background call {max(with_it.calls_s):.2f} s of {longest_s:g} s: {verdict}")
    return 0 if kept and told else 1


if __name__ == "__main__":
    raise SystemExit(main())
