"""Carries out claimed runs in a bounded number of slots, and sees to it that each is concluded exactly once.

A run leaves its slot when its workflow has ended; it is held (its lease extended) until what became of it is
written. A workflow that does not end when it is cancelled is left to itself after a grace: its run is concluded,
its slot is free, and its later calls are refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from headgate.config.settings import WorkflowSettings
from headgate.errors import StoreError
from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.runs import verdict
from headgate.runs.attempt import GRACE_S, Attempt, Stop
from headgate.runs.deadlines import DeadlineWatch
from headgate.runs.endings import BACKLOG, EndWriter
from headgate.runs.executor import Executor
from headgate.runs.leases import LeaseKeeper
from headgate.runs.letting_go import LetGo, Written, let_go, waits_for
from headgate.runs.pace import STALE_S, Pace
from headgate.runs.postponing import follow_up
from headgate.runs.progress import PLAIN, Equipment, whose
from headgate.runs.running_time import RunningTime
from headgate.runs.samples import CostSamples
from headgate.runs.verdict import Finish, LeaveAlone, PutBack, Verdict
from headgate.store.protocols import RunEnd

log = logging.getLogger("headgate.runs")

RETRY_S = 0.1
RETRY_AT_MOST_S = 2.0


class Carrier:
    """The attempts of one worker."""

    def __init__(
        self,
        executor: Executor,
        equipment: Equipment,
        *,
        owner: str,
        slots: int,
        on_room: Callable[[], None],
        on_waiting: Callable[[], None],
        on_end: Callable[[Attempt, RunEnd], None],
    ) -> None:
        """``on_room`` is called when something ended, so that there may be room for another claim; ``on_waiting``
        when a run went back in line; ``on_end`` when a run's end was written."""
        self.counts: Counter[str] = Counter()
        """``suspended``, ``released``, ``lost``, ``abandoned``."""
        self.finished: Counter[str] = Counter()
        """Ends written, by state."""
        self.carried: Counter[str] = Counter()
        """Runs by lane, claimed and not ended."""
        self.ready: deque[Attempt] = deque()
        """Claimed ahead, not begun."""
        self.running: dict[Attempt, None] = {}
        """In the order in which they began; a set's order would differ from one process to the next."""
        self.pausing = False
        """A pause may have asked some of those that run to stop."""
        self.pace = Pace(slots)
        self.leaving = False
        """Nothing new is begun; what is claimed goes back."""
        self._executor, self._owner, self._on_room, self._on_waiting = executor, owner, on_room, on_waiting
        self._store = equipment.store
        self._on_end = on_end
        self.left = 0
        """Attempts that left their slot, and for how long they had it in all."""
        self.stayed_s = 0.0
        self._claims, self._clock, self._bus = equipment.store.claims, equipment.clock, equipment.bus
        self._workflows, self._experience = equipment.settings.workflows, equipment.experience
        self._stretches = equipment.stretches
        self._gate_settings, self._rng = equipment.settings, equipment.rng
        settings = equipment.settings.workers
        self.keeper = LeaseKeeper(
            self._claims,
            owner,
            lease_s=settings.lease,
            clock=self._clock,
            rng=equipment.rng,
            bus=self._bus,
            on_stop=self.stop,
        )
        self.samples = CostSamples(equipment.store.profiles, clock=self._clock, bus=self._bus)
        self.ends = EndWriter(self._claims, bus=self._bus, on_written=self._written, on_flushed=self._flushed)
        self._running_time = RunningTime(
            equipment.store.runs,
            fails=lambda attempt: self._settings_of(attempt).budget.at_ceiling == "fail",
            abandon=self._abandon,
            spawn=self._spawn,
        )
        self.deadlines = DeadlineWatch(self._clock, lambda attempt: self.stop(attempt, Stop.DEADLINE))
        self._stale: asyncio.TimerHandle | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        """Writing what became of runs."""
        self.abandoned: set[asyncio.Task[None]] = set()
        self._quiet = asyncio.Event()
        self._quiet.set()

    # -- in ---------------------------------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many runs a claim could bring now; 0 while fewer than make it worth while."""
        if self.leaving or self.ends.backlog >= BACKLOG:
            return 0
        free = self.pace.slots + self.pace.ahead - len(self.running) - len(self.ready)
        return free if free >= self.pace.least else 0

    def take(self, attempts: Sequence[Attempt]) -> None:
        """Hold newly claimed attempts, and begin as many as there are free slots."""
        for attempt in attempts:
            self.keeper.held[attempt.key] = attempt
            attempt.cost_factor = self._settings_of(attempt).cost
            self.carried[attempt.run.lane] += 1
        self.ready.extend(attempts)
        self._fill()

    def _fill(self) -> None:
        if self.leaving:
            self.give_back_ready()
            return
        while self.ready and len(self.running) < self.pace.slots and self.ends.backlog < BACKLOG:
            self._begin(self.ready.popleft())
        if self.ready and self._stale is None:
            self._stale = asyncio.get_running_loop().call_later(STALE_S, self._look_for_stale)

    def _look_for_stale(self) -> None:
        self._stale = None
        if self.ready and self._clock.monotonic() - self.ready[0].confirmed >= STALE_S:
            self.pace.stalled()
            self.give_back_ready()
        self._fill()

    def give_back_ready(self) -> None:
        """Put back in line what was claimed ahead."""
        ready, self.ready = self.ready, deque()
        for attempt in ready:
            self._settle(attempt)
            self._spawn(self._let_go(attempt, PutBack(Reason.DRAINING if self.leaving else Reason.INTERRUPTED)))

    # -- carrying out -----------------------------------------------------------------------------------------------

    def _begin(self, attempt: Attempt) -> None:
        self.running[attempt] = None
        self._quiet.clear()
        attempt.started = self._clock.monotonic()
        attempt.safe_point.passed(step=False)
        self._running_time.watch(attempt)
        if attempt.run.cancel_requested:
            attempt.request_stop(Stop.CANCEL)
        self.deadlines.watch(attempt)
        attempt.task = asyncio.get_running_loop().create_task(self._carry(attempt))

    async def _carry(self, attempt: Attempt) -> None:
        try:
            outcome = await self._executor.carry_out(attempt)
        except GeneratorExit:
            raise
        except BaseException as error:  # its slot and its lease must not be kept for ever
            outcome = verdict.of_stop(attempt) or LeaveAlone(lost=True)
            if not isinstance(error, asyncio.CancelledError):
                log.exception("run %s: its attempt ended in a defect", attempt.run.id)
        if not attempt.ended:
            self._settle(attempt)
            self._conclude(attempt, outcome)
        if attempt.leaving is not None:  # it ends the whole process: first write what became of the run
            await self.until_written(GRACE_S)
            raise attempt.leaving

    def stop(self, attempt: Attempt, reason: Stop) -> None:
        """Ask an attempt to end, and see to it that it does."""
        if not attempt.request_stop(reason) or reason is Stop.STEP:
            return
        if attempt in self.running:
            if attempt.grace is None:
                attempt.grace = asyncio.get_running_loop().call_later(GRACE_S, self._abandon, attempt)
        elif attempt in self.ready:  # lost or no longer wanted before it was begun
            self.ready.remove(attempt)
            self._begin(attempt)

    def _settings_of(self, attempt: Attempt) -> WorkflowSettings:
        return self._workflows.get(attempt.run.workflow, PLAIN)

    def _abandon(self, attempt: Attempt) -> None:
        """It was cancelled and did not end: conclude its run without it."""
        outcome = verdict.of_stop(attempt)
        if attempt.ended or outcome is None:
            return
        log.warning("run %s: its workflow did not end when cancelled and is left to itself", attempt.run.id)
        attempt.closed = True
        self.counts["abandoned"] += 1
        if attempt.task is not None:
            self.abandoned.add(attempt.task)
            attempt.task.add_done_callback(self.abandoned.discard)
        self._settle(attempt)
        self._conclude(attempt, outcome)

    def _settle(self, attempt: Attempt) -> None:
        """What becomes of it is decided: its slot is free."""
        attempt.ended = True
        for timer in (attempt.grace, attempt.wall_timer):
            if timer is not None:
                timer.cancel()
        attempt.grace = attempt.wall_timer = None
        self.carried[attempt.run.lane] -= 1
        if attempt in self.running:
            del self.running[attempt]
            attempt.stayed_s = self._clock.monotonic() - attempt.started
            self.left, self.stayed_s = self.left + 1, self.stayed_s + attempt.stayed_s
            self.pace.note(attempt.stayed_s)
            self.deadlines.ended(attempt)
            if not self.running:
                self._quiet.set()
        if self.ready:
            self._fill()
        self._on_room()

    # -- out --------------------------------------------------------------------------------------------------------

    def _conclude(self, attempt: Attempt, outcome: Verdict) -> None:
        if isinstance(outcome, Finish):
            self.ends.put(attempt, self._end(attempt, outcome))
        elif isinstance(outcome, LeaveAlone):
            self._drop(attempt, lost=outcome.lost)
            if not outcome.lost:
                self._suspended(attempt, attempt.asked_for, None)
        else:
            self._spawn(self._let_go(attempt, outcome))

    def _end(self, attempt: Attempt, outcome: Finish) -> RunEnd:
        run, meter = attempt.run, attempt.meter
        self.samples.note(attempt, whole=outcome.state is RunState.SUCCEEDED)
        if attempt.worked_s and outcome.state in (RunState.SUCCEEDED, RunState.EXPIRED):
            worked_s, stayed_s = attempt.worked_s, attempt.stayed_s
            self._stretches.note(run.lane, stayed_s=stayed_s, worked_s=worked_s, now=self._clock.monotonic())
        if outcome.state is RunState.SUCCEEDED and meter.used_calls:
            ran_s = min(attempt.worked_s, attempt.ran_s)
            self._experience.note(run.workflow, calls=meter.used_calls, ran_s=ran_s, now=self._clock.monotonic())
        now_ms, followed = self._clock.now_ms(), attempt.cheaper.to_follow
        return RunEnd(
            run_id=run.id,
            owner=self._owner,
            term=run.term,
            state=outcome.state,
            reason=outcome.reason,
            now_ms=now_ms,
            detail=outcome.detail,
            result=outcome.result,
            used_calls=meter.used_calls,
            used_model_tokens=meter.used_model_tokens,
            used_money=meter.used_money,
            used_wall_ms=attempt.wall_ms,
            degraded=bool(attempt.cheaper.words) or run.degraded,
            cost=attempt.cost,
            follow_up=follow_up(run, self._gate_settings, self._rng, now_ms) if followed else None,
        )

    def _written(self, attempt: Attempt, end: RunEnd, fenced: bool) -> None:
        self._drop(attempt, lost=not fenced)
        if fenced:
            self.finished[end.state] += 1
            self._tell_relatives(attempt)
            self._on_end(attempt, end)
            if end.follow_up is not None and end.state is RunState.SUCCEEDED:
                self._on_waiting()
            if self._bus.active:
                self._tell_finished(attempt, end)

    def _tell_relatives(self, attempt: Attempt) -> None:
        """The store has woken who waited for this run and asked those below it to stop: what of it is here need not
        find out by polling."""
        run = attempt.run
        if run.parent_id is not None:
            self._on_waiting()
        if attempt.spawned:
            for other in [one for one in self.keeper.held.values() if one.run.id in attempt.spawned]:
                self.stop(other, Stop.CANCEL)

    def _flushed(self) -> None:
        """Ends were written; they may have held up others."""
        if self.ready:
            self._fill()
        self._on_room()

    async def _let_go(self, attempt: Attempt, outcome: LetGo) -> None:
        """Put it back in line, or suspend it until it is tried again. Tried until the store takes it."""
        delay_s, written = RETRY_S, None
        settings = self._settings_of(attempt)
        while written is None:
            try:
                now_ms = self._clock.now_ms()
                written = await let_go(
                    attempt, outcome, store=self._store, owner=self._owner, settings=settings, now_ms=now_ms
                )
            except StoreError as error:
                self._bus.emit("store_failed", operation="let_go", reason=str(error))
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, RETRY_AT_MOST_S)
            except Exception:  # as it cannot be written, somebody else must take the run
                log.exception("run %s: it cannot be let go; its lease will run out", attempt.run.id)
                written = Written.NOT
        self._drop(attempt, lost=written is Written.NOT)
        if written is Written.NOT:
            return
        waits = waits_for(outcome)
        if waits is not None and written is Written.YES:
            self._suspended(attempt, *waits)
            return
        self.counts["released"] += 1
        reason = outcome.reason if isinstance(outcome, PutBack) else (waits or (Reason.INTERRUPTED,))[0]
        self._bus.emit("run_released", **whose(attempt), reason=reason, term=attempt.run.term)
        if written is Written.IN_LINE:
            self._on_waiting()

    def _drop(self, attempt: Attempt, *, lost: bool) -> None:
        self.keeper.held.pop(attempt.key, None)
        attempt.call_errors.clear()
        if lost:
            self.counts["lost"] += 1
            self._bus.emit("lease_lost", **whose(attempt), owner=self._owner, term=attempt.run.term)

    # -- telling ----------------------------------------------------------------------------------------------------

    def _suspended(self, attempt: Attempt, reason: Reason, wake_ms: int | None) -> None:
        self.counts["suspended"] += 1
        ran_ms = round(1000 * (self._clock.monotonic() - attempt.started))
        self._bus.emit("run_suspended", **whose(attempt), reason=reason, wake_ms=wake_ms, ran_ms=ran_ms)

    def _tell_finished(self, attempt: Attempt, end: RunEnd) -> None:
        run = attempt.run
        started_ms = end.now_ms if run.started_ms is None else run.started_ms
        self._bus.emit(
            "run_finished",
            **whose(attempt),
            outcome=end.state,
            reason=end.reason,
            queued_ms=max(0, started_ms - run.submitted_ms),
            ran_ms=max(0, end.now_ms - started_ms),
            attempts=run.attempts + 1,
            calls=end.used_calls,
            model_tokens=end.used_model_tokens,
            degraded=end.degraded,
        )

    # -- waiting ----------------------------------------------------------------------------------------------------

    async def until_quiet(self, timeout_s: float) -> None:
        """Wait until nothing runs."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._quiet.wait()
        except TimeoutError:
            return

    async def until_written(self, timeout_s: float) -> None:
        """Wait until everything that has ended is written."""
        waiting: set[asyncio.Future[Any]] = {asyncio.ensure_future(self.ends.written()), *self.tasks}
        _, left = await asyncio.wait(waiting, timeout=timeout_s)
        if left:
            log.error("%d runs could not be written before leaving; their leases will run out", len(left))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("an attempt ended in a defect", exc_info=error)
