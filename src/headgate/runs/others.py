"""What a worker knows of the other workers of its fleet: what they reported."""

from __future__ import annotations

from headgate.clock import Clock
from headgate.runs.reporting import REPORT_S
from headgate.store.report_protocols import Reports


class OtherWorkers:
    """One worker's view of the others. Use from one event loop only."""

    def __init__(self, reports: Reports, owner: str, clock: Clock, slots: str) -> None:
        """``slots``: the name under which slots like its own are reported."""
        self._reports, self._owner, self._clock, self._slots = reports, owner, clock, slots
        self._room = False
        self._read_at = float("-inf")

    async def have_room(self) -> bool:
        """Whether one of them had a free slot when it last told. Read at most as often as they tell.

        Raises:
            StoreError: the reports could not be read.
        """
        if self._clock.monotonic() - self._read_at >= REPORT_S:
            reports = await self._reports.all(now_ms=self._clock.now_ms())
            self._read_at = self._clock.monotonic()
            self._room = any(
                slots.inflight + slots.waiting < slots.limit
                for report in reports
                if report.owner != self._owner
                for slots in report.resources
                if slots.name == self._slots
            )
        return self._room
