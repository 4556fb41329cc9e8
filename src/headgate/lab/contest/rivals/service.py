"""An ordinary service: takes runs in, carries them out, and gives them up at their deadline."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from headgate.clock import Clock
from headgate.errors import UnusableResult
from headgate.lab.contest.rivals.guarded import CallFailed, Guarded
from headgate.lab.contest.rivals.line import Line, NoPlace, Waiter
from headgate.lab.scenario.timeline import Sight
from headgate.lab.scenario.traffic import Wish
from headgate.lab.scenario.users import Promise, Taken, Turned
from headgate.model.run import RunState


@dataclass(slots=True)
class Record:
    """One run of the service. Times are seconds since the play began."""

    id: str
    wish: Wish
    admitted_s: float
    until_s: float
    started_s: float | None = None
    finished_s: float | None = None
    state: RunState = RunState.QUEUED
    reason: str = ""


class OrdinaryRun:
    """A run as its workflow sees it: calls go through the guards, nothing is ever degraded."""

    def __init__(
        self, record: Record, guards: Mapping[str, Guarded], stand_ins: Mapping[str, Sequence[str]], rank: int
    ) -> None:
        self.id = record.id
        self.tenant, self.user, self.lane = record.wish.tenant, record.wish.user, record.wish.lane
        self.attempt = 1
        self.degraded: list[str] = []
        self.log = logging.getLogger("headgate.lab.contest")
        self._record = record
        self._guards = guards
        self._stand_ins = stand_ins
        self._rank = rank

    async def call(
        self,
        resource: str,
        fn: Callable[..., Awaitable[Any]],
        *args: Any,
        check: Callable[[Any], bool] | None = None,
        model_tokens: float | None = None,
        **options: Any,
    ) -> Any:
        """Call through the guard of ``resource``, and through those of its stand-ins when that was in vain.

        Raises:
            NoPlace, CallFailed: none of them brought an answer; this is what the last one said.
            UnusableResult: it brought one, but not a usable one.
        """
        names = (resource, *self._stand_ins.get(resource, ()))
        for name in names[:-1]:
            try:
                return await self._through(name, fn, args, check)
            except (NoPlace, CallFailed, UnusableResult) as failure:
                self.log.debug("%s: %s", name, failure)
        return await self._through(names[-1], fn, args, check)

    async def _through(self, name: str, fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...], check: Any) -> Any:
        guard = self._guards[name]
        try:
            return await guard.call(fn, args, check, until_s=self._record.until_s, rank=self._rank)
        except CallFailed as failure:
            if failure.unusable:
                raise UnusableResult(name, guard.tries) from failure
            raise

    def knob(self, name: str, default: Any) -> Any:
        """Always the default."""
        return default

    def allows(self, name: str) -> bool:
        """Always yes."""
        return True

    @asynccontextmanager
    async def stage(self, name: str) -> AsyncIterator[None]:
        """No bound."""
        yield


class Service:
    """One process; see `headgate.lab.scenario.users.Desk`. Without an ``intake`` every run starts at once."""

    def __init__(
        self,
        agent: Callable[[Any, dict[str, Any]], Awaitable[str]],
        guards: Mapping[str, Guarded],
        *,
        clock: Clock,
        intake: Line | None = None,
        tells_late: bool = False,
        stand_ins: Mapping[str, Sequence[str]] | None = None,
        ranks: Mapping[str, int] | None = None,
    ) -> None:
        """``tells_late``: a run counts as taken in when it starts, and one that is dropped from the line is turned
        away."""
        self._agent = agent
        self._guards = guards
        self._clock = clock
        self._intake = intake
        self._tells_late = tells_late
        self._stand_ins = stand_ins or {}
        self._ranks = ranks or {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.records: dict[str, Record] = {}

    @property
    def running(self) -> int:
        """Runs that have not ended."""
        return len(self._tasks)

    async def ask(self, wish: Wish, ticket: dict[str, Any], left_s: float) -> Taken | Turned:
        rank, place = self._ranks.get(wish.lane, 0), None
        if self._intake is not None:
            try:
                place = self._intake.join(rank)
                if self._tells_late:
                    async with asyncio.timeout(left_s):
                        await self._intake.turn(place)
            except NoPlace as refusal:
                return Turned(str(refusal))
            except TimeoutError:
                return Turned("expired", final=True)
        now = self._clock.monotonic()
        record = Record(f"run-{len(self.records)}", wish, now, wish.at_s + wish.deadline_s)
        self.records[record.id] = record
        run = OrdinaryRun(record, self._guards, self._stand_ins, rank)
        task = asyncio.get_running_loop().create_task(self._carry_out(record, run, ticket, place))
        self._tasks[record.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(record.id))
        return Taken(record.id, Promise(now))

    async def leave(self, run_id: str) -> None:
        if (task := self._tasks.get(run_id)) is not None:
            task.cancel()

    async def stop(self) -> None:
        """Abandon what is still running."""
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def sight(self) -> Sight:
        """For the timeline."""
        lines = [one.line for one in self._guards.values() if one.line is not None]
        if self._intake is not None and self._tells_late:
            lines.append(self._intake)  # who waits there is not taken in yet, and so in no record
        return Sight(
            {name: one.limit for name, one in self._guards.items()},
            sum(line.waiting for line in lines),
            max((line.oldest_s() for line in lines), default=0.0),
        )

    async def _carry_out(
        self, record: Record, run: OrdinaryRun, ticket: dict[str, Any], place: Waiter | None
    ) -> None:
        state, reason = RunState.FAILED, "error"
        try:
            async with asyncio.timeout(record.until_s - self._clock.monotonic()):
                if self._intake is None or place is None:
                    await self._begun(record, run, ticket)
                else:
                    if not self._tells_late:
                        await self._intake.turn(place)
                    try:
                        await self._begun(record, run, ticket)
                    finally:
                        self._intake.leave()
            state, reason = RunState.SUCCEEDED, "succeeded"
        except TimeoutError:
            state, reason = RunState.EXPIRED, "expired"
        except asyncio.CancelledError:
            state, reason = RunState.CANCELLED, "cancelled"
            raise
        except NoPlace as refusal:
            reason = str(refusal)
        except CallFailed as failure:
            reason = f"call_{failure.result.outcome}"
        except UnusableResult:
            reason = "unusable"
        finally:
            record.state, record.reason, record.finished_s = state, reason, self._clock.monotonic()

    async def _begun(self, record: Record, run: OrdinaryRun, ticket: dict[str, Any]) -> None:
        record.started_s, record.state = self._clock.monotonic(), RunState.RUNNING
        await self._agent(run, ticket)
