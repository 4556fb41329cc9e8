"""A gate in virtual time with parents and children, for tests of sub-runs."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from headgate import (
    Gate,
    GateSettings,
    Run,
)
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.model.run import RunRecord, RunState
from headgate.observe.bus import Event
from headgate.store.protocols import RunFilter

T = TypeVar("T")


SETTINGS: dict[str, Any] = {
    "workers": {"slots": 4},
    "tools": {"tool": {"retry": {"attempts": 1}}},
    "models": {"model": {"price_per_1k": 1.0}},
    "workflows": {"parent": {}, "child": {}},
}


class House:
    """A gate in virtual time, and what happened in the world."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.ledger: Counter[str] = Counter()
        self.events: list[Event] = []
        gate.bus.subscribe(self.events.append)

    async def do(self, what: str, takes_s: float = 0.0) -> str:
        self.ledger[what] += 1
        if takes_s:
            await asyncio.sleep(takes_s)
        return f"did {what}"

    async def ended(self, workflow: str, input: Any = None, **wishes: Any) -> RunRecord:
        admission = await self.gate.submit(workflow, input, **wishes)
        return await self.gate.ended(admission.run.id, timeout_s=10_000.0)

    async def children(self, run_id: str) -> list[RunRecord]:
        return (await self.gate.store.runs.page(RunFilter(parent=run_id)))[::-1]

    async def get(self, run_id: str) -> RunRecord:
        run = await self.gate.store.runs.get(run_id)
        assert run is not None
        return run

    async def passes(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def told(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]


@asynccontextmanager
async def house_on(folder: Path, clock: LoopClock, **settings: Any) -> AsyncIterator[House]:
    store = f"sqlite:///{folder}/runs.db?synchronous=off"
    gate = Gate(
        GateSettings.model_validate({**SETTINGS, "store": store, **settings}),
        clock=clock,
        rng=Random(7),
        store_mode="inline",
    )
    async with gate:
        yield House(gate)


def in_house(folder: Path, main: Callable[[House], Coroutine[Any, Any, T]], **settings: Any) -> T:
    async def enter(clock: LoopClock) -> T:
        async with house_on(folder, clock, **settings) as house:
            return await main(house)

    return run_virtual(enter)


def doubling(house: House, takes_s: float = 1.0) -> None:
    @house.gate.workflow("child")
    async def child(run: Run, input: int) -> int:
        await run.call("tool", house.do, f"child {input}", takes_s)
        return 2 * input


def result_of(run: RunRecord) -> Any:
    assert run.state is RunState.SUCCEEDED, (run.state, run.reason, run.detail)
    return json.loads(run.result or "null")
