"""One attempt: a leased run while a worker carries it out, and the ways to stop it.

An attempt ends when its workflow returns or raises. It can be asked to end earlier, for one of the reasons in
`Stop`; the reason, not what the workflow makes of it, then decides what is written. So a workflow that swallows
the cancellation still ends as cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from enum import IntEnum

from headgate.clock import Clock
from headgate.errors import BudgetExhausted
from headgate.model.cost import ResourceUse
from headgate.model.reason import Reason
from headgate.model.run import RunRecord
from headgate.policy import run_cost
from headgate.runs.budget import budget_of
from headgate.runs.cheaper import Cheaper
from headgate.runs.resource_time import ResourceTime
from headgate.runs.safe_point import SafePoint
from headgate.store.protocols import Claim

GRACE_S = 5.0
"""How long cancelled code may take to end before it is left to itself."""
ERRORS_KEPT = 16
WARNINGS_KEPT = 50
INSISTING_S = 0.05
"""How long a workflow that goes on after it was stopped waits for each further refusal."""


class Stop(IntEnum):
    """Why an attempt is to end before its workflow does. A later word wins only if it is larger."""

    STEP = 1
    """At its next step; the run goes back in line (drain, preemption, pause)."""
    BUDGET = 2
    """At its next step; the run waits until somebody raises its ceiling."""
    NOW = 3
    """Cancelled; the run goes back in line (drain ran out of time)."""
    LOOP = 4
    """At its next step, because it only repeats itself."""
    CANCEL = 5
    """Cancelled, because somebody asked for the run's end."""
    DEADLINE = 6
    """Cancelled, because nobody wants the result any more."""
    ASKED = 7
    """It put a question to people, or waits for sub-runs, which suspended the run in the store already."""
    LOST = 8
    """Another owner holds the run: nothing may be written."""


_SOFT = frozenset({Stop.STEP, Stop.BUDGET, Stop.LOOP, Stop.ASKED})
"""The workflow is not cancelled for these."""


class AttemptStopped(BaseException):
    """Unwinds a workflow from a step. Not an `Exception`, so that ordinary handlers let it pass."""


