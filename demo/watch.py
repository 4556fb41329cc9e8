"""Looks at both sides and their providers twice a second, for the live view and the timelines."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2

EVERY_S = 0.5
_SERIES = re.compile(r"^(\w+)\{([^}]*)\}\s+(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at one side saw."""

    at_s: float
    waiting: int
    running: int
    oldest_s: float
    """Age of the oldest run that waits for a worker; of the oldest unfinished run where nothing waits."""
    succeeded: int
    failed: int
    calls: int
    """That the provider has received."""
    inflight: int
    """At the provider."""
    pressure: float = 0.0
    breakers: tuple[str, ...] = ()
    """Models whose breaker is not closed."""


@dataclass(slots=True)
class Watch:
    """The looks at one side, oldest first."""

    url: str
    provider_url: str | None
    read: Callable[[httpx2.AsyncClient], Any]
    looks: list[Look] = field(default_factory=list)
    missed: int = 0
    """Looks that got no answer in time."""

    @property
    def last(self) -> Look:
        return self.looks[-1] if self.looks else Look(0.0, 0, 0, 0.0, 0, 0, 0, 0)

    async def follow(self, start: float) -> None:
        """Look until cancelled."""
        async with (
            httpx2.AsyncClient(base_url=self.url, timeout=3.0) as service,
            httpx2.AsyncClient(base_url=self.provider_url or self.url, timeout=3.0) as provider,
        ):
            while True:
                at_s = time.monotonic() - start
                try:
                    seen = await self.read(service)
                    stats = (await provider.get("/stats")).json() if self.provider_url else None
                except (httpx2.HTTPError, KeyError, ValueError):
                    self.missed += 1
                else:
                    calls = stats["received"] if stats else 0
                    inflight = sum(model["inflight"] for model in stats["models"].values()) if stats else 0
                    self.looks.append(Look(at_s=at_s, calls=calls, inflight=inflight, **seen))
                await asyncio.sleep(EVERY_S)


async def read_service(http: httpx2.AsyncClient) -> dict[str, Any]:
    """The service's own words: ``/v1/capacity`` and ``/metrics``."""
    capacity = (await http.get("/v1/capacity")).json()
    ended = {"succeeded": 0, "other": 0}
    for name, labels, value in _SERIES.findall((await http.get("/metrics")).text):
        if name == "headgate_runs_finished_total":
            ended["succeeded" if 'outcome="succeeded"' in labels else "other"] += round(float(value))
        elif name == "headgate_runs_expired_total":
            ended["other"] += round(float(value))
    lanes = capacity["lanes"]
    return {
        "waiting": sum(lane["depth"] for lane in lanes),
        "running": sum(lane["running"] for lane in lanes),
        "oldest_s": max((lane["oldest_age_s"] for lane in lanes), default=0.0),
        "succeeded": ended["succeeded"],
        "failed": ended["other"],
        "pressure": capacity["pressure"]["level"],
        "breakers": tuple(
            f"{one['name']} {one['breaker']}" for one in capacity["resources"] if one["breaker"] != "closed"
        ),
    }


async def read_control(http: httpx2.AsyncClient) -> dict[str, Any]:
    """The control's words; nothing ever waits there."""
    state = (await http.get("/state")).json()
    return {
        "waiting": 0,
        "running": state["running"],
        "oldest_s": state["oldest_age_s"],
        "succeeded": state["succeeded"],
        "failed": state["failed"],
    }
