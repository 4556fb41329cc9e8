"""A worker: claims runs for its free slots, has them carried out, and leaves in good order.

One asyncio task per run, one heartbeat for all of them, one timer for all deadlines, one store call for all ends
of a moment. In its own process it is poked when a run is submitted; what other processes store it finds by polling.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from headgate.clock import Clock
from headgate.config.settings import GateSettings, LaneSettings
from headgate.errors import StoreError
from headgate.guard.registry import Resources
from headgate.model.resource_report import ResourceReport
from headgate.observe.bus import EventBus
from headgate.policy.cost_profile import Profile
from headgate.policy.eta import WORKERS
from headgate.policy.pause import HeldBack, nothing_held
from headgate.runs.attempt import GRACE_S, Attempt, Stop
from headgate.runs.budget import shared_by_running
from headgate.runs.carrier import Carrier
from headgate.runs.children import Door
from headgate.runs.degrading import Ladders, ResourceWatch
from headgate.runs.executor import Executor
from headgate.runs.leases import trusted_s
from headgate.runs.pausing import stop_paused
from headgate.runs.preempting import Preemptor
from headgate.runs.progress import Equipment, whose
from headgate.runs.registry import WorkflowRegistry
from headgate.runs.reporting import Reporter
from headgate.runs.scheduler import LaneScheduler
from headgate.store.protocols import Claim, ClaimRequest, Store

log = logging.getLogger("headgate.runs")

IDLE_POLLS = 4
"""An idle worker looks for other processes' runs this much less often than a busy one."""
FAILED_STORE_S = 1.0


@dataclass(frozen=True, slots=True)
class WorkerStatistics:
    """How a worker is doing. Counts are since its start."""

    owner: str
    slots: int
    running: int
    ready: int
    """Claimed ahead, not begun."""
    unwritten: int
    """Ended, and the end not yet stored."""
    claimed: int
    finished: Mapping[str, int]
    """By terminal state."""
    suspended: int
    released: int
    lost: int
    abandoned: int
    """Workflows that did not end when cancelled and were left to themselves."""
    heartbeat_age_s: float


@dataclass(frozen=True, slots=True)
class Drained:
    """What became of the work when a worker left."""

    finished: int
    released: int
    ran_s: float


@dataclass(frozen=True, slots=True)
class SlotPool:
    """Slots for the runs of some lanes."""

    name: str
    """Under which they are reported."""
    slots: int
    lanes: tuple[str, ...]

    def of(self, lanes: Mapping[str, LaneSettings]) -> dict[str, LaneSettings]:
        """Those of ``lanes`` that are its own."""
        return {name: lane for name, lane in lanes.items() if name in self.lanes}


