"""What people do: ask, come back when refused (politely or not), and sometimes go away before the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from headgate.clock import Clock
from headgate.errors import Rejected
from headgate.gate import Gate
from headgate.lab.scenario.traffic import Wish
from headgate.model.decision import Admission
from headgate.model.run import RunRecord

WORKFLOW = "agent"
RUDE_EVERY_S = 1.0
SOON_S = 0.5
"""What a polite client waits for at least, and how late after the told moment it asks again counts as on it."""
CLOCK_S = 2e-3
"""What moments of a store, in whole milliseconds, may be off."""
BACKOFF_S = 1.0
"""A polite client that was told no moment comes back after this, then twice this, and so on, as SDKs do."""


@dataclass(slots=True)
class Promise:
    """What an admitted user was told, in seconds from then."""

    at_s: float
    start_s: float | None = None
    finish_p50_s: float | None = None
    finish_p90_s: float | None = None


@dataclass(slots=True)
class Asked:
    """What became of one wish."""

    wish: Wish
    tries: int = 0
    refusals: list[str] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    """When each of them came."""
    returns: int = 0
    """Times somebody came back when told to …"""
    returns_admitted: int = 0
    """… and was admitted."""
    run_id: str | None = None
    promise: Promise | None = None
    left_s: float | None = None
    """When they went away, if they did."""
    run: RunRecord | None = None
    """The run as it ended."""

    def went_away(self, finished_s: float | None) -> bool:
        """Whether they left before the end of their run; who comes to collect it later has not."""
        return self.left_s is not None and (finished_s is None or finished_s >= self.left_s - CLOCK_S)


@dataclass(frozen=True, slots=True)
class Taken:
    """The service took the run in."""

    run_id: str
    promise: Promise


@dataclass(frozen=True, slots=True)
class Turned:
    """The service turned the run away."""

    reason: str
    retry_after_s: float | None = None
    """When to come back, if it tells."""
    final: bool = False
    """It says that coming back is of no use."""


class Desk(Protocol):
    """Where people ask: one process of some service."""

    async def ask(self, wish: Wish, ticket: dict[str, Any], left_s: float) -> Taken | Turned:
        """Somebody wants ``wish`` within ``left_s`` seconds."""
        ...

    async def leave(self, run_id: str) -> None:
        """Its user went away."""
        ...


class GateDesk:
    """A gate, as its users see it. ``untold`` is what they do not say: ``lane`` (all runs go to the workflow's),
    ``tenant`` (all are one tenant's and one user's)."""

    def __init__(self, gate: Gate, clock: Clock, *, untold: Collection[str] = ()) -> None:
        self._gate = gate
        self._clock = clock
        self._untold = untold

    async def ask(self, wish: Wish, ticket: dict[str, Any], left_s: float) -> Taken | Turned:
        lane = None if "lane" in self._untold else wish.lane
        tenant, user = ("default", None) if "tenant" in self._untold else (wish.tenant, wish.user)
        try:
            admission = await self._gate.submit(
                WORKFLOW, ticket, tenant=tenant, user=user, lane=lane, deadline_s=left_s
            )
        except Rejected as refusal:
            return Turned(str(refusal.reason), refusal.retry_after_s, final=refusal.retry_after_s is None)
        return Taken(admission.run.id, promise_of(admission, self._clock.monotonic()))

    async def leave(self, run_id: str) -> None:
        await self._gate.cancel(run_id, detail="the user went away")


class Users:
    """Everybody who asks at the desks of one play, in turn."""

    def __init__(self, desks: Sequence[Desk], clock: Clock, *, tries: int) -> None:
        self._desks = desks
        self._clock = clock
        self._tries = tries
        self._turn = 0
        self.asked: list[Asked] = []
        self.by_run: dict[str, Asked] = {}

    async def come(self, wishes: Sequence[Wish]) -> None:
        """Every wish at its moment, whatever became of the others (open loop); ends when the last has been told."""
        async with asyncio.TaskGroup() as group:
            for wish in wishes:
                wait_s = wish.at_s - self._clock.monotonic()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                asked = Asked(wish)
                self.asked.append(asked)
                group.create_task(self._ask(asked))

    async def _ask(self, asked: Asked) -> None:
        wish = asked.wish
        until_s = wish.at_s + wish.deadline_s
        ticket = wish.ticket
        was_told = False
        while asked.tries <= self._tries and (left_s := until_s - self._clock.monotonic()) > 0:
            desk = self._desks[self._turn % len(self._desks)]
            self._turn += 1
            asked.tries += 1
            asked.returns += was_told
            answer = await desk.ask(wish, ticket, left_s)
            if isinstance(answer, Turned):
                asked.refusals.append(answer.reason)
                asked.refused_s.append(self._clock.monotonic())
                wait_s = self._comes_back_in(asked, answer, left_s)
                if wait_s is None:
                    return
                await asyncio.sleep(wait_s)
                was_told = wish.manner == "polite" and answer.retry_after_s is not None
            else:
                asked.returns_admitted += was_told
                asked.run_id = answer.run_id
                asked.promise = answer.promise
                self.by_run[answer.run_id] = asked
                if wish.leaves_after_s is not None:
                    await self._leave(asked, desk, wish.leaves_after_s)
                return

    def _comes_back_in(self, asked: Asked, answer: Turned, left_s: float) -> float | None:
        if asked.wish.manner == "rude":
            return RUDE_EVERY_S
        if asked.wish.manner == "polite" and not answer.final:
            told_s = answer.retry_after_s
            wait_s = BACKOFF_S * 2.0 ** (asked.tries - 1) if told_s is None else told_s
            return max(SOON_S, wait_s) if wait_s < left_s else None
        return None

    async def _leave(self, asked: Asked, desk: Desk, after_s: float) -> None:
        await asyncio.sleep(after_s)
        if asked.run is None and asked.run_id is not None:
            asked.left_s = self._clock.monotonic()
            await desk.leave(asked.run_id)


def promise_of(admission: Admission, now_s: float) -> Promise:
    """What an admission says about its run's time."""
    return Promise(
        now_s, _seconds(admission.eta_ms), _seconds(admission.finish_ms), _seconds(admission.finish_p90_ms)
    )


def _seconds(told_ms: int | None) -> float | None:
    return None if told_ms is None else told_ms / 1000