class Attempt:
    """State of one attempt, shared by the worker that may stop it and the context that makes its calls."""

    __slots__ = (
        "asked_for",
        "asking",
        "awaits",
        "call_errors",
        "ceiling",
        "ceiling_fails",
        "changed",
        "charged",
        "cheaper",
        "claim",
        "clock",
        "closed",
        "confirmed",
        "cost_factor",
        "ended",
        "entered",
        "grace",
        "leaving",
        "loop",
        "meter",
        "open_calls",
        "parallel",
        "performing",
        "queued_s",
        "resource_time",
        "run",
        "safe_point",
        "signalled",
        "spawned",
        "started",
        "stayed_s",
        "step_reason",
        "stop",
        "task",
        "trusted_s",
        "uses",
        "wall_timer",
        "warnings",
        "worked_s",
    )

    def __init__(self, claim: Claim, *, clock: Clock, confirmed: float, trusted_s: float) -> None:
        """``confirmed`` is the monotonic moment of sending the claim or the last successful heartbeat; the lease is
        relied on for ``trusted_s`` seconds from then."""
        self.claim = claim
        self.run: RunRecord = claim.run
        self.meter = budget_of(claim)
        self.cheaper = Cheaper(claim.steps)
        """What was done more cheaply."""
        self.clock = clock
        self.confirmed = confirmed
        self.trusted_s = trusted_s
        self.started = 0.0
        """Monotonic moment at which its workflow began."""
        self.safe_point = SafePoint(clock)
        self.stop: Stop | None = None
        self.step_reason = Reason.DRAINING
        """Why it is put back in line when it stops at its next step (`Stop.STEP`)."""
        self.signalled = False
        """Whether the workflow was unwound by `AttemptStopped`."""
        self.entered = False
        """Whether its task has begun; before, it cannot be cancelled without being lost."""
        self.closed = False
        """The workflow has ended; calls that it left behind may do nothing more."""
        self.ended = False
        """What is to be written is decided."""
        self.task: asyncio.Task[None] | None = None
        self.grace: asyncio.TimerHandle | None = None
        self.open_calls: set[asyncio.Task[object]] = set()
        self.performing: set[asyncio.Task[object] | None] = set()
        """Tasks whose call is under way, or being written down."""
        self.ceiling: BudgetExhausted | None = None
        """The ceiling that was reached."""
        self.ceiling_fails = False
        """Reaching it ends the run instead of pausing it."""
        self.awaits: tuple[tuple[str, ...], ...] = ()
        """Sub-runs that hold what is missing at the ceiling: it waits until one of these groups has ended."""
        self.leaving: BaseException | None = None
        """What the workflow raised to end the whole process; raised again once the run is let go."""
        self.loop: str | None = None
        """What it repeats, when it is stopped for that."""
        self.resource_time = ResourceTime(clock)
        self.cost_factor = 1.0
        """How much a second of its workflow counts."""
        self.charged = max(self.run.cost, self.run.spent)
        """What the store has charged for it by now, as far as known here."""
        self.worked_s = 0.0
        """Seconds in calls, those in parallel added up."""
        self.uses: dict[str, ResourceUse] = {}
        """What its calls took, by the resource that answered."""
        self.parallel = 0
        """The most calls that were under way at once."""
        self.queued_s = 0.0
        """Seconds in which calls waited for their slots, those in parallel added up."""
        self.stayed_s = 0.0
        """Seconds in its slot, once it has left it."""
        self.wall_timer: asyncio.TimerHandle | None = None
        self.spawned: set[str] = set()
        """Its sub-runs that end with it, as far as known here."""
        self.warnings: list[str] = []
        """What the run, and its model, should know; at most ``WARNINGS_KEPT``."""
        self.asking = False
        """A question is being put, which will suspend the run: no call may begin meanwhile."""
        self.asked_for = Reason.APPROVAL_WAIT
        """What the run waits for once it is suspended from inside (`Stop.ASKED`)."""
        self.changed: asyncio.Event | None = None
        self.call_errors: list[BaseException] = []
        """The latest exceptions that calls on resources raised, at most ``ERRORS_KEPT``."""

    @property
    def key(self) -> tuple[str, int]:
        """(run, term): what the lease is about."""
        return self.run.id, self.run.term

    def request_stop(self, stop: Stop) -> bool:
        """Ask it to end for that reason. False if it ends already, or for a weightier reason."""
        if self.ended or (self.stop is not None and self.stop >= stop):
            return False
        self.stop = stop
        if stop not in _SOFT and self.entered and self.task is not None:
            self.task.cancel()
        self.notify()
        return True

    def withdraw(self) -> bool:
        """Take back a request to stop at the next step. False if the workflow was stopped by it already, or the
        attempt is to end for a weightier reason."""
        if self.stop is not Stop.STEP or self.signalled or self.closed or self.ended:
            return False
        self.stop, self.step_reason = None, Reason.DRAINING
        return True

    def confirm(self, sent: float) -> None:
        """A heartbeat sent at that monotonic moment was answered: the lease is ours."""
        self.confirmed = sent
        self.notify()

    def check(self) -> None:
        """A step boundary.

        Raises:
            AttemptStopped: the attempt is to end, or has ended.
        """
        if self.stop is not None or self.closed:
            self.signalled = True
            raise AttemptStopped

    async def boundary(self) -> None:
        """As `check`, for workflows: one that swallows the first answer and asks again in a loop is slowed down, so
        that it cannot hold up its worker.
        """
        if (self.stop is not None or self.closed) and self.signalled:
            await asyncio.sleep(INSISTING_S)
        self.check()

    async def may_call(self) -> None:
        """A step boundary at which something is about to be done in the world: the lease must be certain.

        While heartbeats cannot be confirmed, it waits here until one is, or until the lease is found lost, so
        that a worker that was cut off or stood still does not act twice.
        """
        await self.boundary()
        while self.asking or not self._trusted():
            await self._change()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """No other task of this attempt is in a call, and none begins one inside. The lease is certain."""
        mine = asyncio.current_task()
        await asyncio.sleep(0)  # branches that were started together with this one come to their first call
        await self.boundary()
        while self.asking or self.open_calls - {mine} or not self._trusted():
            await self._change()
        self.asking = True
        try:
            yield
        finally:
            self.asking = False
            self.notify()

    @property
    def ran_s(self) -> float:
        """How long its workflow has been carried out."""
        return self.clock.monotonic() - self.started if self.task is not None else 0.0

    @property
    def wall_ms(self) -> int:
        """Running time of the run over all attempts, in milliseconds."""
        return round(1000 * (self.meter.used_wall_s + self.ran_s))

    @property
    def cost(self) -> float:
        """What the run has cost over all attempts, in fairness units."""
        if self.task is None:
            return self.run.spent
        time = self.resource_time
        calls_s = time.total_s if time.called else 0.0
        return self.run.spent + run_cost.spent(
            self.cost_factor, calls_s=calls_s, slot_s=self.ran_s, called=time.called
        )

    def warn(self, words: str) -> None:
        """Remember a warning."""
        self.warnings.append(words)
        del self.warnings[:-WARNINGS_KEPT]

    def reach(self, ceiling: BudgetExhausted, *, fails: bool) -> None:
        """A ceiling is reached: end at the next step."""
        if self.request_stop(Stop.BUDGET):
            self.ceiling, self.ceiling_fails = ceiling, fails

    async def others_done(self) -> bool:
        """Wait until some other call of this attempt has ended; False if none is under way."""
        if self.performing <= {asyncio.current_task()}:
            return False
        await self._change()
        return True

    def performing_here(self, *, once: bool = False) -> AbstractContextManager[None]:
        """Count the current task among those whose call is under way; ``once``: its effect must not be repeated."""
        return _Performing(self, once=once)

    def _trusted(self) -> bool:
        return self.clock.monotonic() - self.confirmed < self.trusted_s

    async def _change(self) -> None:
        if self.changed is None:
            self.changed = asyncio.Event()
        self.changed.clear()
        await self.changed.wait()
        self.check()

    def notify(self) -> None:
        if self.changed is not None:
            self.changed.set()

    def lose(self) -> AttemptStopped:
        """The fence did not match: from now on nothing is written. Raise what this returns."""
        self.stop = Stop.LOST
        self.signalled = True
        return AttemptStopped()

    def note_use(self, resource: str, *, calls: int, busy_s: float, model_tokens: int) -> None:
        """A step that the resource answered took so much."""
        self.worked_s += busy_s
        use = self.uses.get(resource, ResourceUse())
        self.uses[resource] = ResourceUse(
            use.calls + calls, use.busy_s + busy_s, use.model_tokens + model_tokens, use.answers + 1
        )

    def note_error(self, error: BaseException) -> None:
        """A call on a resource raised this."""
        self.call_errors.append(error)
        del self.call_errors[:-ERRORS_KEPT]

    def call_open(self) -> AbstractContextManager[None]:
        """Count the current task among those that are in a call."""
        return _InCall(self)


class _Counted:
    """A block of code in the current task. Not a generator: there are several around every call."""

    __slots__ = ("_attempt", "_new", "_task")

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._task = asyncio.current_task()
        self._new = False


class _InCall(_Counted):
    __slots__ = ()

    def __enter__(self) -> None:
        task, open_calls = self._task, self._attempt.open_calls
        if task is not None and task not in open_calls:
            self._new = True
            open_calls.add(task)

    def __exit__(self, *_: object) -> None:
        if self._new and self._task is not None:
            self._attempt.open_calls.discard(self._task)
        self._attempt.notify()


class _Performing(_Counted):
    __slots__ = ("_once",)

    def __init__(self, attempt: Attempt, *, once: bool) -> None:
        super().__init__(attempt)
        self._once = once

    def __enter__(self) -> None:
        attempt = self._attempt
        attempt.safe_point.once += self._once
        attempt.safe_point.call_begins()
        if self._task not in attempt.performing:
            self._new = True
            attempt.performing.add(self._task)
            attempt.parallel = max(attempt.parallel, len(attempt.performing))

    def __exit__(self, *_: object) -> None:
        attempt = self._attempt
        attempt.safe_point.once -= self._once
        if self._new:
            attempt.performing.discard(self._task)
        attempt.notify()
