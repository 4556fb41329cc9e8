"""Plays a scenario: real gates on a real store with the described users and dependencies, in virtual time.

The same wishes can be played with no limits at all (`unlimited`), which is the control of every comparison.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from headgate.errors import HeadgateError
from headgate.gate import Gate
from headgate.lab.recording import EventLog, store_folder
from headgate.lab.scenario.calls import Agent
from headgate.lab.scenario.description import Scenario
from headgate.lab.scenario.facts import ResourceFacts, Tally
from headgate.lab.scenario.fleet import Fleet, FleetDesk, stops
from headgate.lab.scenario.timeline import Sight, Timeline, Watcher
from headgate.lab.scenario.traffic import Wish, wishes
from headgate.lab.scenario.users import WORKFLOW, Asked, Users
from headgate.lab.scenario.world import Effect, World
from headgate.lab.unlimited import Unlimited
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.model.run import RunState

AFTER_DEADLINE_S = 60.0
"""How long after the last deadline a play may still have unfinished runs; then it is broken."""
LOOK_S = 1.0
GARBAGE_THRESHOLDS = (50_000, 20, 20)


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one wish, whatever played it."""

    wish: Wish
    tries: int
    admitted: bool
    refusals: tuple[str, ...] = ()
    succeeded: bool = False
    finished_s: float | None = None
    started_s: float | None = None
    reason: str = ""
    """How its run ended, or the last refusal."""
    went_away: bool = False
    degraded: bool = False
    returns: int = 0
    returns_admitted: int = 0
    promised_start_s: float | None = None
    promised_p50_s: float | None = None
    promised_p90_s: float | None = None
    admitted_s: float | None = None
    refused_s: tuple[float, ...] = ()
    """When each refusal came."""

    @property
    def on_time(self) -> bool:
        """Succeeded before the deadline that its user had at first."""
        return self.succeeded and (self.finished_s or 0.0) <= self.wish.at_s + self.wish.deadline_s + 1e-3

    @property
    def missed(self) -> bool:
        """Accepted, and not done by its deadline; a user who went away is nobody's fault."""
        return self.admitted and not self.on_time and not self.went_away


@dataclass(frozen=True, slots=True)
class Played:
    """One play."""

    scenario: Scenario
    seed: int
    fates: list[Fate] = field(repr=False)
    effects: list[Effect] = field(repr=False)
    crowded: dict[str, float]
    """Part of the time each dependency was past its knee."""
    seconds: float
    """Virtual seconds until all had ended."""
    event_hash: str = ""
    """Over all events of the bus; of policies without one, over all fates and the ledger."""
    events: int = 0
    facts: dict[str, ResourceFacts] = field(default_factory=dict, repr=False)
    """What was asked of each resource; nothing where no gate was played."""
    timeline: Timeline = field(default=Timeline(), repr=False)


Aside = Callable[[Sequence[Gate], LoopClock], Awaitable[None]]
"""What goes on beside a play, for example an operator at work; it is cancelled when all runs have ended."""


def play(
    scenario: Scenario,
    *,
    seed: int,
    without: Sequence[str] = (),
    aside: Aside | None = None,
    untold: Collection[str] = (),
) -> Played:
    """With headgate, as the scenario configures it. ``without``: tenants that stay away; ``untold``: what users do
    not say, ``lane`` or ``tenant``.

    Raises:
        HeadgateError: accepted runs were left without an end.
    """
    drawn = wishes(scenario, seed, without=without)
    with store_folder("headgate-scenario-") as folder, collecting_rarely():
        return run_virtual(lambda clock: _play(scenario, drawn, clock, seed, folder, aside, untold))


def unlimited(scenario: Scenario, *, seed: int, without: Sequence[str] = ()) -> Played:
    """The same wishes with no limits: every run starts at once, every failure is repeated at once."""
    drawn = wishes(scenario, seed, without=without)
    with collecting_rarely():
        return run_virtual(lambda clock: _unlimited(scenario, drawn, clock, seed))


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """Look for cyclic garbage less often: a play makes many objects and few cycles, and the looks cost a tenth."""
    ordinary = gc.get_threshold()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*ordinary)


