"""What one attempt works with: its journal, its budget, its ladder, and the worker's equipment."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from headgate.clock import Clock
from headgate.config.settings import GateSettings, WorkflowSettings
from headgate.guard.registry import Resources
from headgate.model.reason import Reason
from headgate.observe.bus import EventBus
from headgate.policy.degrade import Active
from headgate.runs.attempt import Attempt
from headgate.runs.children import Children, Door
from headgate.runs.degrading import Ladder, Ladders
from headgate.runs.experience import Experience
from headgate.runs.journal import StepJournal
from headgate.runs.loops import LoopWatch
from headgate.store.protocols import Store


@dataclass(frozen=True, slots=True)
class Equipment:
    """What every attempt of one worker works with."""

    store: Store
    resources: Resources
    settings: GateSettings
    clock: Clock
    rng: Random
    bus: EventBus
    ladders: Ladders
    experience: Experience = field(default_factory=Experience)
    door: Door | None = None
    """Where sub-runs come in."""


PLAIN = WorkflowSettings()
"""What a workflow without settings has."""


class Progress:
    """How far an attempt has come."""

    __slots__ = ("_children", "_journal", "_loops", "attempt", "equipment", "ladder", "looks", "meter", "workflow")

    def __init__(self, attempt: Attempt, equipment: Equipment) -> None:
        self.attempt = attempt
        self.equipment = equipment
        self.meter = attempt.meter
        self._journal: StepJournal | None = None
        self._loops: LoopWatch | None = None
        self._children: Children | None = None
        self.looks: dict[tuple[str, str], int] = {}
        """How often a branch looked at its run since its last step; see `headgate.runs.looks`."""
        self.workflow: WorkflowSettings = equipment.settings.workflows.get(attempt.run.workflow, PLAIN)
        self.ladder: Ladder = equipment.ladders.of(attempt.run.workflow)

    @property
    def journal(self) -> StepJournal:
        """What the run remembers; made when it is first needed."""
        if self._journal is None:
            self._journal = StepJournal(self.attempt, self.equipment.store.journal)
        return self._journal

    @property
    def children(self) -> Children:
        """Its sub-runs; made when they are first needed."""
        if self._children is None:
            self._children = Children(self)
        return self._children

    @property
    def loops(self) -> LoopWatch | None:
        """The loop detection, unless the workflow has none."""
        if self._loops is None and self.workflow.loops is not None:
            self._loops = LoopWatch(self.workflow.loops, self.attempt, self.tell)
        return self._loops

    def tell(self, name: str, **fields: Any) -> None:
        """Emit an event about this run."""
        if self.equipment.bus.active:
            self.equipment.bus.emit(name, **whose(self.attempt), **fields)

    @property
    def active(self) -> Active:
        """What the ladder says at this moment."""
        return self.ladder.active(whole=self.attempt.run.degraded)

    def note_degraded(self, words: str, *, what: str, old: Any, new: Any) -> None:
        """Something was done more cheaply."""
        self.attempt.degraded.append(words)
        equipment = self.equipment
        if equipment.bus.active:
            equipment.bus.emit(
                "run_degraded",
                **whose(self.attempt),
                reason=Reason.QUEUE_FULL if self.attempt.run.degraded else Reason.SHED,
                what=what,
                old=old,
                new=new,
                pressure=equipment.ladders.pressure(),
            )


def whose(attempt: Attempt) -> dict[str, str]:
    """The fields of events that say whose run this is."""
    run = attempt.run
    return {"run_id": run.id, "workflow": run.workflow, "tenant": run.tenant, "lane": run.lane}
