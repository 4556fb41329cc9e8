"""The gates of one play, and their restarts: one after the other drains, closes, and comes back as a new process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from random import Random
from typing import Any

from headgate.clock import Clock
from headgate.config.settings import GateSettings
from headgate.gate import Gate
from headgate.lab.scenario.calls import Agent
from headgate.lab.scenario.description import Scenario
from headgate.lab.scenario.traffic import Wish
from headgate.lab.scenario.users import WORKFLOW, GateDesk, Taken, Turned
from headgate.observe.bus import Event


@dataclass(frozen=True, slots=True)
class Stop:
    """One process of a rolling restart."""

    place: int
    """Which of them, from 0."""
    at_s: float


def stops(scenario: Scenario) -> list[Stop]:
    """Every process of the scenario that is restarted, in order of time."""
    restarts = scenario.restarts
    if restarts is None:
        return []
    return [Stop(place, restarts.since + place * restarts.every) for place in range(scenario.gates)]


class Fleet:
    """Gates on one store. ``serving`` are those that take runs in at the moment; there is always at least one."""

    def __init__(
        self,
        scenario: Scenario,
        settings: GateSettings,
        agent: Agent,
        *,
        clock: Clock,
        seed: int,
        listeners: tuple[Callable[[Event], None], ...],
    ) -> None:
        self._scenario = scenario
        self._settings = settings
        self._agent = agent
        self._clock = clock
        self._seed = seed
        self._listeners = listeners
        self._stack = AsyncExitStack()
        self.serving: list[Gate] = []
        self.restarted = 0

    async def __aenter__(self) -> Fleet:
        for place in range(self._scenario.gates):
            self.serving.append(await self._stack.enter_async_context(self._gate(place, 0)))
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._stack.aclose()

    def serving_gate(self) -> Gate:
        """One that serves now."""
        return self.serving[0]

    async def restart(self) -> None:
        """Carry out the scenario's restarts; ends after the last."""
        restarts, at_first = self._scenario.restarts, list(self.serving)
        for stop in stops(self._scenario):
            await asyncio.sleep(max(0.0, stop.at_s - self._clock.monotonic()))
            old = at_first[stop.place]
            self.serving.remove(old)  # whoever spreads the requests sees to it first
            await old.drain()
            await old.close()
            await asyncio.sleep(0.0 if restarts is None else restarts.down)
            self.serving.append(await self._stack.enter_async_context(self._gate(stop.place, 1)))
            self.restarted += 1

    def _gate(self, place: int, life: int) -> Gate:
        name = f"{self._seed}/gate/{place}" if life == 0 else f"{self._seed}/gate/{place}/{life}"
        gate = Gate(self._settings, clock=self._clock, rng=Random(name), store_mode="inline")
        for listener in self._listeners:
            gate.bus.subscribe(listener)
        gate.workflow(WORKFLOW)(self._agent.__call__)
        return gate


class FleetDesk:
    """The gates that serve, in turn, as a `headgate.lab.scenario.users.Desk`. ``untold`` as `GateDesk`."""

    def __init__(self, fleet: Fleet, clock: Clock, *, untold: Collection[str] = ()) -> None:
        self._fleet = fleet
        self._clock = clock
        self._untold = untold
        self._turn = 0

    async def ask(self, wish: Wish, ticket: dict[str, Any], left_s: float) -> Taken | Turned:
        gate = self._fleet.serving[self._turn % len(self._fleet.serving)]
        self._turn += 1
        return await GateDesk(gate, self._clock, untold=self._untold).ask(wish, ticket, left_s)

    async def leave(self, run_id: str) -> None:
        await GateDesk(self._fleet.serving_gate(), self._clock).leave(run_id)
