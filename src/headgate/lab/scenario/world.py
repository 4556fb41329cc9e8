"""The dependencies of a scenario at work, and the ledger of everything they were made to do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from headgate.clock import Clock
from headgate.guard.ambient import current_resource
from headgate.lab.provider.physics import Answer, Call, ModelSpec
from headgate.lab.provider.service import Provider
from headgate.lab.scenario.description import Dependency, Scenario
from headgate.lab.scenario.people import People
from headgate.lab.weather import Spell

LOOK_EVERY_S = 0.5
CROWDED = 1.1
"""More calls in flight than this many times the knee of the moment is past the knee."""


@dataclass(slots=True)
class Effect:
    """One call as the dependency saw it."""

    run: int
    """The wish's number."""
    place: int
    """Which of the run's planned calls it is."""
    dependency: str
    began_s: float
    status: int = 0
    """0 while under way, and where the connection broke; 499 when the caller went away."""
    code: str = ""
    spent_s: float = 0.0
    """Seconds of the dependency's work that went into it, also after its caller went away."""
    ended_s: float | None = None
    tokens: int = 0
    """Of a model, what it reads and writes."""

    @property
    def billed(self) -> int:
        """Model tokens to pay for: of calls that were answered or abandoned at work. Refusals and errors are free."""
        return self.tokens if self.status == 200 or (self.status == 499 and self.spent_s > 0) else 0


class CallError(RuntimeError):
    """An answer other than 200, in the shape that guards read."""

    def __init__(self, answer: Answer, headers: Mapping[str, str]) -> None:
        self.status_code = answer.status
        wait_s = answer.retry_after_s
        self.headers = {**headers} if wait_s is None else {**headers, "retry-after": f"{wait_s:.0f}"}
        super().__init__(f"{answer.status} {answer.code}")


class World:
    """All dependencies of a scenario. Workflows call `ask` and `use`; the guard says through which resource."""

    def __init__(self, scenario: Scenario, *, clock: Clock, seed: int) -> None:
        self._clock = clock
        self._dependencies = scenario.dependencies
        spells = spells_of(scenario)
        specs = [spec_of(name, one) for name, one in scenario.dependencies.items()]
        self._provider = Provider(specs, clock=clock, rng=Random(f"{seed}/world"), spells=spells)
        self.people = People(scenario.people, rng=Random(f"{seed}/people"))
        self.effects: list[Effect] = []
        """The ledger, in order of time."""
        self.crowded: dict[str, int] = dict.fromkeys(scenario.dependencies, 0)
        """Looks at which a dependency was past its knee."""
        self.looks = 0
        self._open: dict[tuple[str, int], Effect] = {}
        for name, pool in self._provider.pools.items():
            pool.on_spent = self._spender(name)

    def is_model(self, dependency: str) -> bool:
        """Whether it is a model rather than a tool."""
        return self._dependencies[dependency].kind == "model"

    @property
    def repairer(self) -> str:
        """The model that is asked to repair requests to tools: the first that stands in for no other."""
        return next(n for n, one in self._dependencies.items() if one.kind == "model" and one.in_place_of is None)

    def inflight(self, dependency: str) -> int:
        """Calls that have a place there now."""
        return self._provider.pools[dependency].inflight

    async def ask(self, wanted: str, run: int, place: int, reads: int, writes: int) -> dict[str, Any]:
        """A model's answer with its usage; the model is the one whose guard this is called under, else ``wanted``.

        Raises:
            CallError: any other status than 200. ConnectionResetError: the connection broke.
        """
        name = current_resource() or wanted
        answer = await self._make(Call(name, reads, writes), run, place)
        text = {"": "fine", "empty": "", "malformed": '{"answer": "tru'}[answer.code]
        return {"text": text, "usage": {"input_tokens": reads, "output_tokens": writes}}

    async def use(self, wanted: str, run: int, place: int, size: float, turn: int = 0) -> str:
        """A tool's output, ``fine`` if it is; ``size`` as in `PlannedCall`, ``turn`` tells repaired requests apart.
        Raises as `ask` does."""
        name = current_resource() or wanted
        # a tool has no tokens: its size is told to the physics as what it would take to read, beyond the ordinary
        reads = round((size - 1) * self._dependencies[name].takes * self._dependencies[name].reads)
        return (await self._make(Call(name, reads, 0), run, place)).code or "fine"

    async def watch(self) -> None:
        """Note who is past the knee, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.looks += 1
            now = self._provider.now()
            for name, pool in self._provider.pools.items():
                weather = pool.weather(now)
                if pool.inflight > CROWDED * pool.spec.parallel * weather.capacity:
                    self.crowded[name] += 1

    def crowded_parts(self) -> dict[str, float]:
        """Part of the looks at which each dependency was past its knee."""
        return {name: looks / max(1, self.looks) for name, looks in self.crowded.items()}

    async def _make(self, call: Call, run: int, place: int) -> Answer:
        effect = Effect(
            run, place, call.model, self._clock.monotonic(), tokens=call.input_tokens + call.output_tokens
        )
        self.effects.append(effect)
        begun = self._provider.begin(call)
        if isinstance(begun, Answer):
            answer = begun
        else:
            self._open[call.model, begun.number] = effect
            try:
                answer = await begun.answer
            except asyncio.CancelledError:
                effect.status, effect.code, effect.ended_s = 499, "gone", self._clock.monotonic()
                raise
            finally:
                self._provider.leave(begun)
        effect.status, effect.code, effect.ended_s = answer.status, answer.code, self._clock.monotonic()
        if answer.status == 0:
            raise ConnectionResetError("the connection broke")
        if answer.status != 200:
            raise CallError(answer, self._provider.pools[call.model].headers(self._provider.now()))
        return answer

    def _spender(self, name: str) -> Any:
        def spent(number: int, seconds: float) -> None:
            effect = self._open.pop((name, number), None)
            if effect is not None:
                effect.spent_s = seconds

        return spent


def spells_of(scenario: Scenario) -> list[Spell]:
    """The scenario's troubles."""
    return [
        Spell(one.since, one.until, one.capacity, one.slow, one.errors, tuple(one.on), one.fault, one.stalled)
        for one in scenario.troubles
    ]


def spec_of(name: str, one: Dependency) -> ModelSpec:
    """The physics of a described dependency."""
    return ModelSpec(
        name,
        parallel=one.parallel,
        most=one.most,
        first_s=one.takes,
        read_tokens_s=one.reads,
        write_tokens_s=one.writes,
        noise=one.noise,
        thrash=one.thrash,
        requests_per_min=one.requests_per_min,
        tokens_per_min=one.tokens_per_min,
        goes_on=one.goes_on,
    )
