"""A gate whose controls are set, for tests of what that does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from headgate.config.load import parse_settings
from headgate.gate import Gate
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.model.control import Control, ControlKind
from headgate.observe.bus import Event

FILE = """
store: sqlite:///{folder}/runs.db?synchronous=off
tools:
  crm: {{concurrency: 8, breaker: null, retry: {{attempts: 1}},
         pause_when: {{p95: 8s, after: 5s, least_calls: 4, pauses: [lane:background, resource:mail]}}}}
  mail: {{concurrency: 4, rate: 1000/min}}
  slow: {{breaker: null, retry: {{attempts: 1}},
          pause_when: {{error_rate: 50%, thin_to: 25%, after: 5s, least_calls: 4,
                        pauses: [lane:standard, resource:mail]}}}}
workflows: {{echo: {{queue: {{depth: 3}}}}, late: {{lane: background}}}}
limits: [{{name: burst, per: tenant, runs: 100/min}}]
"""


@asynccontextmanager
async def gate_in(folder: Path, clock: LoopClock, *, workers: bool = True) -> AsyncIterator[Gate]:
    settings = parse_settings(FILE.format(folder=folder))
    gate = Gate(settings, clock=clock, rng=Random(3), store_mode="inline")

    @gate.workflow("echo")
    async def echo(_run: Any, value: Any) -> Any:
        return value

    @gate.workflow("late")
    async def late(_run: Any, value: Any) -> Any:
        return value

    await gate.start(workers=workers)
    try:
        yield gate
    finally:
        await gate.close()


async def put(gate: Gate, target: str, kind: ControlKind = ControlKind.OVERRIDE, **fields: Any) -> None:
    reason = fields.pop("reason", "incident 7")
    await gate.controls.put(gate.store, Control(target, kind, reason, "ann", gate.clock.now_ms(), **fields))


async def end(gate: Gate, target: str, kind: ControlKind) -> list[Control]:
    return await gate.controls.drop(gate.store, target, [kind], by="ann", reason="over")


def told(gate: Gate) -> list[Event]:
    heard: list[Event] = []
    gate.bus.subscribe(lambda event: heard.append(event) if event.name == "control_changed" else None)
    return heard


def run(main: Callable[[LoopClock], Any]) -> Any:
    return run_virtual(main)
