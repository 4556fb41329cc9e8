"""A tenfold surge in virtual time: the real gate, the trace and the provider's physics, without sockets.

The same seed gives the same run of events, byte for byte, in every process: `Outcome.event_hash` says so. The
same traffic through `headgate.lab.unlimited` shows what the limits are for.

Users are simpler than in the demo: a follow-up comes when the trace says, and a refused request is not repeated.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from headgate.config.settings import GateSettings
from headgate.errors import HeadgateError, Rejected
from headgate.gate import Gate
from headgate.guard.ambient import current_resource
from headgate.lab.provider.catalogue import MODELS
from headgate.lab.provider.physics import Answer, Call
from headgate.lab.provider.service import Provider
from headgate.lab.recording import EventLog, store_folder
from headgate.lab.trace import Arrival, Phase, load_trace, replay
from headgate.lab.unlimited import Unlimited
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.lab.weather import Spell
from headgate.model.run import RunState

PATIENCE_S = 8.0
PHASES = (Phase("normal", 6.0, 1.4), Phase("surge", 12.0, 14.0), Phase("recovery", 6.0, 1.4))
OUTAGE = (Spell(10.0, 15.0, capacity=0.4, errors=0.33, models=("large",)),)
TRACE_FROM_S = 600.0

SETTINGS: dict[str, Any] = {
    "workers": {"slots": 20},
    "limits": [{"per": "tenant", "runs": "300/min", "burst": 40}],
    "models": {
        "large": {
            "concurrency": 8,
            "queue": {"depth": 20, "max_age": "2s"},
            "timeout": "6s",
            "fallback": "small",
            "breaker": {"failure_rate": "60%", "minimum_calls": 10, "consecutive": 8, "open_for": "2s"},
            "retry": {"attempts": 3, "budget": "20%", "base": "200ms", "max_delay": "1s"},
        },
        "small": {"concurrency": 4, "queue": {"depth": 20, "max_age": "2s"}, "timeout": "4s"},
    },
    "tools": {"search": {"concurrency": 32, "timeout": "2s"}},
    "workflows": {
        "answer": {
            "lane": "interactive",
            "deadline": "8s",
            "queue": {"depth": 18, "max_age": "4s"},
            "attempts": 1,
            "degrade": [{"at": "70%", "models": {"large": "small"}, "skip": ["review"]}],
        }
    },
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the traffic."""

    offered: int
    admitted: int
    refused: dict[str, int] = field(hash=False)
    on_time: int
    """Succeeded within `PATIENCE_S` of being asked for."""
    late: int
    failed: dict[str, int] = field(hash=False)
    unfinished: int
    """Accepted and in no terminal state at the end."""
    provider_calls: int
    seconds: float
    """Virtual time until the last run had ended."""
    events: int = 0
    event_hash: str = ""
    """SHA-256 over all events of the bus, as text."""

    @property
    def on_time_share(self) -> float:
        return self.on_time / self.offered if self.offered else 0.0


class ProviderError(RuntimeError):
    """An answer other than 200, in the shape that guards read."""

    def __init__(self, answer: Answer) -> None:
        self.status_code = answer.status
        wait_s = answer.retry_after_s
        self.headers = {} if wait_s is None else {"retry-after": f"{wait_s:.0f}"}
        super().__init__(f"{answer.status} {answer.code}")


def surge(*, seed: int, limits: bool = True, phases: Sequence[Phase] = PHASES) -> Outcome:
    """Play the surge with headgate, or (``limits=False``) with nothing held back."""
    arrivals = _arrivals(seed, tuple(phases))
    if not limits:
        return run_virtual(lambda clock: _unlimited(arrivals, clock, seed))
    with store_folder("headgate-surge-") as folder:
        return run_virtual(lambda clock: _limited(arrivals, clock, seed, folder))


@cache
def _arrivals(seed: int, phases: tuple[Phase, ...]) -> tuple[Arrival, ...]:
    return tuple(replay(load_trace(seed=seed), phases, start_s=TRACE_FROM_S))


