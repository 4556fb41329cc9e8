"""What one attempt works with: its journal, its budget, its ladder, and the worker's equipment."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from headgate.clock import Clock
from headgate.config.settings import GateSettings, WorkflowSettings
from headgate.guard.registry import Resources
from headgate.model.degradation import Degradation
from headgate.model.reason import Reason
from headgate.observe.bus import EventBus
from headgate.policy.cost_profile import LEAST_OF_WORKFLOW, Profile, quantile
from headgate.policy.degrade import NOTHING, Active, for_slack, remaining_path_s
from headgate.runs.attempt import Attempt
from headgate.runs.children import Children, Door
from headgate.runs.degrading import Ladder, Ladders
from headgate.runs.experience import Experience, Stretches
from headgate.runs.journal import StepJournal
from headgate.runs.loops import LoopWatch
from headgate.runs.repairs import Repairs
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
    stretches: Stretches = field(default_factory=Stretches)
    door: Door | None = None
    """Where sub-runs come in."""
    profile: Callable[[str], Profile | None] = lambda workflow: None
    """What runs of a workflow take, as all workers have learned."""
    repairs: Repairs = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "repairs", Repairs(self.resources, self.clock))


PLAIN = WorkflowSettings()
"""What a workflow without settings has."""


class Progress:
    """How far an attempt has come."""

    __slots__ = (
        "_children",
        "_journal",
        "_loops",
        "_may_move",
        "_own",
        "_resource",
        "active",
        "attempt",
        "equipment",
        "ladder",
        "looks",
        "meter",
        "workflow",
    )

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
        self.active = NOTHING
        """What the ladder said last."""
        self._own = 0
        """Rungs that the run takes for its slack."""
        self._may_move = True
        self._resource: str | None = None
        """What it has called last."""

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
            # not by way of ``self.tell``, with which every run would wait for the collector of cycles
            tell = partial(_tell, self.attempt, self.equipment.bus)
            self._loops = LoopWatch(self.workflow.loops, self.attempt, tell)
        return self._loops

    def tell(self, name: str, **fields: Any) -> None:
        """Emit an event about this run."""
        _tell(self.attempt, self.equipment.bus, name, **fields)

    def decide(self, resource: str | None = None) -> Active:
        """What the ladder says at this moment: for a call on ``resource``, or for a choice outside of calls. Each
        call, and the first choice after it, moves the rungs that the run takes for its slack by one at most."""
        ladder = self.ladder
        if not len(ladder):
            return NOTHING
        if resource is not None:
            ladder.called(resource)
            self._resource = resource
        taken = ladder.pressed()
        if resource is not None or self._may_move:
            self._own = self._for_slack(taken)
            self._may_move = resource is not None
        self.active = ladder.active(own=self._own, whole=self.attempt.run.degraded)
        return self.active

    def _for_slack(self, taken: Collection[int]) -> int:
        deadline_ms, share, equipment = self.attempt.run.deadline_ms, self.workflow.degrade_slack, self.equipment
        if deadline_ms is None or share is None:
            return 0
        watch = equipment.ladders.watch
        wait_s = 0.0 if watch is None or self._resource is None else watch.of(self._resource).wait_s
        return for_slack(
            self._own,
            rungs=len(self.ladder),
            taken=taken,
            need_s=wait_s + self.remaining_s(),
            slack_s=(deadline_ms - equipment.clock.now_ms()) / 1000,
            share=share,
        )

    def too_late(self) -> str | None:
        """Why it is not worth starting: an ordinary run that stays as long as its lane's runs do lately would not end
        by the deadline. ``None``: it is, nothing is known, or its workflow takes what is late."""
        run, clock = self.attempt.run, self.equipment.clock
        if self.workflow.when_late == "accept":
            return None
        if run.deadline_ms is None or run.degraded:  # what is known is mostly of the whole path
            return None
        left_s = (run.deadline_ms - clock.now_ms()) / 1000
        needs_s = self.remaining_s() * self.equipment.stretches.of(run.lane, clock.monotonic())
        return f"it needs about {needs_s:.1f} s and has {left_s:.1f} s" if needs_s > left_s else None

    def remaining_s(self) -> float:
        """Seconds of work that an ordinary run has left here; 0 while nothing is known."""
        attempt, equipment = self.attempt, self.equipment
        calls, worked_s = self.meter.used_calls, min(attempt.worked_s, attempt.ran_s)
        known, _ = equipment.experience.outlook(
            attempt.run.workflow, calls=calls, ran_s=worked_s, now=equipment.clock.monotonic()
        )
        if known is not None:
            return known
        profile = equipment.profile(attempt.run.workflow)
        if profile is None or profile.ends < LEAST_OF_WORKFLOW:
            return 0.0
        ran_s, wall_s, usual = (quantile(profile, name, high=False) for name in ("ran_s", "wall_s", "calls"))
        return remaining_path_s(path_s=min(ran_s, wall_s), calls=usual, done_calls=calls, worked_s=worked_s)

    def instead_of(self, resource: str) -> str:
        """The resource that is called in place of this one: only while it is the quicker one, or the stand-in would
        go on filling up while the other one has long recovered."""
        active, watch = self.decide(resource), self.equipment.ladders.watch
        target = active.models.get(resource, resource)
        if target == resource or watch is None:
            return target
        return resource if watch.slower(target, resource) else target

    def why(self, item: tuple[str, str]) -> str:
        """Why that (kind, name) of the ladder applies, as a `Reason`."""
        if self.attempt.run.degraded:
            return Reason.CHEAPER_PATH.value
        return (Reason.SLACK if item in self.active.hurried else Reason.SHED).value

    def note_degraded(self, words: str, what: Degradation) -> None:
        """Something was done more cheaply."""
        self.attempt.cheaper.note(words, what)
        equipment = self.equipment
        if equipment.bus.active:
            equipment.bus.emit(
                "run_degraded",
                **whose(self.attempt),
                reason=what.why,
                what=what.what,
                old=what.before,
                new=what.after,
                pressure=equipment.ladders.pressure(self.attempt.run.workflow),
            )


def _tell(attempt: Attempt, bus: EventBus, name: str, **fields: Any) -> None:
    if bus.active:
        bus.emit(name, **whose(attempt), **fields)


def whose(attempt: Attempt) -> dict[str, str]:
    """The fields of events that say whose run this is."""
    run = attempt.run
    return {"run_id": run.id, "workflow": run.workflow, "tenant": run.tenant, "lane": run.lane}
