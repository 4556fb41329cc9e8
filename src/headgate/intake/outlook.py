"""What intake knows about the queues: a snapshot of the store, drain rates, pressure, and promises made.

Refreshed about once a second by the gate; decisions between two refreshes go by the last one. The bounds
themselves are never judged from here: those are exact, in the store's transaction.
"""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from random import Random

from headgate.clock import Clock
from headgate.config.settings import GateSettings
from headgate.errors import HeadgateError
from headgate.guard.resource import ResourceStatistics
from headgate.intake.audits import Audits, Probe
from headgate.intake.estimates import Estimates
from headgate.intake.excess import Excess
from headgate.intake.forecast import Forecaster
from headgate.intake.holdback import Holdback
from headgate.intake.in_force import NOTHING, InForce
from headgate.intake.lateness import Lateness
from headgate.intake.people import Asker, PeopleOutlook, Traffic
from headgate.intake.queue_pressure import QueuePressure
from headgate.intake.shedding import Shedder, overload
from headgate.model.cost import Evidence
from headgate.model.decision import Refusal
from headgate.model.reason import Reason
from headgate.observe.bus import EventBus
from headgate.policy import cost_profile, eta, pressure, retry_after
from headgate.policy.eta import DrainRate
from headgate.policy.holdback import Strain
from headgate.policy.pressure import Pressure
from headgate.policy.retry_after import Promises
from headgate.store.protocols import Overview, QueueState, Store

EMPTY = Overview(queues=(), oldest_ms={}, states={}, dead=0)
REFRESH_S = 1.0
HALF = 0.5
"""Of the slots, or of the pressure of a resource: with less in use nobody takes room from anybody."""
SCOPES_MAX = 10_000
PARTS_AT_MOST = 20
LOW = 0.05
"""Pressure below this is not worth a word."""
LEAST_WAITING = 10
"""A lane in which fewer wait is no overload of the fleet, however slow it is."""


