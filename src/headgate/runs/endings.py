"""Writing how runs ended, as many as there are in one store call.

Ends are written in the order of their coming; one that the store does not take goes behind the others. While the
store cannot take them they wait here (the worker starts nothing new beyond ``BACKLOG``), with their leases kept; each
is written at most once, behind its fence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from headgate.errors import StoreError
from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.observe.bus import EventBus
from headgate.runs.attempt import Attempt
from headgate.store.protocols import Claims, RunEnd

BATCH = 1000
BACKLOG = 4000
RETRY_S = 0.1
TRIES = 3

Written = Callable[[Attempt, RunEnd, bool], None]
"""Told for each end: the attempt, what was written, and whether the fence matched."""


class EndWriter:
    """Collects ends and writes what has come since the last time."""

    def __init__(self, claims: Claims, *, bus: EventBus, on_written: Written, on_flushed: Callable[[], None]) -> None:
        self._claims = claims
        self._bus = bus
        self._on_written = on_written
        self._on_flushed = on_flushed
        self._pending: list[tuple[Attempt, RunEnd]] = []
        self._writing = 0
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def backlog(self) -> int:
        """Ends that are not written yet."""
        return len(self._pending) + self._writing

    def put(self, attempt: Attempt, end: RunEnd) -> None:
        """Write this end soon."""
        self._pending.append((attempt, end))
        self._empty.clear()
        self._wake.set()

    async def written(self) -> None:
        """Wait until nothing is waiting to be written."""
        await self._empty.wait()

    async def write(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                await asyncio.sleep(0)  # whatever ends in this turn of the loop goes along
                batch, self._pending = self._pending[:BATCH], self._pending[BATCH:]
                self._writing = len(batch)
                await self._write_batch(batch)
                self._writing = 0
                self._on_flushed()
            self._empty.set()

    async def _write_batch(self, batch: list[tuple[Attempt, RunEnd]]) -> None:
        delay_s, failures = RETRY_S, 0
        while True:
            try:
                answers = await self._claims.finish([end for _, end in batch])
            except StoreError as error:
                self._bus.emit("store_failed", operation="finish", reason=str(error))
                await asyncio.sleep(delay_s)
                delay_s, failures = 2 * delay_s, failures + 1
                if failures == TRIES:  # a single damaged row fails them all, so each is tried by itself
                    if len(batch) == 1:
                        self._pending += batch
                    else:
                        await self._write_each(batch)
                    return
            except Exception as error:  # noqa: BLE001  one end that cannot be stored must not hold up the others
                await self._write_apart(batch, error)
                return
            else:
                for (attempt, end), fenced in zip(batch, answers, strict=True):
                    self._on_written(attempt, end, fenced)
                return

    async def _write_each(self, batch: list[tuple[Attempt, RunEnd]]) -> None:
        for one in batch:
            await self._write_batch([one])

    async def _write_apart(self, batch: list[tuple[Attempt, RunEnd]], error: Exception) -> None:
        if len(batch) > 1:
            await self._write_each(batch)
            return
        attempt, end = batch[0]
        if end.state is RunState.FAILED and end.detail is None:
            # Not even the bare failure can be written. The lease runs out, and upkeep makes it a dead letter.
            self._bus.emit("store_failed", operation="finish", reason=f"{type(error).__name__}: {error}")
            self._on_written(attempt, end, False)
            return
        words = f"its end ({end.state}) could not be stored: {type(error).__name__}"
        detail = words if end.detail != words else None
        failed = replace(end, state=RunState.FAILED, reason=Reason.ERROR, result=None, detail=detail)
        await self._write_batch([(attempt, failed)])
