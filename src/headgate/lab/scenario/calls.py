"""What a run does: the calls it will make, drawn beforehand, and the workflow that makes them.

Drawn beforehand, so that every policy meets the same work and the bound can know it.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random
from typing import TYPE_CHECKING, Any

from headgate.errors import LoopDetected, UnusableResult
from headgate.lab.scenario.description import Calls, Dependency
from headgate.runs.context import Run

if TYPE_CHECKING:
    from headgate.lab.scenario.world import World

REVIEW = "review"
"""The optional part of a run; the degrade ladder may skip it."""
ANSWER_TOKENS = "answer_tokens"
"""The knob that bounds what a model writes in one call."""
NO_BOUND = 1_000_000
REPAIR_READS, REPAIR_WRITES = 800, 120
"""Model tokens of asking a model to repair a request; each further time has all earlier ones in its prompt."""
CALLS_AT_MOST = 400
"""Of one agent request; its shape's 99.9th percentile is below."""


LOOP, SPLIT, ASK = "loop", "split", "ask"
"""What a run does that is not a plain call: go round in circles, have a part done by sub-runs, ask people."""
LOOP_PLACE = 500
"""Calls of a circle are numbered from here on, for the ledger."""
PLACES = 1000
"""Numbers that each run of a tree has for its calls."""


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One call that a run will make, or with ``does`` something else that it does."""

    dependency: str
    """With ``ask`` the queue."""
    reads: int = 0
    """With ``loop`` what each round adds to the prompts."""
    writes: int = 0
    size: float = 1.0
    """How many times the dependency's ordinary time it takes."""
    part: str = ""
    """The optional part it belongs to; empty is always done."""
    does: str = ""
    times: int = 0
    """Rounds of a loop; sub-runs side by side."""
    inner: tuple[PlannedCall, ...] = ()
    """The calls of one round, or of one sub-run."""

    def as_json(self) -> list[Any]:
        """As it stands in a run's input."""
        plain = [self.dependency, self.reads, self.writes, self.size, self.part]
        return [*plain, self.does, self.times, [one.as_json() for one in self.inner]] if self.does else plain


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
        if models and (place % 2 == 0 or not tools):
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
    """The workflow: what is planned, one after the other. ``run`` is a `headgate.Run`, or what another policy hands
    out instead: it needs ``call``, ``knob`` and ``allows``. With such a run, people are asked directly and without a
    bound, and sub-runs are parts of the same run.
    """

    def __init__(self, world: World, *, repairs: int = 0) -> None:
        self._world = world
        self._repairs = repairs

    async def __call__(self, run: Any, ticket: dict[str, Any]) -> str:
        """``node`` of the ticket is the run's place in its tree of sub-runs, 0 for the run that was asked for."""
        node = ticket.get("node", 0)
        doing = _Doing(run, self._world, ticket["number"], self._repairs)
        for place, (dependency, reads, writes, size, part, *odd) in enumerate(ticket["plan"], node * PLACES):
            if part and not run.allows(part):
                continue
            if not odd:
                await doing.call(dependency, place, reads, writes, size)
            elif odd[0] == LOOP:
                await doing.loop(node * PLACES + LOOP_PLACE, odd[1], reads, odd[2])
            elif odd[0] == ASK:
                await self._ask(run, dependency, ticket["number"])
            else:
                nodes = [node * odd[1] + nth for nth in range(1, odd[1] + 1)]
                await self._split(run, [{**ticket, "plan": odd[2], "node": one} for one in nodes])
        return "done"

    async def _ask(self, run: Any, queue: str, number: int) -> None:
        if isinstance(run, Run):
            await run.approval(queue, {"number": number})
        else:
            await self._world.people.ask(queue)

    async def _split(self, run: Any, tickets: Sequence[dict[str, Any]]) -> None:
        if isinstance(run, Run):
            await run.map(run.workflow, tickets)
            return
        ended = await asyncio.gather(*(self(run, ticket) for ticket in tickets), return_exceptions=True)
        for one in ended:
            if isinstance(one, BaseException):
                raise one


class _Doing:
    """The calls of one run."""

    def __init__(self, run: Any, world: World, number: int, repairs: int) -> None:
        self._run, self._world, self._number, self._repairs = run, world, number, repairs
        self._at_most = int(run.knob(ANSWER_TOKENS, NO_BOUND))

    async def call(self, dependency: str, place: int, reads: int, writes: int, size: float) -> None:
        """One plain call. A tool's unusable output is repaired, if this agent does that."""
        if self._world.is_model(dependency):
            await self._model(dependency, place, reads, writes)
            return
        for turn in range(self._repairs + 1):
            try:
                await self._run.call(
                    dependency, self._world.use, dependency, self._number, place, size, turn, check=useful
                )
                return
            except UnusableResult:
                if turn == self._repairs:
                    raise
            # what the repair costs belongs to the tool's call, so that it counts as a repetition of it
            await self._model(self._world.repairer, place, REPAIR_READS * (turn + 1), REPAIR_WRITES)

    async def loop(self, place: int, rounds: int, grows: int, inner: Sequence[Sequence[Any]]) -> None:
        """The same again and again; that it is told so changes nothing."""
        for turn in range(rounds):
            for nth, (dependency, reads, writes, size, *_) in enumerate(inner):
                with suppress(LoopDetected):
                    await self.call(dependency, place + nth, reads + (turn * grows if writes else 0), writes, size)

    async def _model(self, dependency: str, place: int, reads: int, writes: int) -> None:
        await self._run.call(
            dependency,
            self._world.ask,
            dependency,
            self._number,
            place,
            reads,
            min(writes, self._at_most),
            check=usable,
            model_tokens=reads + 200,
        )


def usable(answer: Any) -> bool:
    """Whether a model's answer is one: an empty or cut-off body is not."""
    return isinstance(answer, dict) and answer.get("text") == "fine"


def useful(output: Any) -> bool:
    """Whether a tool's output is what it should be."""
    return bool(output == "fine")
