"""Plays a scenario with a rival, in virtual time: same world, same wishes, same people."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

from headgate.errors import HeadgateError
from headgate.lab.contest.rivals.facts import WorldFacts, facts_of
from headgate.lab.contest.rivals.field import Recipe
from headgate.lab.contest.rivals.guarded import Guarded
from headgate.lab.contest.rivals.service import Record, Service
from headgate.lab.scenario.calls import Agent
from headgate.lab.scenario.description import Scenario
from headgate.lab.scenario.fleet import stops
from headgate.lab.scenario.play import AFTER_DEADLINE_S, LOOK_S, Fate, Played, collecting_rarely, ledger_hash
from headgate.lab.scenario.timeline import Watcher
from headgate.lab.scenario.traffic import Wish, wishes
from headgate.lab.scenario.users import Asked, Users
from headgate.lab.scenario.world import World
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.model.run import RunState


def play_rival(recipe: Recipe, scenario: Scenario, *, seed: int, without: Sequence[str] = ()) -> Played:
    """With this policy instead of headgate. ``without``: tenants that stay away.

    Raises:
        HeadgateError: runs were left without an end.
    """
    drawn = wishes(scenario, seed, without=without)
    facts = facts_of(scenario)
    with collecting_rarely():
        return run_virtual(lambda clock: _play(recipe, facts, scenario, drawn, clock, seed))


async def _play(
    recipe: Recipe, facts: WorldFacts, scenario: Scenario, drawn: Sequence[Wish], clock: LoopClock, seed: int
) -> Played:
    world = World(scenario, clock=clock, seed=seed)
    guards = {
        name: Guarded(
            name, recipe.rules(one, Random(f"{seed}/rules/{name}")), clock=clock, rng=Random(f"{seed}/calls/{name}")
        )
        for name, one in facts.dependencies.items()
    }
    service = Service(
        Agent(world, repairs=scenario.calls.repairs).__call__,
        guards,
        clock=clock,
        intake=recipe.intake(facts, clock),
        tells_late=recipe.tells_late,
        stand_ins={name: one.stand_ins for name, one in facts.dependencies.items()},
        ranks={lane: rank for rank, lane in enumerate(facts.lanes)},
    )
    users = Users([service], clock, tries=scenario.users.tries)
    watcher = Watcher(list(scenario.dependencies), world.inflight, service.sight, now=clock.monotonic)
    beside = [asyncio.create_task(world.watch()), asyncio.create_task(watcher.watch())]
    beside.append(asyncio.create_task(world.people.work(lambda: None)))
    beside.append(asyncio.create_task(_lose_runs(scenario, service, clock)))
    await users.come(drawn)
    until_s = scenario.seconds + max(lane.deadline for lane in scenario.lanes.values()) + AFTER_DEADLINE_S
    while service.running:
        if clock.monotonic() > until_s:
            raise HeadgateError(f"{recipe.name}: {service.running} runs have no end a minute after the last deadline")
        await asyncio.sleep(LOOK_S)
    watcher.end()
    for task in beside:
        task.cancel()
    await asyncio.gather(*beside, return_exceptions=True)
    fates = [_fate(asked, service.records) for asked in users.asked]
    return Played(
        scenario,
        seed,
        fates,
        world.effects,
        world.crowded_parts(),
        clock.monotonic(),
        ledger_hash(fates, world.effects),
        len(world.effects),
        timeline=watcher.timeline(fates, world.effects),
    )


async def _lose_runs(scenario: Scenario, service: Service, clock: LoopClock) -> None:
    """What restarts do to runs that are kept in memory only, as in the control with no limits."""
    for stop in stops(scenario):
        await asyncio.sleep(max(0.0, stop.at_s - clock.monotonic()))
        begun = [one for nth, one in enumerate(service.records) if nth % scenario.gates == stop.place]
        await asyncio.sleep(0.0 if scenario.restarts is None else scenario.restarts.grace)
        for run_id in begun:
            await service.leave(run_id)


def _fate(asked: Asked, records: dict[str, Record]) -> Fate:
    if asked.run_id is None:
        return Fate(
            asked.wish,
            asked.tries,
            admitted=False,
            refusals=tuple(asked.refusals),
            reason=asked.refusals[-1] if asked.refusals else "",
            refused_s=tuple(asked.refused_s),
        )
    record = records[asked.run_id]
    return Fate(
        asked.wish,
        asked.tries,
        admitted=True,
        refusals=tuple(asked.refusals),
        succeeded=record.state is RunState.SUCCEEDED,
        finished_s=record.finished_s,
        started_s=record.started_s,
        reason=record.reason,
        went_away=asked.went_away(record.finished_s),
        admitted_s=record.admitted_s,
        refused_s=tuple(asked.refused_s),
    )
