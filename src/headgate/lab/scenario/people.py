"""People who answer questions, at the speed of people, and always with yes: the first of the list that a gate shows
them; without a gate there is no list, and the oldest comes first."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from random import Random

from headgate.gate import Gate
from headgate.lab.scenario.behaviours import Answerers

GLANCE_S = 1.0
"""How often somebody idle looks whether there is a question."""


class People:
    """Everybody who answers in one play."""

    def __init__(self, queues: Mapping[str, Answerers], *, rng: Random) -> None:
        self._queues = dict(queues)
        self._rng = rng
        self._asked: dict[str, deque[asyncio.Future[None]]] = {name: deque() for name in queues}
        """Questions that no gate keeps, the oldest first."""
        self._taken: set[str] = set()
        """Ids of questions that somebody is thinking about."""
        self.answered: dict[str, int] = dict.fromkeys(queues, 0)

    async def ask(self, queue: str) -> None:
        """Wait until somebody has said yes, however long that takes and however many wait.

        Raises:
            KeyError: there is no such queue.
        """
        question = asyncio.get_running_loop().create_future()
        self._asked[queue].append(question)
        await question

    async def work(self, gate: Callable[[], Gate | None]) -> None:
        """Answer, until cancelled. ``gate`` is one of those that keep questions; ``None``: there is none."""
        async with asyncio.TaskGroup() as group:
            for queue, settings in self._queues.items():
                for nth in range(settings.count):
                    group.create_task(self._person(queue, f"{queue}-{nth}", settings, gate))

    async def _person(self, queue: str, name: str, settings: Answerers, gate: Callable[[], Gate | None]) -> None:
        while True:
            at_hand = gate()
            found = self._next_here(queue) if at_hand is None else await self._next_kept(queue, at_hand)
            if found is None:
                await asyncio.sleep(GLANCE_S)
                continue
            noise = math.exp(self._rng.gauss(-(settings.noise**2) / 2, settings.noise))
            await asyncio.sleep(settings.takes * noise)
            self.answered[queue] += 1
            if isinstance(found, str):
                await self._decide(found, name, gate)
            elif not found.done():
                found.set_result(None)

    def _next_here(self, queue: str) -> asyncio.Future[None] | None:
        asked = self._asked[queue]
        while asked:
            question = asked.popleft()
            if not question.done():  # else whoever asked went away
                return question
        return None

    async def _next_kept(self, queue: str, gate: Gate) -> str | None:
        waiting = await gate.store.approvals.waiting(
            queue=queue, tenant=None, limit=len(self._taken) + 1, now_ms=gate.clock.now_ms()
        )
        for one in waiting:
            if one.id not in self._taken:
                self._taken.add(one.id)
                return one.id
        return None

    async def _decide(self, question: str, name: str, gate: Callable[[], Gate | None]) -> None:
        self._taken.discard(question)
        at_hand = gate()
        if at_hand is None:
            return
        now_ms = at_hand.clock.now_ms()
        decided = await at_hand.store.approvals.decide(
            question, tenant=None, approved=True, by=name, note=None, now_ms=now_ms
        )
        if decided is not None and decided.decided_ms == now_ms and decided.state == "approved":
            at_hand.bus.emit(
                "approval_decided",
                tenant=decided.tenant,
                run_id=decided.run_id,
                queue=decided.queue,
                approval_id=decided.id,
                outcome=decided.state,
                queued_ms=now_ms - decided.asked_ms,
            )
            at_hand.poke()
