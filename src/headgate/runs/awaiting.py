"""Waiting for a run's end.

The store is the truth; a bus event of this process is only a hint to look at once, and news from other processes
come by looking every `POLL_S`.
"""

from __future__ import annotations

import asyncio

from headgate.errors import HeadgateError
from headgate.model.run import RunRecord
from headgate.observe.bus import Event
from headgate.store.protocols import Store

POLL_S = 0.5
ENDINGS = frozenset({"run_finished", "run_expired", "run_rescued"})


class Endings:
    """Who waits for which run. Subscribe it to the bus."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def __call__(self, event: Event) -> None:
        if self._waiting and event.name in ENDINGS:
            for changed in self._waiting.get(event.fields.get("run_id", ""), ()):
                changed.set()

    async def ended(self, store: Store, run_id: str, *, timeout_s: float | None) -> RunRecord:
        """The run once it has ended.

        Raises:
            TimeoutError: not within ``timeout_s``. HeadgateError: there is no such run.
        """
        changed = asyncio.Event()
        self._waiting.setdefault(run_id, set()).add(changed)
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    run = await store.runs.get(run_id)
                    if run is None:
                        raise HeadgateError(f"there is no run {run_id}")
                    if run.state.terminal:
                        return run
                    await _hinted(changed)
        finally:
            waiting = self._waiting[run_id]
            waiting.discard(changed)
            if not waiting:
                del self._waiting[run_id]


async def _hinted(changed: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(POLL_S):
            await changed.wait()
    except TimeoutError:
        return
    changed.clear()