async def _play(
    scenario: Scenario,
    drawn: Sequence[Wish],
    clock: LoopClock,
    seed: int,
    folder: Path,
    aside: Aside | None,
    untold: Collection[str],
) -> Played:
    world = World(scenario, clock=clock, seed=seed)
    settings = scenario.headgate.model_copy(update={"store": f"sqlite:///{folder}/runs.db?synchronous=off"})
    log, born_ms = EventLog(), clock.now_ms()
    tally = Tally(born_ms)
    agent = Agent(world, repairs=scenario.calls.repairs)
    fleet = Fleet(scenario, settings, agent, clock=clock, seed=seed, listeners=(log, tally))
    async with fleet:
        gates = fleet.serving
        users = Users([FleetDesk(fleet, clock, untold=untold)], clock, tries=scenario.users.tries)
        watcher = Watcher(list(scenario.dependencies), world.inflight, _sight_of(gates), now=clock.monotonic)
        beside = [asyncio.create_task(world.watch()), asyncio.create_task(watcher.watch())]
        beside.append(asyncio.create_task(world.people.work(fleet.serving_gate)))
        if aside is not None:
            beside.append(asyncio.ensure_future(aside(gates, clock)))
        restarting = asyncio.create_task(fleet.restart())
        await users.come(drawn)
        await restarting
        await _all_ended(fleet.serving_gate(), clock, scenario)
        watcher.end()
        for task in beside:
            task.cancel()
        for run_id, asked in users.by_run.items():
            asked.run = await fleet.serving_gate().store.runs.get(run_id)
        seconds = clock.monotonic()
    fates = [_fate(asked, born_ms) for asked in users.asked]
    timeline = watcher.timeline(fates, world.effects)
    return Played(
        scenario,
        seed,
        fates,
        world.effects,
        world.crowded_parts(),
        seconds,
        log.hexdigest(),
        log.count,
        tally.resources,
        timeline,
    )


def _sight_of(gates: Sequence[Gate]) -> Callable[[], Sight]:
    def sight() -> Sight:
        limits: dict[str, float] = {}
        lined_up, oldest_s, pressure = 0, 0.0, 0.0
        for gate in gates:
            for name, one in gate.resources.statistics().items():
                limits[name] = limits.get(name, 0) + one.limit
                lined_up += one.waiting
                oldest_s = max(oldest_s, one.oldest_wait_s)
            pressure = max(pressure, gate.outlook.pressure.level)
        return Sight(limits, lined_up, oldest_s, pressure)

    return sight


def ledger_hash(fates: Sequence[Fate], effects: Sequence[Effect]) -> str:
    """SHA-256 over what became of every wish and everything that the dependencies were made to do."""
    told = hashlib.sha256()
    for fate in fates:
        ended = (fate.admitted_s, fate.started_s, fate.finished_s, fate.reason, fate.refused_s, fate.returns)
        told.update(f"{fate.wish.number} {fate.tries} {ended}\n".encode())
    for effect in effects:
        told.update(f"{effect.run} {effect.place} {effect.dependency} {effect.began_s!r} ".encode())
        told.update(f"{effect.status} {effect.code} {effect.spent_s!r} {effect.ended_s!r}\n".encode())
    return told.hexdigest()


async def _all_ended(gate: Gate, clock: LoopClock, scenario: Scenario) -> None:
    until_s = scenario.seconds + max(lane.deadline for lane in scenario.lanes.values()) + AFTER_DEADLINE_S
    while any((states := (await gate.store.runs.overview()).states).values()):
        if clock.monotonic() > until_s:
            raise HeadgateError(f"runs without an end a minute after the last deadline: {dict(states)}")
        await asyncio.sleep(LOOK_S)


