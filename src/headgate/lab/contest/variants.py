"""headgate with something about it changed: perfect limits, or one mechanism off.

Everything here is what its users could do: keys of the configuration, overrides by an operator, and callers who do
not name their lane or tenant. What a mechanism contributes is the difference to headgate as the scenario has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from headgate.config.resource_settings import ResourceSettings
from headgate.config.settings import GateSettings
from headgate.config.units import Concurrency
from headgate.config.workflow_settings import WorkflowSettings
from headgate.gate import Gate
from headgate.lab.scenario.description import Scenario
from headgate.lab.scenario.play import Played, play
from headgate.lab.scenario.users import WORKFLOW
from headgate.lab.scenario.world import spells_of
from headgate.lab.virtual_time import LoopClock
from headgate.lab.weather import next_change, weather_at

Change = Callable[[GateSettings], GateSettings]

GUESS = ResourceSettings().concurrency
"""What a resource has when nothing is said: the guess of somebody who does not let it adapt."""


@dataclass(frozen=True, slots=True)
class Ablation:
    """One mechanism off."""

    name: str
    """Of the mechanism."""
    title: str
    change: Change | None = None
    untold: tuple[str, ...] = ()
    """What callers do not name; see `play`."""


def play_without(ablation: Ablation, scenario: Scenario, *, seed: int, without: Sequence[str] = ()) -> Played:
    """Play with the mechanism off. ``without``: tenants that stay away."""
    settings = scenario.headgate if ablation.change is None else ablation.change(scenario.headgate)
    changed = scenario.model_copy(update={"headgate": settings})
    return play(changed, seed=seed, without=without, untold=ablation.untold)


def play_with_perfect_limits(scenario: Scenario, *, seed: int, without: Sequence[str] = ()) -> Played:
    """Play with every limit at the knee of the moment, as if an operator knew all troubles beforehand.

    The knee is ``parallel`` times the capacity that the weather leaves, shared by the gates; a stall or a hang leaves
    it where it is. Nothing is learned about concurrency; everything else is headgate as configured.
    """
    knees = {
        name: Concurrency(*(2 * [_share(one.parallel, scenario)])) for name, one in scenario.dependencies.items()
    }

    def fixed(name: str, one: ResourceSettings) -> dict[str, object]:
        return {"concurrency": knees[name]} if name in knees else {}

    changed = scenario.model_copy(update={"headgate": _resources(fixed)(scenario.headgate)})
    return play(changed, seed=seed, without=without, aside=partial(_follow_the_weather, scenario))


async def _follow_the_weather(scenario: Scenario, gates: Sequence[Gate], clock: LoopClock) -> None:
    spells = spells_of(scenario)
    turn = 0.0 if any(spell.start_s == 0 for spell in spells) else next_change(spells, 0.0)
    while turn is not None:
        await asyncio.sleep(turn - clock.monotonic())
        for name, one in scenario.dependencies.items():
            capacity = weather_at(spells, turn, name).capacity
            for gate in gates:
                resource = gate.resource(name)
                if capacity == 1.0:
                    resource.reset()
                else:
                    resource.override(limit=_share(capacity * one.parallel, scenario), reason="the weather")
        turn = next_change(spells, turn)


def _share(calls: float, scenario: Scenario) -> int:
    """Of one gate; they know nothing of each other's calls."""
    return max(1, round(calls / scenario.gates))


def ablations() -> tuple[Ablation, ...]:
    """All of them, in order."""
    return (
        Ablation(
            "adaptive",
            f"fixed concurrency, {GUESS.most} each",
            _resources(lambda name, one: {"concurrency": GUESS}),
        ),
        Ablation("breaker", "no circuit breaker", _resources(lambda name, one: {"breaker": None})),
        Ablation(
            "retry-budget",
            "a retry for every success",
            _resources(lambda name, one: {"retry": one.retry.model_copy(update={"budget": 1.0})}),
        ),
        Ablation("feasibility", "what would be late is taken in", _workflow(when_late="accept")),
        Ablation("fairness", "all runs one tenant's", untold=("tenant",)),
        Ablation("lanes", "all runs in one lane", untold=("lane",)),
        Ablation("shedding", "nothing sheddable, shed_at 100 %", _no_shedding),
        Ablation("degrade", "no degrade ladder", _workflow(degrade=())),
        Ablation("fallback", "no stand-ins", _resources(lambda name, one: {"fallback": ()})),
        Ablation("preemption", "no preemption", lambda settings: settings.model_copy(update={"preemption": None})),
    )


def _resources(change: Callable[[str, ResourceSettings], dict[str, object]]) -> Change:
    """Change every tool, model and stage."""

    def changed(settings: GateSettings) -> GateSettings:
        return settings.model_copy(
            update={
                kind: {
                    name: one.model_copy(update=change(name, one)) for name, one in getattr(settings, kind).items()
                }
                for kind in ("tools", "models", "stages")
            }
        )

    return changed


def _workflow(**update: object) -> Change:
    """Change the workflow that the scenarios play."""

    def changed(settings: GateSettings) -> GateSettings:
        known = settings.workflows.get(WORKFLOW, WorkflowSettings())
        return settings.model_copy(
            update={"workflows": {**settings.workflows, WORKFLOW: known.model_copy(update=update)}}
        )

    return changed


def _no_shedding(settings: GateSettings) -> GateSettings:
    lanes = {name: one.model_copy(update={"sheddable": False}) for name, one in settings.lanes.items()}
    return settings.model_copy(update={"lanes": lanes, "shed_at": 1.0})
