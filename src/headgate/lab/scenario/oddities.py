"""Runs that are not ordinary: which they are, and what becomes of an ordinary plan.

Everything is drawn beforehand, so that every policy meets the same odd runs. What a plan says of them is carried out
by `headgate.lab.scenario.calls.Agent`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from random import Random

from headgate.lab.scenario.behaviours import Behaviours, Growing, Looping
from headgate.lab.scenario.calls import ASK, LOOP, SPLIT, Plan, PlannedCall
from headgate.lab.scenario.description import Dependency


def drawn_behaviour(behaviours: Behaviours, rng: Random) -> str:
    """The behaviour of the next run; empty is an ordinary one."""
    parts = behaviours.parts()
    if not parts:
        return ""
    names = [*parts, ""]
    return rng.choices(names, [*parts.values(), max(0.0, 1 - math.fsum(parts.values()))])[0]


def behaved(
    plan: Plan, behaviour: str, behaviours: Behaviours, dependencies: Mapping[str, Dependency], rng: Random
) -> Plan:
    """The plan as a run of this behaviour has it."""
    if behaviour == "looping" and behaviours.looping is not None:
        return _looping(plan, behaviours.looping, dependencies, rng)
    if behaviour == "growing" and behaviours.growing is not None:
        return _growing(plan, behaviours.growing)
    nesting = behaviours.runaway if behaviour == "runaway" else behaviours.delegating
    if behaviour in ("runaway", "delegating") and nesting is not None:
        return _split(plan, nesting.fan, nesting.levels)
    if behaviour == "asking" and behaviours.asking is not None:
        return (*plan[:-1], PlannedCall(behaviours.asking.queue, does=ASK), *plan[-1:])
    return plan


def needed(plan: Plan) -> Plan:
    """The plain calls that the run cannot do without, those of its sub-runs included; going round in circles is
    needed by nobody."""
    found: list[PlannedCall] = []
    for one in plan:
        if not one.does:
            found.append(one)
        elif one.does == SPLIT:
            found += needed(one.inner) * one.times
    return tuple(found)


def in_a_row(plan: Plan) -> Plan:
    """The plain calls of which each waits for the one before: sub-runs side by side count once."""
    found: list[PlannedCall] = []
    for one in plan:
        if not one.does:
            found.append(one)
        elif one.does == SPLIT:
            found += in_a_row(one.inner)
    return tuple(found)


def questions(plan: Plan, queue: str) -> int:
    """How often the run asks the people of ``queue``."""
    return sum(one.does == ASK and one.dependency == queue for one in plan)


def _looping(plan: Plan, settings: Looping, dependencies: Mapping[str, Dependency], rng: Random) -> Plan:
    model = next(one for one in plan if dependencies[one.dependency].kind == "model")
    tools = [name for name, one in dependencies.items() if one.kind == "tool"]
    inner = (model, *((PlannedCall(rng.choice(tools)),) if tools else ()))
    place = rng.randrange(1, len(plan))
    return (
        *plan[:place],
        PlannedCall("", settings.grows, does=LOOP, times=settings.rounds, inner=inner),
        *plan[place:],
    )


def _growing(plan: Plan, settings: Growing) -> Plan:
    found, times = [], 1.0
    for one in plan:
        if one.writes:
            found.append(replace(one, reads=max(one.reads, min(settings.at_most, round(one.reads * times)))))
            times *= settings.times
        else:
            found.append(one)
    return tuple(found)


def _split(plan: Plan, fan: int, levels: int) -> Plan:
    """Half of the calls, then sub-runs with the same plan, one generation less, then the last call."""
    first, inner = plan[: max(1, len(plan) // 2)], tuple[PlannedCall, ...]()
    for _ in range(levels):
        inner = (*first, PlannedCall("", does=SPLIT, times=fan, inner=inner)) if inner else first
    return (*first, PlannedCall("", does=SPLIT, times=fan, inner=inner), *plan[-1:])
