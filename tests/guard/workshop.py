"""What the guard's tests are made with: resources from a few settings, failing dependencies, a record of events."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any

from headgate.clock import REAL_CLOCK, Clock
from headgate.config.settings import GateSettings
from headgate.guard.ambient import Ambient
from headgate.guard.registry import Resources
from headgate.guard.resource import Resource
from headgate.observe.bus import Event, EventBus


def resources(
    clock: Clock = REAL_CLOCK, *, heard: list[Event] | None = None, seed: int = 1, **settings: Any
) -> Resources:
    """Resources from settings as a file would have them; with ``heard``, events are recorded there."""
    bus = EventBus(clock)
    if heard is not None:
        bus.subscribe(heard.append)
    return Resources(GateSettings.model_validate(settings), clock=clock, rng=random.Random(seed), bus=bus)


def tool(clock: Clock = REAL_CLOCK, *, heard: list[Event] | None = None, **settings: Any) -> Resource:
    """One tool; no breaker and no retries unless asked for."""
    quiet = {"breaker": None, "retry": {"attempts": 1}}
    return resources(clock, heard=heard, tools={"github": {**quiet, **settings}}).get("github")


def told(heard: list[Event], name: str) -> list[Mapping[str, Any]]:
    """The fields of every event of that name."""
    return [event.fields for event in heard if event.name == name]


def lane(rank: int, **more: Any) -> Ambient:
    return Ambient(lane=f"lane{rank}", rank=rank, **more)


class ProviderError(Exception):
    """Shaped like the errors of HTTP SDKs."""

    def __init__(self, status_code: int, headers: Mapping[str, str] | None = None, code: str = "") -> None:
        super().__init__(f"{status_code} {code}")
        self.status_code = status_code
        self.code = code
        self.response = type("Response", (), {"headers": dict(headers or {})})()


class Provider:
    """A dependency that takes ``seconds`` a call and answers as told; counts what reaches it."""

    def __init__(self, seconds: float = 1.0, answer: Callable[[int], Any] = lambda number: number) -> None:
        self.seconds = seconds
        self.answer = answer
        self.calls = 0
        self.inflight = 0
        self.peak = 0
        self.started_at: list[float] = []

    async def __call__(self, *_: Any) -> Any:
        number = self.calls
        self.calls += 1
        self.inflight += 1
        self.peak = max(self.peak, self.inflight)
        self.started_at.append(asyncio.get_running_loop().time())
        try:
            if self.seconds:
                await asyncio.sleep(self.seconds)
            answer = self.answer(number)
            if isinstance(answer, BaseException):
                raise answer
            return answer
        finally:
            self.inflight -= 1


def at_rest(resource: Resource) -> bool:
    """Whether nothing is held, nobody waits, and what was counted agrees."""
    now = resource.statistics()
    return now.inflight == 0 and now.waiting == 0 and resource.turnstile.inflight == 0


def usage_answer(tokens: int) -> dict[str, Any]:
    """An answer that reports its usage, as chat APIs do."""
    return {"usage": {"prompt_tokens": tokens - 1, "completion_tokens": 1}}


QUIET_MODEL: dict[str, Any] = {"retry": {"attempts": 1}, "breaker": None}
"""A model without breaker and retries."""