class Work:
    """The workflow: two or three model calls and a tool, on a simulated provider."""

    def __init__(self, provider: Provider, rng: Random) -> None:
        self._provider = provider
        self._rng = rng

    async def answer(self, run: Any, ticket: dict[str, int]) -> str:
        """Carry out one run; ``run`` is a `headgate.Run` or an `UnlimitedRun`."""
        reads, writes = ticket["reads"], ticket["writes"]
        await run.call("large", self._ask, reads // 4, max(1, writes // 6))
        await run.call("search", self._search)
        await run.call("large", self._ask, reads, writes)
        if run.allows("review"):
            await run.call("large", self._ask, reads // 2, max(1, writes // 3))
        return "answered"

    async def _ask(self, reads: int, writes: int) -> int:
        answer = await self._provider.complete(Call(current_resource() or "large", reads, writes))
        if answer.status != 200:
            raise ProviderError(answer)
        return reads + writes

    async def _search(self) -> str:
        await asyncio.sleep(self._rng.lognormvariate(-2.0, 0.3))
        return "found"


async def _limited(arrivals: Sequence[Arrival], clock: LoopClock, seed: int, folder: Path) -> Outcome:
    provider = Provider(MODELS, clock=clock, rng=Random(seed), spells=OUTAGE)
    settings = GateSettings.model_validate({**SETTINGS, "store": f"sqlite:///{folder}/surge.db"})
    gate = Gate(settings, clock=clock, rng=Random(seed + 1), store_mode="inline")
    log = EventLog()
    gate.bus.subscribe(log)
    gate.workflow("answer")(Work(provider, Random(seed + 2)).answer)
    refused: Counter[str] = Counter()
    accepted: dict[str, float] = {}

    async def ask(arrival: Arrival) -> None:
        await asyncio.sleep(arrival.at_s)
        try:
            admission = await gate.submit("answer", _ticket(arrival), tenant=_tenant(arrival), deadline_s=PATIENCE_S)
        except Rejected as refusal:
            refused[refusal.reason] += 1
        else:
            accepted[admission.run.id] = clock.now_ms()

    async with gate:
        await asyncio.gather(*(ask(arrival) for arrival in arrivals))
        ended = [await gate.ended(run_id, timeout_s=10 * PATIENCE_S) for run_id in accepted]
        seconds = clock.monotonic()
    on_time = sum(
        run.state is RunState.SUCCEEDED and (run.finished_ms or 0) - accepted[run.id] <= 1000 * PATIENCE_S
        for run in ended
    )
    succeeded = sum(run.state is RunState.SUCCEEDED for run in ended)
    return Outcome(
        offered=len(arrivals),
        admitted=len(accepted),
        refused=dict(refused),
        on_time=on_time,
        late=succeeded - on_time,
        failed=dict(Counter(str(run.reason) for run in ended if run.state is not RunState.SUCCEEDED)),
        unfinished=sum(not run.state.terminal for run in ended),
        provider_calls=provider.statistics()["received"],
        seconds=seconds,
        events=log.count,
        event_hash=log.hexdigest(),
    )


async def _unlimited(arrivals: Sequence[Arrival], clock: LoopClock, seed: int) -> Outcome:
    provider = Provider(MODELS, clock=clock, rng=Random(seed), spells=OUTAGE)
    unlimited = Unlimited({"answer": Work(provider, Random(seed + 2)).answer}, clock=clock, rng=Random(seed + 1))
    for arrival in arrivals:
        await asyncio.sleep(max(0.0, arrival.at_s - clock.monotonic()))
        unlimited.submit("answer", _ticket(arrival), tenant=_tenant(arrival))
    while unlimited.running:
        await asyncio.sleep(0.1)
        if clock.monotonic() > 600:
            raise HeadgateError("the control did not come to an end within ten minutes")
    records = list(unlimited.records.values())
    succeeded = [record for record in records if record.state is RunState.SUCCEEDED]
    on_time = sum((record.finished_ms or 0) - record.submitted_ms <= 1000 * PATIENCE_S for record in succeeded)
    return Outcome(
        offered=len(arrivals),
        admitted=len(records),
        refused={},
        on_time=on_time,
        late=len(succeeded) - on_time,
        failed=dict(Counter(str(record.detail) for record in records if record.state is not RunState.SUCCEEDED)),
        unfinished=0,
        provider_calls=provider.statistics()["received"],
        seconds=clock.monotonic(),
    )


def _ticket(arrival: Arrival) -> dict[str, int]:
    return {"number": arrival.index, "reads": arrival.input_tokens, "writes": arrival.output_tokens}


def _tenant(arrival: Arrival) -> str:
    """Skewed: a third of the sessions belong to one."""
    return "acme" if arrival.session % 3 == 0 else f"tenant-{arrival.session % 7}"
