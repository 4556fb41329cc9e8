"""How true are the times that callers are told? The real gate in virtual time, four kinds of traffic, many seeds.

    python -m bench.eta [--seeds 10] [--scenario surge]

For each scenario: the median of |told p50 - actual| / actual over accepted runs that succeeded, the share that ended
by the told p90, the same error of the *plain* forecast (position divided by the rate of starts, plus the mean of past
runs) as a control, and the share of those refused with a wait who were taken in when they came back at that moment.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from headgate.config.settings import GateSettings
from headgate.errors import Rejected
from headgate.gate import Gate
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.model.run import RunState

SLOTS, TOOL_LIMIT = 16, 8
CALL_S = 0.8
CALLS = {"ask": (3, 4, 5), "report": (6, 8, 10)}
CAPACITY = 2 * TOOL_LIMIT / CALL_S / statistics.mean(n for calls in CALLS.values() for n in calls)
"""Runs per second that two workers carry out: the tool is the bottleneck."""
WARM_UP_S = 60.0
SECONDS = 360.0
SEED = 9176
RETRIES = 2
"""How often a refused caller comes back."""

SETTINGS: dict[str, Any] = {
    "tools": {"search": {"queue": {"depth": 400, "max_age": "10m"}, "timeout": "1m"}},
    "workflows": {
        "ask": {"lane": "interactive", "deadline": "45s", "queue": {"depth": 400, "max_age": "10m"}},
        "report": {"lane": "standard", "deadline": "3m", "queue": {"depth": 1000, "max_age": "10m"}},
    },
}

Load = Callable[[float], float]
"""Part of the capacity that is asked for at a moment."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Traffic, and when one of the two workers is away."""

    load: Load
    away: tuple[float, float] | None = None


SCENARIOS = {
    "steady": Scenario(lambda _: 0.85),
    "ramp": Scenario(lambda at: 0.3 + 1.2 * at / SECONDS),
    "surge": Scenario(lambda at: 4.0 if 150 <= at < 190 else 0.6),
    "outage": Scenario(lambda _: 0.7, away=(150.0, 230.0)),
}


@dataclass(slots=True)
class Told:
    """One accepted run."""

    workflow: str
    at_s: float
    p50_s: float
    p90_s: float
    plain_s: float | None
    actual_s: float | None = None


@dataclass(slots=True)
class Outcome:
    """What one run of a scenario showed."""

    told: list[Told] = field(default_factory=list)
    refused: int = 0
    came_back: int = 0
    taken_in: int = 0
    audited: float | None = None
    late: int = 0
    accepted: int = 0

    def errors(self, read: Callable[[Told], float | None]) -> list[float]:
        """Distances from what came, as parts of it."""
        pairs = [(read(one), one.actual_s) for one in self.told]
        return [abs(said - came) / came for said, came in pairs if said is not None and came]

    @property
    def coverage(self) -> float:
        """Share of the runs that ended by the told p90."""
        ended = [one for one in self.told if one.actual_s is not None]
        return sum((one.actual_s or 0.0) <= one.p90_s for one in ended) / max(1, len(ended))


