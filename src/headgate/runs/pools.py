"""The slots of a worker process in two pools, foreground and background, so that neither takes the other's.

Each pool is a worker of its own with its own slots, lanes, shares and leases: what is lent, and what is preempted,
stays inside a pool.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from headgate.config.settings import GateSettings
from headgate.policy.eta import BACKGROUND, WORKERS
from headgate.runs.worker import Drained, SlotPool, Worker, WorkerStatistics


def worker_of(settings: GateSettings, *parts: Any, owner: str, **more: Any) -> Worker:
    """The worker of a process; ``parts`` and ``more`` as for `Worker`."""
    background = settings.workers.background
    if background is None:
        return Worker(*parts, owner=owner, **more)
    apart = settings.background_lanes
    rest = tuple(name for name in settings.lanes if name not in apart)
    behind = SlotPool(BACKGROUND, background.slots, apart)
    return PooledWorker(
        *parts,
        owner=owner,
        pool=SlotPool(WORKERS, settings.workers.slots, rest),
        background=lambda: Worker(*parts, owner=f"{owner}/background", pool=behind, **more),
        **more,
    )


class PooledWorker(Worker):
    """The foreground pool, which takes the background pool along."""

    def __init__(self, *parts: Any, background: Callable[[], Worker], **more: Any) -> None:
        super().__init__(*parts, **more)
        self.background = background()

    async def start(self) -> None:
        """Begin to claim."""
        await super().start()
        await self.background.start()

    def poke(self) -> None:
        """Something new may wait: look now."""
        super().poke()
        self.background.poke()

    def cancel(self, run_id: str) -> bool:
        """As `Worker.cancel`, in either pool."""
        return super().cancel(run_id) or self.background.cancel(run_id)

    async def drain(self, timeout_s: float) -> Drained:
        """Both pools at the same time."""
        one, other = await asyncio.gather(super().drain(timeout_s), self.background.drain(timeout_s))
        return Drained(one.finished + other.finished, one.released + other.released, max(one.ran_s, other.ran_s))

    async def stop(self) -> None:
        """Leave now, with both pools."""
        await asyncio.gather(super().stop(), self.background.stop())

    def statistics(self) -> WorkerStatistics:
        """Both pools together."""
        one, other = super().statistics(), self.background.statistics()
        return replace(
            one,
            slots=one.slots + other.slots,
            running=one.running + other.running,
            ready=one.ready + other.ready,
            unwritten=one.unwritten + other.unwritten,
            claimed=one.claimed + other.claimed,
            finished=dict(Counter(one.finished) + Counter(other.finished)),
            suspended=one.suspended + other.suspended,
            released=one.released + other.released,
            lost=one.lost + other.lost,
            abandoned=one.abandoned + other.abandoned,
            heartbeat_age_s=max(one.heartbeat_age_s, other.heartbeat_age_s),
        )
