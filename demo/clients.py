"""The users: they ask when the trace says so, take refusals as the plan says, and follow up on what has ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import httpx2

from demo.ledger import TERMINAL, Asked
from demo.plan import User

LOOK_EVERY_S = 0.5
CALM_S = 0.05
"""Before a request is repeated whose answer never came."""


class Side:
    """One of the two that are compared, as users reach it."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.asked: list[Asked] = []
        self.withheld = 0
        """Follow-ups that were never sent because their earlier turn had not ended."""
        self.http = httpx2.AsyncClient(
            base_url=url,
            timeout=httpx2.Timeout(20.0),
            limits=httpx2.Limits(max_connections=200, max_keepalive_connections=50),
        )

    async def play(self, users: Sequence[User], *, start: float, until_s: float) -> None:
        """Send everybody. ``start`` is on the monotonic clock; nobody asks for the first time after ``until_s``."""
        turns: dict[int, asyncio.Future[float]] = {}
        loop = asyncio.get_running_loop()
        for user in users:
            turns[user.arrival.index] = loop.create_future()
        async with asyncio.TaskGroup() as group:
            for user in users:
                group.create_task(self._one(user, turns, start=start, until_s=until_s))

    async def _one(
        self, user: User, turns: dict[int, asyncio.Future[float]], *, start: float, until_s: float
    ) -> None:
        arrival, ended_s = user.arrival, float("inf")
        try:
            due_s = arrival.at_s
            if arrival.follows is not None:
                due_s = await turns[arrival.follows] + arrival.gap_s
            if due_s >= until_s:
                self.withheld += 1
                return
            await _until(start + due_s)
            asked = Asked(user, time.monotonic() - start)
            self.asked.append(asked)
            await self._ask(asked, start)
            ended_s = time.monotonic() - start
            if asked.run_id is not None and user.followed:
                ended_s = await self._end_of(asked, start=start, until_s=until_s)
        finally:
            if not turns[arrival.index].done():
                turns[arrival.index].set_result(ended_s)

    async def _ask(self, asked: Asked, start: float) -> None:
        """Submit; when refused and polite, once more after the time the answer names, if that is still of use."""
        for last in (False, True):
            answer = await self._submit(asked, left_s=asked.patience_ends_s - (time.monotonic() - start))
            now_s = time.monotonic() - start
            if answer is None:
                asked.refusals.append((now_s, "no_answer"))
                return
            if answer.status_code in (200, 202):
                asked.run_id, asked.admitted_s = answer.json()["id"], now_s
                return
            problem = answer.json()
            asked.refusals.append((now_s, problem.get("reason", str(answer.status_code))))
            wait_ms = answer.headers.get("retry-after-ms")
            if last or not asked.user.polite or wait_ms is None or answer.headers.get("x-should-retry") == "false":
                return
            again_s = now_s + int(wait_ms) / 1000
            if again_s >= asked.patience_ends_s:
                return
            await _until(start + again_s)

    async def _submit(self, asked: Asked, *, left_s: float) -> httpx2.Response | None:
        """One submission; sent again under the same key if its answer was lost. ``None``: lost twice."""
        user, arrival = asked.user, asked.user.arrival
        body = {
            "workflow": "support",
            "tenant": user.tenant,
            "lane": user.lane,
            "deadline": max(0.05, round(left_s, 3)),
            "input": {
                "text": f"Ticket {arrival.index} of customer {arrival.session}: it does not work.",
                "customer": f"customer-{arrival.session}",
                "reads": arrival.input_tokens,
                "writes": arrival.output_tokens,
            },
        }
        headers = {"Idempotency-Key": f"arrival-{arrival.index}-{asked.tries}"}
        asked.tries += 1
        for pause_s in (0.0, CALM_S):
            await asyncio.sleep(pause_s)
            try:
                return await self.http.post("/v1/runs", json=body, headers=headers)
            except httpx2.TransportError:
                continue  # the same key: asking again cannot make a second run
        return None

    async def _end_of(self, asked: Asked, *, start: float, until_s: float) -> float:
        """Look at the run now and then until it has ended; infinity if that is too late to follow up."""
        while (now_s := time.monotonic() - start) < until_s:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                told = (await self.http.get(f"/v1/runs/{asked.run_id}")).json()
            except httpx2.TransportError:
                continue  # too busy to answer; look again
            if told["state"] in TERMINAL:
                asked.ended_s = now_s
                return now_s
        return float("inf")


async def _until(moment: float) -> None:
    wait_s = moment - time.monotonic()
    if wait_s > 0:
        await asyncio.sleep(wait_s)