class Play:
    """One scenario with one seed; ``part`` of the fleet and of its traffic."""

    def __init__(self, scenario: Scenario, clock: LoopClock, seed: int, folder: Path, part: float = 1.0) -> None:
        self._scenario, self._clock, self._rng = scenario, clock, Random(seed)
        self._capacity = CAPACITY * part
        search = {**SETTINGS["tools"]["search"], "concurrency": round(TOOL_LIMIT * part)}
        self._settings = GateSettings.model_validate(
            {
                **SETTINGS,
                "store": f"sqlite:///{folder}/runs.db",
                "workers": {"slots": round(SLOTS * part), "drain": "1s"},
                "tools": {"search": search},
            }
        )
        self._seed = seed
        self.outcome = Outcome()
        self._means: dict[str, list[float]] = {}

    async def run(self) -> Outcome:
        """Play it to the end."""
        front, other = self._gate(0), self._gate(1)
        await other.start()
        async with front:
            asking: list[asyncio.Task[None]] = []
            away = asyncio.create_task(self._leave(other))
            while (at_s := self._clock.monotonic()) < SECONDS:
                asking.append(asyncio.create_task(self._ask(front)))
                await asyncio.sleep(self._rng.expovariate(self._scenario.load(at_s) * self._capacity))
            await asyncio.gather(*asking, away)
            self.outcome.audited = front.outlook.audits.honesty.share
        await other.close()
        return self.outcome

    def _gate(self, number: int) -> Gate:
        gate = Gate(self._settings, clock=self._clock, rng=Random(self._seed + number), store_mode="inline")
        rng = Random(1000 * self._seed + number)

        async def work(run: Any, calls: int) -> int:
            for number in range(calls):
                await run.call("search", search, number)
            return calls

        async def search(_number: int) -> str:
            await asyncio.sleep(CALL_S * rng.lognormvariate(-0.045, 0.3))
            return "found"

        gate.workflow("ask")(work)
        gate.workflow("report")(work)
        return gate

    async def _leave(self, other: Gate) -> None:
        if self._scenario.away is None:
            return
        gone, back = self._scenario.away
        await asyncio.sleep(gone)
        await other.drain(timeout_s=1.0)
        await other.close()
        await asyncio.sleep(back - gone)
        await other.start()

    async def _ask(self, gate: Gate) -> None:
        workflow = "ask" if self._rng.random() < 0.5 else "report"
        calls, tenant = self._rng.choice(CALLS[workflow]), f"t{self._rng.randrange(8)}"
        for attempt in range(1 + RETRIES):
            at_s = self._clock.monotonic()
            counted = at_s >= WARM_UP_S
            try:
                answer = await gate.submit(workflow, calls, tenant=tenant)
            except Rejected as refusal:
                self.outcome.refused += counted and attempt == 0
                self.outcome.came_back += counted and attempt > 0
                if refusal.retry_after_s is None:
                    return
                await asyncio.sleep(refusal.retry_after_s)
                continue
            self.outcome.came_back += counted and attempt > 0
            self.outcome.taken_in += counted and attempt > 0
            await self._follow(gate, answer, workflow, at_s, counted)
            return

    async def _follow(self, gate: Gate, answer: Any, workflow: str, at_s: float, counted: bool) -> None:
        told = None
        means = self._means.setdefault(workflow, [])
        if counted and answer.finish_ms is not None:
            plain_ms = gate.outlook.eta_ms(answer.run.lane, self._before(answer.run.lane), answer.position)
            plain_s = None if plain_ms is None or not means else plain_ms / 1000 + statistics.fmean(means)
            told = Told(workflow, at_s, answer.finish_ms / 1000, (answer.finish_p90_ms or 0) / 1000, plain_s)
            self.outcome.told.append(told)
        ended = await gate.ended(answer.run.id)
        self.outcome.accepted += counted
        if ended.state is not RunState.SUCCEEDED or ended.finished_ms is None:
            self.outcome.late += counted
            return
        if ended.started_ms is not None:
            means.append((ended.finished_ms - ended.started_ms) / 1000)
        if told is not None:
            told.actual_s = (ended.finished_ms - ended.submitted_ms) / 1000

    def _before(self, lane: str) -> tuple[str, ...]:
        lanes = tuple(self._settings.lanes)
        return lanes[: lanes.index(lane)]


def play(name: str, seed: int, *, part: float = 1.0) -> Outcome:
    """One scenario with one seed, on ``part`` of the fleet with ``part`` of the traffic."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108  a private directory is made inside
    with tempfile.TemporaryDirectory(prefix="headgate-eta-", dir=memory) as folder:
        return run_virtual(lambda clock: Play(SCENARIOS[name], clock, seed, Path(folder), part).run())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), action="append")
    wanted = parser.parse_args()
    head = {"runs": 7, "median error": 14, "plain": 8, "by p90": 8, "refused": 9, "kept": 7, "audit": 7, "late": 6}
    print(f"{'scenario':9}" + "".join(f"{words:>{width}}" for words, width in head.items()))
    for name in wanted.scenario or SCENARIOS:
        outcomes = [play(name, SEED + number) for number in range(wanted.seeds)]
        whole = Outcome(told=[one for outcome in outcomes for one in outcome.told])
        plain = whole.errors(lambda one: one.plain_s)
        back, kept = sum(one.came_back for one in outcomes), sum(one.taken_in for one in outcomes)
        audits = [one.audited for one in outcomes if one.audited is not None]
        accepted = max(1, sum(one.accepted for one in outcomes))
        print(
            f"{name:9}{len(whole.told):7}{statistics.median(whole.errors(lambda one: one.p50_s)):14.1%}"
            f"{statistics.median(plain):8.1%}{whole.coverage:8.1%}{sum(one.refused for one in outcomes):9}"
            f"{kept / back if back else 1:7.1%}{statistics.fmean(audits) if audits else 1:7.1%}"
            f"{sum(one.late for one in outcomes) / accepted:6.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
