"""A process dies between any two writes to the store: no sub-run is lost, none is doubled, nothing waits for ever."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from headgate import Gate, GateSettings, Run
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.model.run import RunState
from headgate.store.protocols import RunFilter
from headgate.store.sqlite.operations import Operations
from headgate.store.sqlite.store import SqliteStore

from .bench import vanish

SETTINGS: dict[str, Any] = {
    "workers": {"slots": 2, "lease": 2.0, "max_crashes": 50},
    "tools": {"tool": {"retry": {"attempts": 1}}},
    "workflows": {"parent": {}, "child": {}},
}


class Mortal:
    """Carries out operations until its process dies: the operation then on its way is written or not, and its answer
    and all later ones never come."""

    def __init__(self, inner: Operations, lives: int | None, *, last_is_written: bool) -> None:
        self.inner, self.lives, self.last_is_written = inner, lives, last_is_written
        self.count = 0
        self.dead = asyncio.Event()

    @property
    def waiting(self) -> int:
        return self.inner.waiting

    def submit(self, operation: Callable[[Any], Any]) -> asyncio.Future[Any]:
        self.count += 1
        if self.lives is None or self.count <= self.lives:
            return self.inner.submit(operation)
        if not self.dead.is_set():
            self.dead.set()
            if self.last_is_written:
                self.inner.submit(operation)
        return asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        await self.inner.close()


def gate_on(folder: Path, clock: LoopClock, ledger: Counter[str]) -> Gate:
    store = f"sqlite:///{folder}/runs.db?synchronous=off"
    gate = Gate(
        GateSettings.model_validate({**SETTINGS, "store": store}), clock=clock, rng=Random(7), store_mode="inline"
    )

    async def do(what: str) -> str:
        ledger[what] += 1
        await asyncio.sleep(0.05)
        return what

    @gate.workflow("child")
    async def child(run: Run, input: int) -> list[Any]:
        done: Any = await run.call("tool", do, f"{run.id} {input}")
        below = await run.map("child", [input - 1]) if input > 2 else []
        return [input, bool(done), *below]

    @gate.workflow("parent")
    async def parent(run: Run) -> list[Any]:
        first = await run.spawn("child", 3)
        rest = await run.map("child", [1, 2], at_most=1)
        return [await first.result(), *rest]

    return gate


def mortal(gate: Gate, lives: int | None, *, last_is_written: bool) -> Mortal:
    store = gate.store
    assert isinstance(store, SqliteStore)
    writer = Mortal(store._writer, lives, last_is_written=last_is_written)
    for part in ("admissions", "runs", "claims", "journal", "upkeep", "children"):
        getattr(store, part)._writer = writer
    return writer


async def die(gate: Gate) -> None:
    """Nothing of the process is left but its file."""
    assert gate.worker is not None
    assert gate.upkeep is not None
    vanish(gate.worker)
    await gate.upkeep.stop()
    gate.worker = gate.upkeep = None
    await gate.close()


async def life(folder: Path, clock: LoopClock, lives: int | None, *, last_is_written: bool) -> int:
    """One submission, one death after so many writes, one successor. How many writes the first one began."""
    ledger: Counter[str] = Counter()
    gate = gate_on(folder, clock, ledger)
    await gate.open()
    admission = await gate.submit("parent")
    writer = mortal(gate, lives, last_is_written=last_is_written)
    await gate.start()
    ended = asyncio.ensure_future(gate.ended(admission.run.id))
    died = asyncio.ensure_future(writer.dead.wait())
    await asyncio.wait([ended, died], return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0)
    for task in (ended, died):
        task.cancel()
    await die(gate)

    async with gate_on(folder, clock, ledger) as heir:
        run = await heir.ended(admission.run.id, timeout_s=120.0)
        assert run.state is RunState.SUCCEEDED, (run.reason, run.detail)
        assert json.loads(run.result or "") == [[3, True, [2, True]], [1, True], [2, True]]
        every = await heir.store.runs.page(RunFilter(limit=100))
        inputs = sorted((one.workflow, one.depth, one.input) for one in every)
        assert inputs == [
            ("child", 1, "1"), ("child", 1, "2"), ("child", 1, "3"), ("child", 2, "2"), ("parent", 0, "null"),
        ]  # fmt: skip
        assert {one.state for one in every} == {RunState.SUCCEEDED}
        assert len(ledger) == 4, "each sub-run did its work"
        assert sum(ledger.values()) <= 4 + 2, "at most what was in flight is done again"
        assert run.spawned == 3
    return writer.count


@pytest.mark.parametrize("last_is_written", [True, False])
def test_a_death_between_any_two_writes_loses_and_doubles_nothing(tmp_path: Path, last_is_written: bool) -> None:
    async def main(clock: LoopClock) -> int:
        folder = tmp_path / "whole"
        folder.mkdir()
        writes = await life(folder, clock, None, last_is_written=last_is_written)
        for lives in range(writes):
            folder = tmp_path / f"{lives}"
            folder.mkdir()
            await life(folder, clock, lives, last_is_written=last_is_written)
        return writes

    assert run_virtual(main) > 20