class Worker:
    """Carries out runs. Use from one event loop only."""

    def __init__(
        self,
        store: Store,
        registry: WorkflowRegistry,
        resources: Resources,
        settings: GateSettings,
        *,
        clock: Clock,
        rng: Random,
        bus: EventBus,
        owner: str,
        pressure: Callable[[str], float],
        held_back: Callable[[], HeldBack] = nothing_held,
        effective: Callable[[], GateSettings] | None = None,
        door: Door | None = None,
        profile: Callable[[str], Profile | None] = lambda workflow: None,
        pool: SlotPool | None = None,
    ) -> None:
        """``owner`` names this worker in leases and must be unique; ``pressure`` (0..1): on a workflow, moves
        degrade ladders; ``held_back`` and ``effective`` (the settings in force) are looked at before every claim
        (`poke` when they change); sub-runs come in through ``door``; ``profile``: what runs of a workflow take, where
        known; ``pool``: only these lanes and slots, instead of all."""
        self.owner = owner
        self._store, self._registry, self._settings = store, registry, settings
        self._clock, self._rng, self._bus = clock, rng, bus
        self._pool = pool = pool or SlotPool(WORKERS, settings.workers.slots, tuple(settings.lanes))
        ladders = Ladders(settings.workflows, pressure, ResourceWatch(resources, clock))
        equipment = Equipment(store, resources, settings, clock, rng, bus, ladders, door=door, profile=profile)
        self._reporter = Reporter(
            store.reports,
            resources.statistics if pool.name == WORKERS else dict,  # the other pool of the process tells them
            owner=owner,
            lease_s=settings.workers.lease,
            clock=clock,
            slots=self._slots_report,
        )
        self._carrier = Carrier(
            Executor(registry, equipment),
            equipment,
            owner=owner,
            slots=pool.slots,
            on_room=self._on_room,
            on_waiting=self.poke,
            on_end=self._reporter.ended,
        )
        self._preemptor = Preemptor(
            self._carrier,
            store,
            settings,
            experience=equipment.experience,
            owner=owner,
            clock=clock,
            bus=bus,
            workflows=registry.names,
            held_back=held_back,
            lanes=pool.of(settings.lanes),
            slots=pool.name,
        )
        self._lanes = LaneScheduler(pool.of(settings.lanes))
        self._held_back = held_back
        self._effective = effective or (lambda: settings)
        self._now_settings = settings
        self._shared = shared_by_running(settings.budget)
        self._trusted_s = trusted_s(settings.workers.lease)
        self._loops: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()
        self._more = True
        """Something may wait that the last claim could not bring."""
        self._claimed = 0

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to claim."""
        if self._loops:
            return
        self._loops = [
            asyncio.create_task(self._look_for_work(), name="headgate-claims"),
            asyncio.create_task(self._carrier.keeper.keep(), name="headgate-leases"),
            asyncio.create_task(self._carrier.ends.write(), name="headgate-ends"),
            asyncio.create_task(self._carrier.samples.keep(), name="headgate-samples"),
            asyncio.create_task(self._preemptor.keep(), name="headgate-preemption"),
            asyncio.create_task(self._reporter.keep(), name="headgate-reports"),
        ]

    def poke(self) -> None:
        """Something new may wait: look now."""
        self._wake.set()

    def cancel(self, run_id: str) -> bool:
        """Stop a run at once whose end was asked for in the store, if this worker has it; a heartbeat would find
        it later. False if it is not here."""
        held = self._carrier.keeper.held.items()
        found = [attempt for (name, _), attempt in held if name == run_id and not attempt.ended]
        for attempt in found:
            self._carrier.stop(attempt, Stop.CANCEL)
        return bool(found)

    async def drain(self, timeout_s: float) -> Drained:
        """Claim nothing more; let running work go on to its next step for at most ``timeout_s``, then cancel it.

        What did not end is put back in line, unharmed. Returns when everything is written, or could not be within
        a lease.
        """
        carrier, began = self._carrier, self._clock.monotonic()
        finished, released = carrier.finished.total(), carrier.counts["released"]
        carrier.leaving = True
        self._wake.set()
        carrier.give_back_ready()
        for attempt in list(carrier.running):
            carrier.stop(attempt, Stop.STEP)
        if self._loops:  # never cancelled in the middle of a claim: what it brings must not be forgotten
            await asyncio.wait(self._loops[:1], timeout=max(timeout_s, GRACE_S))
        await carrier.until_quiet(max(0.0, timeout_s - (self._clock.monotonic() - began)))
        for attempt in list(carrier.running):
            carrier.stop(attempt, Stop.NOW)
        await carrier.until_quiet(2 * GRACE_S)
        await carrier.until_written(self._settings.workers.lease)
        return Drained(
            finished=carrier.finished.total() - finished,
            released=carrier.counts["released"] - released,
            ran_s=self._clock.monotonic() - began,
        )

    async def stop(self) -> None:
        """Leave now: whatever runs is cancelled and put back in line. Safe to call again."""
        if not self._loops:
            return
        await self.drain(0.0)
        await self._carrier.samples.flush()
        left = [*self._loops, *self._carrier.tasks, *self._carrier.abandoned]
        self._loops = []
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=GRACE_S)
        self._carrier.deadlines.close()

    def statistics(self) -> WorkerStatistics:
        """How it is doing."""
        carrier = self._carrier
        return WorkerStatistics(
            owner=self.owner,
            slots=carrier.pace.slots,
            running=len(carrier.running),
            ready=len(carrier.ready),
            unwritten=carrier.ends.backlog,
            claimed=self._claimed,
            finished=dict(carrier.finished),
            suspended=carrier.counts["suspended"],
            released=carrier.counts["released"],
            lost=carrier.counts["lost"],
            abandoned=carrier.counts["abandoned"],
            heartbeat_age_s=carrier.keeper.age_s,
        )

    def _slots_report(self) -> ResourceReport:
        carrier = self._carrier
        slots = 0 if carrier.leaving else carrier.pace.slots
        running, ready = len(carrier.running), len(carrier.ready)
        return ResourceReport(self._pool.name, slots, slots, running, ready, carrier.left, round(carrier.stayed_s, 3))

    # -- claiming ---------------------------------------------------------------------------------------------------

    async def _look_for_work(self) -> None:
        poll_s, idle = self._settings.workers.poll, 0
        while not self._carrier.leaving:
            self._wake.clear()
            self._more = True
            stop_paused(self._carrier, self._held_back())
            request = self._request()
            if request is None:
                await self._wake.wait()
                continue
            sent, kept_for = self._clock.monotonic(), self._preemptor.kept_for
            if kept_for is not None:
                request = replace(request, lanes=((kept_for, 1), *request.lanes))
            try:
                claims = await self._store.claims.claim(request)
            except Exception as error:  # noqa: BLE001  a failing store must not end the looking
                log.log(logging.WARNING if isinstance(error, StoreError) else logging.ERROR, "claim: %s", error)
                self._bus.emit("store_failed", operation="claim", reason=f"{type(error).__name__}: {error}")
                await self._pause(FAILED_STORE_S)
                continue
            self._take(claims, sent)
            if kept_for is not None:
                self._preemptor.claimed(claims)
            idle = 0 if claims else min(idle + 1, IDLE_POLLS - 1)
            self._more = len(claims) >= (request.total or 0) or request.max_running is not None
            if len(claims) < (request.total or 0):
                await self._pause(poll_s * (1 + idle))

    async def _pause(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s * self._rng.uniform(0.8, 1.2)):
                await self._wake.wait()
        except TimeoutError:
            return

    def _on_room(self) -> None:
        if self._more and not self._wake.is_set() and self._carrier.room:
            self._wake.set()

    def _request(self) -> ClaimRequest | None:
        carrier = self._carrier
        if not carrier.room:
            return None
        settings = self._effective()
        if settings is not self._now_settings:
            self._now_settings = settings
            self._lanes.use(self._pool.of(settings.lanes))
            self._shared = shared_by_running(settings.budget)
        request = self._lanes.request(
            owner=self.owner,
            now_ms=self._clock.now_ms(),
            lease_ms=round(1000 * self._settings.workers.lease),
            workflows=self._registry.names(),
            carried=carrier.carried,
            slots=carrier.pace.slots + carrier.pace.ahead,
            max_running=settings.budget.runs,
            held_back=self._held_back(),
        )
        return replace(request, most=self._shared) if request is not None and self._shared else request

    def _take(self, claims: Sequence[Claim], sent: float) -> None:
        if not claims:
            return
        attempts = [Attempt(claim, clock=self._clock, confirmed=sent, trusted_s=self._trusted_s) for claim in claims]
        if self._bus.active:
            now_ms = self._clock.now_ms()
            for attempt in attempts:
                self._bus.emit(
                    "run_claimed",
                    **whose(attempt),
                    owner=self.owner,
                    term=attempt.run.term,
                    queued_ms=max(0, now_ms - attempt.run.available_ms),
                    attempt=attempt.run.attempts + 1,
                )
        self._claimed += len(claims)
        self._carrier.take(attempts)
