"""What must happen on time, whoever does it: waiting runs expire, vanished workers' runs are taken back, suspended
ones wake, unanswered questions expire, and old runs are removed.

Any number of processes may do this at once: every move is one atomic operation of the store, and whoever comes
second finds nothing to do. It sleeps until the next due moment that the store knows, and looks again at least once
a second, because other processes add due moments too. A run that this process admits says when it is due (`poke`):
that may move the next look, and costs none.

A lease that ran out means that its holder vanished only if the holder could have extended it. When the store or
this process stood still (a lock held elsewhere, a suspended machine, a clock set forward), the holders may have been
held up as well. So after more than half a lease between two answered writes, no run is rescued for one lease:
heartbeats come every third of a lease, and get through first. A shorter gap leaves them time enough without that.
Where nothing stood still, which is how a single process crashes, a rescue is as quick as ever.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from random import Random

from headgate.clock import Clock
from headgate.config.settings import GateSettings, WhenFull
from headgate.model.run import RunRecord, RunState
from headgate.observe.bus import EventBus
from headgate.runs import approvals
from headgate.store.protocols import Moved, Opening, Store

log = logging.getLogger("headgate.runs")

LOOK_S = 1.0
"""Due moments that other processes stored are found within this time (a quarter of a lease, if that is shorter)."""
BATCH = 500
PRUNE_EVERY_S = 3600.0
PRUNE_BATCH = 1000
STUCK_S = 0.05
"""First pause when something is due that nobody moves (another process is at it); doubles up to ``LOOK_S``."""


class Upkeep:
    """The house-keeping of one process. Use from one event loop only."""

    def __init__(
        self,
        store: Store,
        settings: GateSettings,
        *,
        clock: Clock,
        bus: EventBus,
        rng: Random,
        on_waiting: Callable[[], None] | None = None,
    ) -> None:
        """``on_waiting`` is called when runs went back in line, e.g. a worker's `poke`."""
        self._store, self._settings = store, settings
        self._clock, self._bus, self._rng = clock, bus, rng
        self._on_waiting = on_waiting
        self._openings = [
            Opening(name, one.queue.depth, one.queue.bytes, one.queue.per_tenant)
            for name, one in settings.workflows.items()
            if one.when_full is WhenFull.DELAY
        ]
        self._wake = asyncio.Event()
        self._look_at = 0.0
        """When it looks next, by the monotonic clock; while it looks, what it was told meanwhile."""
        self._task: asyncio.Task[None] | None = None
        self._prune_at = 0.0
        self._stuck_s = STUCK_S
        self._look_s = min(LOOK_S, settings.workers.lease / 4)
        self._answered_ms = clock.now_ms()
        self._rescue_from = clock.monotonic()

    async def start(self) -> None:
        """Begin. The first round comes at once; old runs are first removed within the first minute."""
        if self._task is None:
            self._prune_at = self._clock.monotonic() + self._rng.uniform(0.0, 60.0)
            self._answered_ms = self._clock.now_ms()
            self._task = asyncio.create_task(self._keep(), name="headgate-upkeep")

    async def stop(self) -> None:
        """End. Safe to call again."""
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def poke(self, run: RunRecord | None = None) -> None:
        """This run was stored: look when it is due. Without a run: something may be due now, look now."""
        wait_s = 0.0
        if run is not None:
            moments = [run.deadline_ms, run.queue_deadline_ms]
            moments += [run.available_ms] if run.state is RunState.SUSPENDED else []
            wait_s = min((one - self._clock.now_ms() for one in moments if one is not None), default=math.inf) / 1000
        look_at = self._clock.monotonic() + wait_s
        if look_at < self._look_at:
            self._look_at = look_at
            self._wake.set()

    async def do_due(self) -> int:
        """Do everything that is due now, once; how many runs and questions were moved."""
        upkeep, now_ms = self._store.upkeep, self._clock.now_ms()
        expired = await upkeep.expire(now_ms=now_ms, limit=BATCH)
        self._answered()
        rescued: Sequence[Moved] = ()
        if self._clock.monotonic() >= self._rescue_from:
            max_crashes = self._settings.workers.max_crashes
            # Should it be held up now, it still rescues only what had lapsed before that.
            rescued = await upkeep.rescue(now_ms=now_ms, max_crashes=max_crashes, limit=BATCH)
        woken = await upkeep.wake(now_ms=now_ms, limit=BATCH)
        for opening in self._openings:
            woken += await upkeep.let_in(opening, now_ms=now_ms, limit=BATCH)
        self._answered()
        self._tell("run_expired", expired)
        self._tell("run_rescued", rescued)
        self._tell("run_woken", woken)
        unanswered = await self._expire_questions(now_ms)
        if self._on_waiting is not None and (rescued or woken or unanswered):
            look_at = self._look_at
            self._on_waiting()
            self._look_at = look_at  # who is told may poke this upkeep as well, which knows it already
        return len(expired) + len(rescued) + len(woken) + unanswered

    def _answered(self) -> None:
        """The store took a write. Reads prove nothing: they may pass while heartbeats are held up."""
        now_ms, lease_s = self._clock.now_ms(), self._settings.workers.lease
        gap_s = (now_ms - self._answered_ms) / 1000
        self._answered_ms = now_ms
        if gap_s > lease_s / 2:
            self._rescue_from = self._clock.monotonic() + lease_s
            log.warning("upkeep: nothing was written for %.1f s; no run is rescued for %g s", gap_s, lease_s)

    async def _keep(self) -> None:
        while True:
            self._look_at = math.inf
            try:
                moved = await self.do_due()
                await self._prune()
                wait_s = 0.0 if moved >= BATCH else await self._until_due(moved)
            except Exception as error:  # noqa: BLE001  a failing store must not end the upkeep
                log.warning("upkeep: %s", error)
                self._bus.emit("store_failed", operation="upkeep", reason=f"{type(error).__name__}: {error}")
                wait_s = self._look_s
            await self._sleep(wait_s)

    async def _until_due(self, moved: int) -> float:
        due_ms = await self._store.upkeep.next_due_ms()
        wait_s = self._look_s if due_ms is None else (due_ms - self._clock.now_ms()) / 1000
        if wait_s > 0 or moved:
            self._stuck_s = STUCK_S
            return min(self._look_s, max(0.0, wait_s))
        wait_s, self._stuck_s = self._stuck_s, min(2 * self._stuck_s, self._look_s)
        return wait_s

    async def _sleep(self, wait_s: float) -> None:
        self._look_at = min(self._look_at, self._clock.monotonic() + wait_s)
        while (left_s := self._look_at - self._clock.monotonic()) > 0:
            self._wake.clear()
            try:
                async with asyncio.timeout(left_s):
                    await self._wake.wait()
            except TimeoutError:
                return

    async def _expire_questions(self, now_ms: int) -> int:
        escalations = approvals.escalations(self._settings)
        lapsed = await self._store.approvals.expire_due(now_ms=now_ms, limit=BATCH, escalations=escalations)
        for question, queue in lapsed:
            whose = {"run_id": question.run_id, "tenant": question.tenant, "approval_id": question.id}
            if question.queue != queue:
                self._bus.emit("approval_escalated", **whose, queue=queue, old=queue, new=question.queue)
                continue
            self._bus.emit(
                "approval_decided",
                **whose,
                queue=queue,
                outcome=question.state,
                queued_ms=now_ms - question.asked_ms,
            )
        return len(lapsed)

    async def _prune(self) -> None:
        if self._clock.monotonic() < self._prune_at:
            return
        before_ms = self._clock.now_ms() - round(1000 * self._settings.workers.keep_finished)
        if await self._store.upkeep.prune(before_ms=before_ms, limit=PRUNE_BATCH) >= PRUNE_BATCH:
            return  # the rest goes with the next rounds, so that what is due is not held up
        self._prune_at = self._clock.monotonic() + PRUNE_EVERY_S * self._rng.uniform(0.9, 1.1)

    def _tell(self, name: str, moved: Sequence[Moved]) -> None:
        if self._bus.active:
            for one in moved:
                self._bus.emit(
                    name,
                    run_id=one.run_id,
                    workflow=one.workflow,
                    tenant=one.tenant,
                    lane=one.lane,
                    reason=one.reason,
                    **({"outcome": one.state} if name == "run_rescued" else {}),
                )