class Outlook:
    """The last snapshot and what follows from it."""

    def __init__(
        self,
        settings: GateSettings,
        *,
        clock: Clock,
        rng: Random,
        bus: EventBus,
        resource_pressure: Callable[[], float],
        memory_bytes: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._bus = bus
        self._resource_pressure = resource_pressure
        self._memory_bytes = memory_bytes
        self._promises: dict[str, Promises] = {}
        self._rates: dict[tuple[str, str], DrainRate] = {}
        self.people = PeopleOutlook(settings, rng)
        self.forecaster = Forecaster(settings, needs=self._needs)
        self.audits = Audits()
        self.overview: Overview = EMPTY
        self.in_force: InForce = NOTHING
        self.pressure = Pressure()
        self.queues = QueuePressure(settings)
        self.lateness = Lateness()
        self.shedding = False
        self.shedder = Shedder(settings)
        self.excess = Excess()
        self.holdback = Holdback()
        self.held: Mapping[str, int] = {}
        """What running runs hold of the fleet's budget."""
        self.estimates = Estimates(settings)
        """What runs are expected to take."""
        self.worker_here = False
        """Whether this process carries out runs itself."""

    @property
    def settings(self) -> GateSettings:
        """As declared, with what is set by hand in its place."""
        return self.in_force.effective(self._settings)

    async def refresh(self, store: Store) -> None:
        """Read the queues and follow rates and pressure."""
        await self.estimates.refresh(store)
        if self._settings.budget.memory is not None or self._settings.budget.tool_calls is not None:
            self.held = await store.holds.held()
        self.overview = await store.runs.overview()
        now_ms = self._clock.now_ms()
        for queue in self.overview.queues:
            key = (queue.workflow, queue.lane)
            self._rates[key] = eta.sample(
                self._rates.get(key), at_ms=now_ms, started=queue.started, waiting=queue.depth > 0
            )
        await self.forecaster.refresh(store, self.overview, now_ms=now_ms)
        busy = self.running >= HALF * self.forecaster.slots or self._resource_pressure() >= HALF
        self.excess.look(self.overview, self.settings, now_ms=now_ms, busy=busy)
        self._follow(now_ms)
        await self.people.refresh(store, now_ms)
        self._audit(now_ms)

    def rate(self, *, workflow: str = "", lane: str = "") -> float | None:
        """Starts per second of a workflow or lane, ``None`` while unknown."""
        known = self._rates.get((workflow, lane))
        return None if known is None else known.rate

    def lanes_rate(self, lanes: tuple[str, ...]) -> float | None:
        """Starts per second of several lanes together."""
        known = [rate for lane in lanes if (rate := self.rate(lane=lane)) is not None]
        return math.fsum(known) if known else None

    def eta_ms(self, lane: str, ahead_of: tuple[str, ...], position: int) -> int | None:
        """Expected milliseconds until the run at ``position`` starts; ``None`` while no worker was seen at work."""
        if position <= 0 and self.worker_here:
            return 0
        rate = self.lanes_rate((*ahead_of, lane))
        return None if rate is None else eta.wait_ms(position, rate)

    def waiting(self, lanes: Collection[str]) -> int:
        """Runs that wait for their first start in these lanes."""
        return sum(queue.depth for queue in self.overview.queues if queue.lane in lanes and not queue.workflow)

    def running_in(self, lanes: Collection[str]) -> int:
        """Runs that run now in these lanes."""
        return sum(queue.running for queue in self.overview.queues if queue.lane in lanes and not queue.workflow)

    def running_beside(self, lane: str) -> int:
        """Runs that run now in the slots of this lane, in the whole fleet."""
        return self.running_in(self.settings.sharing(lane)) if self.settings.workers.background else self.running

    def now_ms(self) -> int:
        """The moment as this process has it."""
        return self._clock.now_ms()

    @property
    def running(self) -> int:
        """Runs that run now, in the whole fleet."""
        return self.overview.states.get("running", 0)

    def come_back_ms(
        self,
        scope: str,
        rate: float | None,
        *,
        room: float | None = None,
        over_ms: float | None = None,
        probe: Probe | None = None,
    ) -> int:
        """When the next refused caller of ``scope`` (which holds ``room`` runs) should come back; books it.

        ``over_ms``: by how much its forecast is too late, where that is why. ``probe`` asks at that moment whether
        it would be taken in.
        """
        if len(self._promises) >= SCOPES_MAX and scope not in self._promises:
            self._promises.clear()  # bounded; the promises made so far were at most a minute long
        book, told = retry_after.promise(
            self._promises.get(scope, Promises()),
            now_ms=self._clock.now_ms(),
            rate=rate,
            chance=self._rng.random(),
            room=room,
            over_ms=over_ms,
        )
        self._promises[scope] = book
        if probe is not None:
            self.audits.book(scope, self._clock.now_ms() + told, probe)
        return told

    def people_refusal(self, queues: Sequence[str], workflow: str, lane: str, left_s: float | None) -> Refusal | None:
        """The refusal of a run that may ask these queues of people; see `PeopleOutlook.refusal`."""
        prospect = self.forecaster.prospect(workflow, lane)
        asker = Asker(lane, self.estimates.profile(workflow), 0.0 if prospect is None else prospect.path_s, left_s)
        traffic = {
            one.lane: Traffic(
                one.depth + one.running, self.forecaster.comes_per_s(one.lane), self.forecaster.mix(one.lane)
            )
            for one in self.overview.queues
            if one.lane and not one.workflow
        }
        return self.people.refusal(queues, asker, traffic, self.estimates.profile)

    def _needs(self, workflow: str) -> dict[str, float] | None:
        """Calls by resource that an ordinary run needs answered, once enough have ended to tell."""
        estimate = self.estimates.of(workflow, 0)
        if estimate.evidence not in (Evidence.SIZE_CLASS, Evidence.WORKFLOW):
            return None
        profile = self.estimates.profile(workflow)
        if profile is None:
            return None
        return cost_profile.mean_answers(profile)

    def _audit(self, now_ms: int) -> None:
        for scope, kept in self.audits.due(now_ms):
            if scope in self._promises:
                self._promises[scope] = retry_after.audited(self._promises[scope], kept=kept)

    def queue(self, *, workflow: str = "", lane: str = "") -> QueueState | None:
        """The snapshot's line of a workflow or lane."""
        for queue in self.overview.queues:
            if queue.workflow == workflow and queue.lane == lane and not queue.tenant:
                return queue
        return None

    def oldest_age_s(self) -> Mapping[str, float]:
        """Lane → seconds that its oldest never-started run has waited."""
        now_ms = self._clock.now_ms()
        return {lane: max(0, now_ms - since) / 1000 for lane, since in self.overview.oldest_ms.items()}

    def pressure_on(self, workflow: str) -> float:
        """What presses on runs of a workflow, 0..1: the fleet's queues, age and memory, its own queue, and how little
        time those who come in lately would have left."""
        return max(self.pressure.intake, self.queues.own.get(workflow, 0.0), self.lateness.levels.get(workflow, 0.0))

    def _follow(self, now_ms: int) -> None:
        self.lateness.look(now_ms)
        self.queues.follow(self._fills(), now_ms=now_ms, shed_at=self.settings.shed_at)
        sample = Pressure(
            now_ms,
            queue=self._queue_fill(),
            age=pressure.part(list(self._ages().values())),
            memory=pressure.part([self._memory_fill()]),
            resources=self._resource_pressure(),
        )
        before = self.pressure
        self.pressure = pressure.follow(before, sample)
        if abs(self.pressure.level - before.level) >= 0.05:
            self._bus.emit("pressure_changed", old=round(before.level, 3), new=round(self.pressure.level, 3))
        was = self.shedding
        self.shedding = pressure.shedding(was, self.pressure.intake, shed_at=self.settings.shed_at)
        if self.shedding != was:
            self._bus.emit("lane_shed", old=was, new=self.shedding, reason="shed")

        self.holdback.look(
            self.settings,
            line=self._ages(),
            occupied=frozenset(one.lane for one in self.overview.queues if one.lane and one.depth + one.running),
            strain=Strain(self.pressure.resources, self.pressure.memory),
        )
        self.shedder.look(
            overload(
                drains_s=(drains := self.drains_s()),
                patience_s={lane: self._patience(lane) for lane in drains},
                memory=self.pressure.memory,
                shed_at=self.settings.shed_at,
            ),
            now_ms=now_ms,
        )

    def shed(
        self, lane: str, tenant: str, cost: float, *, workflow: str = "", spawned: bool = False
    ) -> Refusal | None:
        """The refusal of a run of this lane, tenant and workflow, if what the fleet can carry now goes to others.
        Sub-runs of what was taken in are refused with their lane or queue only, not by the cursor."""
        if not spawned:
            self.shedder.offer(lane, cost)
        return self.shed_why(lane, tenant, workflow=workflow, spawned=spawned)

    def shed_why(self, lane: str, tenant: str, *, workflow: str, spawned: bool = False) -> Refusal | None:
        """The same without counting it as offered, and without a time to come back."""
        settings, shedder = self.settings, self.shedder
        sheddable = lane in settings.lanes and settings.lanes[lane].sheddable
        scope = f"lane:{lane}"
        if sheddable and self.shedding:
            detail, used = "sheddable lanes are refused while pressure is high", self.pressure.intake
        elif sheddable and workflow in self.queues.shedding:
            scope = f"workflow:{workflow}"
            detail, used = "sheddable runs are refused while the queue is nearly full", self.queues.own[workflow]
        elif not spawned and shedder.refuses(lane, tenant, now_ms=self._clock.now_ms()):
            part = shedder.parts[lane]
            detail = f"{part:.0%} of the tenants in this lane are refused for now, because {shedder.overload.why}"
            used = settings.shed_at * shedder.overload.value
        else:
            return None
        limit = settings.shed_at
        return Refusal(Reason.SHED, scope, detail, limit=limit, used=round(used, 3), unit="pressure")

    def admitted_part(self, lane: str) -> float:
        """Which part (0..1) of what is offered in a lane would be taken in now, as far as pressure decides."""
        if self.in_force.drain is not None:
            return 0.0
        if self.pressure.memory >= 1 or (self.settings.lanes[lane].sheddable and self.shedding):
            return 0.0
        return round(1 - self.shedder.parts.get(lane, 0.0), 3)

    def refuses_why(self, lane: str) -> str | None:
        """Why it is not all."""
        if self.in_force.drain is not None:
            return "the fleet is drained"
        if self.pressure.memory >= 1:
            return "the memory budget is used up"
        if self.settings.lanes[lane].sheddable and self.shedding:
            return f"sheddable, and pressure is {self.pressure.intake:.0%}; it ends a tenth below shed_at"
        return self.shedder.overload.why if self.shedder.parts.get(lane) else None

    def parts(self, resources: Mapping[str, ResourceStatistics]) -> list[tuple[str, float]]:
        """What presses on all (queues, the age in a lane, the memory, a resource) and how much, the most first."""
        found = {"queues": self._queue_fill()}
        found |= {f"age in lane:{lane}": age for lane, age in self._ages().items()}
        found |= {f"resource:{name}": one.pressure for name, one in resources.items()}
        found["memory"] = self._memory_fill()
        ranked = sorted(found.items(), key=lambda one: (-one[1], one[0]))
        return [(what, round(min(1.0, value), 3)) for what, value in ranked if value > 0][:PARTS_AT_MOST]

    def why(self, resources: Mapping[str, ResourceStatistics]) -> str:
        """Where the level comes from, in words."""
        parts = self.parts(resources)
        if not parts or self.pressure.level < LOW:
            return "no part is pressed"
        what, value = parts[0]
        falling = ", and the level falls by a tenth in a second at most" if value < self.pressure.level - LOW else ""
        return f"{what} is at {value:.0%}{falling}"

    def drains_s(self) -> Mapping[str, float]:
        """Lane → seconds until what waits there has started, for lanes that somebody works on. What is paused by hand
        drains by hand."""
        drains = {}
        for lane in self._settings.lanes:
            queue, rate = self.queue(lane=lane), self.rate(lane=lane)
            if queue is None or not rate or queue.depth < LEAST_WAITING or self._is_paused(lane):
                continue
            drains[lane] = queue.depth / rate
        return drains

    def _is_paused(self, lane: str) -> bool:
        """Whether some of what waits there may be paused, and not short of room. A tenant's part of a lane is not
        known; but while a slot is free, it is not for want of one that runs wait."""
        pauses = self.in_force.pauses
        return bool(pauses) and (
            f"lane:{lane}" in pauses
            or (self.running < self.forecaster.slots and any(name.startswith("tenant:") for name in pauses))
            or any(
                one.lane == lane and f"workflow:{name}" in pauses for name, one in self._settings.workflows.items()
            )
        )

    def _fills(self) -> Mapping[str, float]:
        return self.queues.fills(self.overview.queues, self.in_force)

    def _queue_fill(self) -> float:
        most = self.settings.budget.waiting
        return self.queues.fleet(self.overview.queues, self.in_force, waiting_at_most=most)

    def _ages(self) -> Mapping[str, float]:
        """Lane → part of its patience that its oldest run has waited, for lanes that somebody works on."""
        return {
            lane: age / self._patience(lane) for lane, age in self.oldest_age_s().items() if not self._is_paused(lane)
        }

    def _patience(self, lane: str) -> float:
        """The longest wait any run of the lane is allowed, in seconds."""
        settings = self.settings
        ages = [one.queue.max_age for one in settings.workflows.values() if one.lane == lane] or [600.0]
        if lane in settings.lanes and (longest := settings.lanes[lane].max_wait) is not None:
            return min(longest, max(ages))
        return max(ages)

    def resident_bytes(self) -> int:
        """Resident memory of this process, in bytes."""
        return self._memory_bytes()

    def _memory_fill(self) -> float:
        budget = self.settings.budget.memory
        return 0.0 if budget is None else self._memory_bytes() / budget


def resident_bytes() -> int:
    """Resident memory of this process, in bytes.

    Raises:
        HeadgateError: this system does not tell; a memory budget cannot be kept here.
    """
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * mmap.PAGESIZE
    try:
        import resource  # not on Windows, where everything but a memory budget works without it
    except ImportError as error:
        raise HeadgateError("budget.memory cannot be kept: this system does not tell how much is used") from error
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # the best that macOS offers without a dependency
    return peak if sys.platform == "darwin" else peak * 1024
