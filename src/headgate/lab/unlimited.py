"""The control of every comparison: the same workflow code with no limits at all.

What a first version usually looks like: each run starts at once however many are running (an unbounded queue with
unlimited concurrency), a failed call is tried again at once up to three times, nothing is degraded, nothing is
refused, and no deadline is enforced. `UnlimitedRun` has the methods of `headgate.Run` that workflows use, so the
workflow cannot tell the difference.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from headgate.clock import Clock
from headgate.errors import UnusableResult
from headgate.model.ids import uuid7
from headgate.model.run import RunState

IMMEDIATE_RETRIES = 3
"""Further tries of a failed call, with no pause and no budget."""


@dataclass(slots=True)
class UnlimitedStep:
    """One call of a run, over all its tries. Times are wall-clock milliseconds."""

    resource: str
    started_ms: int
    ran_ms: int = 0
    tries: int = 0
    succeeded: bool = False


@dataclass(slots=True)
class UnlimitedRecord:
    """What is known of one run."""

    id: str
    workflow: str
    tenant: str
    user: str | None
    submitted_ms: int
    state: RunState = RunState.RUNNING
    detail: str | None = None
    finished_ms: int | None = None
    steps: list[UnlimitedStep] = field(default_factory=list)


class UnlimitedRun:
    """A run without protections, as its workflow sees it."""

    def __init__(self, record: UnlimitedRecord, input: Any, clock: Clock) -> None:
        self.id = record.id
        self.workflow = record.workflow
        self.tenant = record.tenant
        self.user = record.user
        self.input = input
        self.lane = "standard"
        self.deadline_ms = None
        self.attempt = 1
        self.degraded: list[str] = []
        self.log = logging.getLogger("headgate.lab.unlimited")
        self._record = record
        self._clock = clock

    async def call(
        self,
        resource: str,
        fn: Callable[..., Any],
        *args: Any,
        effect: str = "idempotent",
        key: str | None = None,
        returns: Any = None,
        model_tokens: float | None = None,
        check: Callable[[Any], bool] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call at once; when that fails, or ``check`` finds the answer unusable, call at once again, up to three
        times."""
        step = UnlimitedStep(resource, self._clock.now_ms())
        self._record.steps.append(step)
        began = self._clock.monotonic()
        try:
            while True:
                step.tries += 1
                try:
                    value = fn(*args, **kwargs)
                    value = await value if isinstance(value, Awaitable) else value
                    if check is not None and not check(value):
                        raise UnusableResult(resource, step.tries)
                    step.succeeded = True
                    return value
                except Exception:
                    if step.tries > IMMEDIATE_RETRIES:
                        raise
        finally:
            step.ran_ms = round((self._clock.monotonic() - began) * 1000)

    def knob(self, name: str, default: Any) -> Any:
        """Always the default: nothing is turned down."""
        return default

    def allows(self, name: str) -> bool:
        """Always yes: nothing is skipped."""
        return True

    @asynccontextmanager
    async def stage(self, name: str) -> AsyncIterator[None]:
        """No bound."""
        yield

    async def approval(self, queue: str, payload: Any) -> None:
        """Nobody is asked."""


class Unlimited:
    """Takes every run and starts it at once. The ledger is kept in memory only: a crash loses everything."""

    def __init__(self, workflows: Mapping[str, Callable[..., Awaitable[Any]]], *, clock: Clock, rng: Random) -> None:
        self._workflows = dict(workflows)
        self._clock = clock
        self._rng = rng
        self._at_work: dict[str, asyncio.Task[None]] = {}
        self.records: dict[str, UnlimitedRecord] = {}

    def submit(
        self, workflow: str, input: Any, *, tenant: str = "default", user: str | None = None
    ) -> UnlimitedRecord:
        """Start a run; it is never refused.

        Raises:
            KeyError: there is no such workflow.
        """
        function = self._workflows[workflow]
        now_ms = self._clock.now_ms()
        record = UnlimitedRecord(uuid7(now_ms, self._rng.getrandbits), workflow, tenant, user, now_ms)
        self.records[record.id] = record
        task = asyncio.get_running_loop().create_task(self._carry_out(function, record, input))
        self._at_work[record.id] = task
        task.add_done_callback(lambda _: self._at_work.pop(record.id, None))
        return record

    @property
    def running(self) -> int:
        return len(self._at_work)

    def lose(self, run_id: str) -> None:
        """The process of this run went away: unless it has ended, it ends as cancelled and nobody knows of it."""
        task = self._at_work.get(run_id)
        if task is not None:
            task.cancel()

    async def stop(self) -> None:
        """Abandon what is still running; those runs end as cancelled."""
        tasks = list(self._at_work.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry_out(self, function: Callable[..., Awaitable[Any]], record: UnlimitedRecord, input: Any) -> None:
        state, detail = RunState.SUCCEEDED, None
        try:
            await function(UnlimitedRun(record, input, self._clock), input)
        except asyncio.CancelledError:
            state = RunState.CANCELLED
            raise
        except Exception as error:  # noqa: BLE001 - it is somebody else's code, and its failure is the result
            state, detail = RunState.FAILED, f"{type(error).__name__}: {error}"[:300]
        finally:
            record.state, record.detail, record.finished_ms = state, detail, self._clock.now_ms()
