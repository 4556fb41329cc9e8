"""What a run does: the calls it will make, drawn beforehand, and the workflow that makes them.

Drawn beforehand, so that every policy meets the same work and the bound can know it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random
from typing import TYPE_CHECKING, Any

from headgate.lab.scenario.description import Calls, Dependency

if TYPE_CHECKING:
    from headgate.lab.scenario.world import World

REVIEW = "review"
"""The optional part of a run; the degrade ladder may skip it."""
ANSWER_TOKENS = "answer_tokens"
"""The knob that bounds what a model writes in one call."""
NO_BOUND = 1_000_000
CALLS_AT_MOST = 400
"""Of one agent request; its shape's 99.9th percentile is below."""


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One call that a run will make."""

    dependency: str
    reads: int = 0
    writes: int = 0
    size: float = 1.0
    """How many times the dependency's ordinary time it takes."""
    part: str = ""
    """The optional part it belongs to; empty is always done."""

    def as_json(self) -> list[Any]:
        return [self.dependency, self.reads, self.writes, self.size, self.part]


Plan = tuple[PlannedCall, ...]


def draw_plan(
    calls: Calls, dependencies: Mapping[str, Dependency], rng: Random, *, sizes: tuple[int, int] | None = None
) -> Plan:
    """The calls of one run. ``sizes`` are model tokens (read, written) that a trace prescribes for its answer."""
    models = [n for n, one in dependencies.items() if one.kind == "model" and one.in_place_of is None]
    tools = [n for n, one in dependencies.items() if one.kind == "tool"]
    if calls.shape == "agent":
        return _agent_plan(calls, models, tools, rng)
    count = rng.randint(calls.least, calls.most)
    plan: list[PlannedCall] = []
    reads = round(600 * math.exp(rng.gauss(0, 0.5)))
    for place in range(count - 1):
        if place % 2 == 0 and models:
            writes = round(180 * math.exp(rng.gauss(0, 0.6)))
            part = REVIEW if place >= 4 and place == count - 2 else ""
            plan.append(PlannedCall(rng.choice(models), reads, writes, part=part))
            reads = min(12_000, reads + writes + round(400 * math.exp(rng.gauss(0, 0.6))))
        else:
            plan.append(PlannedCall(rng.choice(tools[:-1] or tools)))
    plan.append(PlannedCall(tools[-1] if tools else models[0], reads if not tools else 0))
    if sizes is not None:
        last = max((i for i, one in enumerate(plan) if one.dependency in models), default=None)
        if last is not None:
            plan[last] = PlannedCall(plan[last].dependency, min(sizes[0], 60_000), sizes[1])
    return tuple(plan)


def _agent_plan(calls: Calls, models: Sequence[str], tools: Sequence[str], rng: Random) -> Plan:
    """One request to a coding agent: model calls, each followed by the tool calls it asked for."""
    shape = agent_shape()
    request, model, tool = shape["per_request"], shape["per_model_call"], shape["per_tool_call"]
    plan: list[PlannedCall] = []
    steps = 1 + round(_drawn(request["tool_initiated_model_calls"], rng))
    context = _drawn(model["cached_input_tokens"] | {"p90": 200_000, "p99": 400_000}, rng) / 20
    for step in range(1, steps + 1):
        context += _drawn(model["new_input_tokens"] | {"p90": 6_000, "p99": 40_000}, rng)
        writes = _drawn(model["output_tokens"] | {"p90": 900, "p99": 3_500}, rng)
        plan.append(PlannedCall(rng.choice(models), round(context * 0.043), max(1, round(writes / calls.pace))))
        for _ in range(round(_drawn(model["tool_calls"], rng)) if step < steps else 0):
            seconds = _drawn(tool["time"] | {"p99": 216}, rng) / calls.pace
            plan.append(PlannedCall(rng.choice(tools), size=round(max(0.05, seconds), 3)))
        if len(plan) >= CALLS_AT_MOST:
            break
    return tuple(plan[:CALLS_AT_MOST])


@cache
def agent_shape() -> dict[str, Any]:
    """Quantiles of real coding-agent sessions; the file says whose."""
    text = (files("headgate.lab") / "traces" / "agent_shape.json").read_text(encoding="utf-8")
    shape: dict[str, Any] = json.loads(text)
    return shape


def _drawn(quantiles: Mapping[str, float], rng: Random) -> float:
    """A value from quantiles (p25, p50, …), straight in logarithms between them, held at the outermost."""
    points = sorted((int(name[1:]) / 100, math.log1p(value)) for name, value in quantiles.items() if name[0] == "p")
    chance = rng.random()
    below = (0.0, math.log1p(math.expm1(points[0][1]) / 3))
    for point in (*points, (1.0, points[-1][1])):
        if chance <= point[0]:
            span = point[0] - below[0]
            return math.expm1(below[1] + (point[1] - below[1]) * ((chance - below[0]) / span if span else 1.0))
        below = point
    return math.expm1(below[1])


class Agent:
    """The workflow: the planned calls one after the other. ``run`` is a `headgate.Run` or an `UnlimitedRun`."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def __call__(self, run: Any, ticket: dict[str, Any]) -> str:
        number, world = ticket["number"], self._world
        at_most = run.knob(ANSWER_TOKENS, NO_BOUND)
        for place, (dependency, reads, writes, size, part) in enumerate(ticket["plan"]):
            if part and not run.allows(part):
                continue
            if world.is_model(dependency):
                await run.call(
                    dependency,
                    world.ask,
                    dependency,
                    number,
                    place,
                    reads,
                    min(writes, int(at_most)),
                    check=usable,
                    model_tokens=reads + 200,
                )
            else:
                await run.call(dependency, world.use, dependency, number, place, size)
        return "done"


def usable(answer: Any) -> bool:
    """Whether a model's answer is one: an empty or cut-off body is not."""
    return isinstance(answer, dict) and answer.get("text") == "fine"
