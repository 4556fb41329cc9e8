"""What people do: ask, come back when refused (politely or not), and sometimes go away before the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

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
    went_away: bool = False
    run: RunRecord | None = None
    """The run as it ended."""


class Users:
    """Everybody who asks the gates of one play."""

    def __init__(self, gates: Sequence[Gate], clock: Clock, *, tries: int) -> None:
        self._gates = gates
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
        ticket = {"number": wish.number, "plan": [call.as_json() for call in wish.plan]}
        came_back = False
        while asked.tries <= self._tries and (left_s := until_s - self._clock.monotonic()) > 0:
            gate = self._gates[self._turn % len(self._gates)]
            self._turn += 1
            asked.tries += 1
            asked.returns += came_back
            try:
                admission = await gate.submit(
                    WORKFLOW, ticket, tenant=wish.tenant, user=wish.user, lane=wish.lane, deadline_s=left_s
                )
            except Rejected as refusal:
                asked.refusals.append(str(refusal.reason))
                asked.refused_s.append(self._clock.monotonic())
                wait_s = self._comes_back_in(wish, refusal.retry_after_s, left_s)
                if wait_s is None:
                    return
                await asyncio.sleep(wait_s)
                came_back = wish.manner == "polite"
            else:
                asked.returns_admitted += came_back
                asked.run_id = admission.run.id
                asked.promise = promise_of(admission, self._clock.monotonic())
                self.by_run[admission.run.id] = asked
                if wish.leaves_after_s is not None:
                    await self._leave(asked, gate, wish.leaves_after_s)
                return

    def _comes_back_in(self, wish: Wish, told_s: float | None, left_s: float) -> float | None:
        if wish.manner == "rude":
            return RUDE_EVERY_S
        if wish.manner == "polite" and told_s is not None and told_s < left_s:
            return max(SOON_S, told_s)
        return None

    async def _leave(self, asked: Asked, gate: Gate, after_s: float) -> None:
        await asyncio.sleep(after_s)
        if asked.run is None and asked.run_id is not None:
            asked.went_away = True
            await gate.cancel(asked.run_id, detail="the user went away")


def promise_of(admission: Admission, now_s: float) -> Promise:
    """What an admission says about its run's time."""
    return Promise(
        now_s, _seconds(admission.eta_ms), _seconds(admission.finish_ms), _seconds(admission.finish_p90_ms)
    )


def _seconds(told_ms: int | None) -> float | None:
    return None if told_ms is None else told_ms / 1000