def _fate(asked: Asked, born_ms: int) -> Fate:
    run, promise = asked.run, asked.promise
    last = asked.refusals[-1] if asked.refusals else ""
    if run is None or promise is None:
        return Fate(
            asked.wish,
            asked.tries,
            admitted=False,
            refusals=tuple(asked.refusals),
            reason=last,
            returns=asked.returns,
            refused_s=tuple(asked.refused_s),
        )
    finished_s = None if run.finished_ms is None else (run.finished_ms - born_ms) / 1000
    return Fate(
        asked.wish,
        asked.tries,
        admitted=True,
        refusals=tuple(asked.refusals),
        succeeded=run.state is RunState.SUCCEEDED,
        finished_s=finished_s,
        started_s=None if run.started_ms is None else (run.started_ms - born_ms) / 1000,
        reason=str(run.reason),
        went_away=asked.went_away(finished_s),
        degraded=run.degraded,
        returns=asked.returns,
        returns_admitted=asked.returns_admitted,
        promised_start_s=promise.start_s,
        promised_p50_s=promise.finish_p50_s,
        promised_p90_s=promise.finish_p90_s,
        admitted_s=promise.at_s,
        refused_s=tuple(asked.refused_s),
    )


async def _unlimited(scenario: Scenario, drawn: Sequence[Wish], clock: LoopClock, seed: int) -> Played:
    world = World(scenario, clock=clock, seed=seed)
    agent = Agent(world, repairs=scenario.calls.repairs)
    control = Unlimited({WORKFLOW: agent.__call__}, clock=clock, rng=Random(f"{seed}/control"))
    watcher = Watcher(list(scenario.dependencies), world.inflight, Sight, now=clock.monotonic)
    beside = [asyncio.create_task(world.watch()), asyncio.create_task(watcher.watch())]
    beside.append(asyncio.create_task(world.people.work(lambda: None)))
    beside.append(asyncio.create_task(_lose_runs(scenario, control, clock)))
    born_ms, records = clock.now_ms(), []
    for wish in drawn:
        await asyncio.sleep(max(0.0, wish.at_s - clock.monotonic()))
        records.append(control.submit(WORKFLOW, wish.ticket, tenant=wish.tenant))
    until_s = scenario.seconds + max(lane.deadline for lane in scenario.lanes.values()) + AFTER_DEADLINE_S
    while control.running and clock.monotonic() < until_s:  # noqa: ASYNC110  the control tells nobody of its ends
        await asyncio.sleep(LOOK_S)
    await control.stop()
    watcher.end()
    for task in beside:
        task.cancel()
    await asyncio.gather(*beside, return_exceptions=True)
    fates = [
        Fate(
            wish,
            1,
            admitted=True,
            succeeded=record.state is RunState.SUCCEEDED,
            finished_s=None if record.finished_ms is None else (record.finished_ms - born_ms) / 1000,
            started_s=(record.submitted_ms - born_ms) / 1000,
            admitted_s=(record.submitted_ms - born_ms) / 1000,
            reason="succeeded" if record.state is RunState.SUCCEEDED else "error",
        )
        for wish, record in zip(drawn, records, strict=True)
    ]
    told, timeline = ledger_hash(fates, world.effects), watcher.timeline(fates, world.effects)
    return Played(
        scenario,
        seed,
        fates,
        world.effects,
        world.crowded_parts(),
        clock.monotonic(),
        told,
        len(world.effects),
        timeline=timeline,
    )


async def _lose_runs(scenario: Scenario, control: Unlimited, clock: LoopClock) -> None:
    """What restarts do to runs that are kept in memory only: those of the process that have not ended when its grace
    is over are lost. Every process has its share of the runs."""
    for stop in stops(scenario):
        await asyncio.sleep(max(0.0, stop.at_s - clock.monotonic()))
        begun = [one for nth, one in enumerate(control.records.values()) if nth % scenario.gates == stop.place]
        await asyncio.sleep(0.0 if scenario.restarts is None else scenario.restarts.grace)
        for record in begun:
            control.lose(record.id)
