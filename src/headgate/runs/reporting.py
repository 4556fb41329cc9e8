"""A worker tells how its resources do, and what its runs' ends say about the forecasts made of them.

About once a second, and not per run: what came together since the last time goes out in one operation each. While
nothing changes it only renews what it told. What it cannot write is told next time; samples beyond a bound are
dropped, because the latest are as good as any.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping

from headgate.clock import Clock
from headgate.errors import StoreError
from headgate.guard.statistics import ResourceStatistics
from headgate.model.promise import read_promise
from headgate.model.resource_report import ResourceReport, TrackSample
from headgate.model.run import RunState
from headgate.model.tracks import errors_name, path_name
from headgate.policy.calibration import WINDOW, error
from headgate.runs.attempt import Attempt
from headgate.store.protocols import RunEnd
from headgate.store.report_protocols import Reports

log = logging.getLogger("headgate.runs")

REPORT_S = 1.0
RENEWED_AT_LEAST = 4.0
"""Times in a lease that a report is renewed though nothing changed."""
COUNTS_FOR_LEASES = 1.0
PATHS_AT_MOST = 16
"""Runs of one workflow that teach how long they take, between two reports."""


class Reporter:
    """One worker's reports. Use from one event loop only."""

    def __init__(
        self,
        reports: Reports,
        resources: Callable[[], Mapping[str, ResourceStatistics]],
        *,
        owner: str,
        lease_s: float,
        clock: Clock,
        slots: Callable[[], ResourceReport],
    ) -> None:
        """``slots`` reports the worker's own slots; ``resources`` is asked about once a second."""
        self._reports, self._resources, self._owner = reports, resources, owner
        self._lease_s, self._clock, self._slots = lease_s, clock, slots
        self._told: tuple[ResourceReport, ...] = ()
        self._told_at = float("-inf")
        self._samples: deque[TrackSample] = deque(maxlen=8 * WINDOW)
        self._paths: dict[str, int] = {}

    def ended(self, attempt: Attempt, end: RunEnd) -> None:
        """A run's end was written: learn from it."""
        run = attempt.run
        if end.state is not RunState.SUCCEEDED:
            return
        path = path_name(run.workflow, run.degraded)
        if run.term == 1 and self._paths.get(path, 0) < PATHS_AT_MOST:  # later attempts do only what is left
            self._paths[path] = self._paths.get(path, 0) + 1
            stay_s = attempt.stayed_s
            taken = (max(0.0, stay_s - attempt.queued_s), stay_s)
            self._samples += (TrackSample(path, taken), TrackSample(path_name("", run.degraded), taken))
        promise = read_promise(run.promise)
        if promise is None or run.started_ms is None:
            return
        finish_s = (end.now_ms - run.submitted_ms) / 1000
        numbers = (
            error(promise.expected_start / 1000, (run.started_ms - run.submitted_ms) / 1000),
            error(promise.expected_finish / 1000, finish_s),
            float(finish_s <= promise.finish_p90 / 1000),
            (promise.finish_p50 / 1000 - finish_s) / max(finish_s, 0.001),
        )
        for lane, workflow in ((run.lane, run.workflow), (run.lane, ""), ("", "")):
            self._samples.append(TrackSample(errors_name(lane, workflow, promise.waited), numbers))

    async def keep(self) -> None:
        """Report until cancelled, then withdraw."""
        try:
            while True:
                await self._tell()
                await asyncio.sleep(REPORT_S)
        finally:
            await self._leave()

    async def _tell(self) -> None:
        now_ms, now = self._clock.now_ms(), self._clock.monotonic()
        reports = (self._slots(), *(_report(one) for one in self._resources().values()))
        samples, self._samples = list(self._samples), deque(maxlen=self._samples.maxlen)
        self._paths.clear()
        try:
            if reports != self._told or now - self._told_at >= self._lease_s / RENEWED_AT_LEAST:
                until_ms = now_ms + round(1000 * COUNTS_FOR_LEASES * self._lease_s)
                await self._reports.put(self._owner, reports, now_ms=now_ms, until_ms=until_ms)
                self._told, self._told_at = reports, now
            await self._reports.learn(samples, now_ms=now_ms)
        except StoreError as failure:
            log.warning("report: %s", failure)

    async def _leave(self) -> None:
        try:
            await self._reports.withdraw(self._owner)
        except StoreError as failure:
            log.warning("report: %s; it ends by itself within a lease", failure)


def _report(one: ResourceStatistics) -> ResourceReport:
    return ResourceReport(
        one.name,
        one.limit,
        one.most,
        one.inflight,
        one.waiting,
        one.done,
        round(one.busy_s, 3),
        one.p50_s,
        one.breaker,
    )
