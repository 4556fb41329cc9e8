"""The degrade ladders of all workflows: at the pressure of the moment, and for one run by its own slack."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple

from headgate.clock import Clock
from headgate.config.settings import WorkflowSettings
from headgate.guard.registry import Resources
from headgate.policy import degrade
from headgate.policy.pressure import FALL_PER_S

SAMPLE_S = 0.25
"""A resource is looked at again after so long."""
CALLED_AT_MOST = 32
"""Resources of one workflow that its ladder knows."""
SUMS_KEPT = 256


class Outlook(NamedTuple):
    """How a resource stands."""

    at: float
    pressure: float
    """0..1: up at once, down slowly."""
    wait_s: float
    """Expected, for a call that comes now."""
    usual_s: float | None
    """Of a call, without its wait."""
    answer_s: float
    """Expected until a call that comes now has a good answer."""


class ResourceWatch:
    """Pressure and expected wait of the resources, looked at no more often than ``SAMPLE_S``."""

    def __init__(self, resources: Resources, clock: Clock) -> None:
        self._resources, self._clock = resources, clock
        self._known: dict[str, Outlook] = {}

    def of(self, name: str) -> Outlook:
        """How that resource stands now.

        Raises:
            UnknownResource: there is none of that name.
        """
        now = self._clock.monotonic()
        known = self._known.get(name)
        return known if known is not None and now - known.at < SAMPLE_S else self._look(name, known, now)

    def _look(self, name: str, known: Outlook | None, now: float) -> Outlook:
        seen = self._resources.get(name).standing()
        wait_s = degrade.expected_wait_s(
            waiting=seen.waiting,
            inflight=seen.inflight,
            limit=seen.limit,
            usual_s=seen.p50_s,
            oldest_s=seen.oldest_wait_s,
        )
        if seen.pause is not None and seen.pause.until is not None:
            wait_s = max(wait_s, seen.pause.until - now)
        kept = 0.0 if known is None else known.pressure * math.pow(1 - FALL_PER_S, min(now - known.at, 600.0))
        answer_s = degrade.expected_answer_s(
            wait_s=wait_s,
            usual_s=seen.p50_s,
            error_rate=seen.error_rate,
            refuses=seen.breaker_refuses or (seen.pause is not None and seen.pause.until is None),
        )
        found = self._known[name] = Outlook(now, max(seen.pressure, kept), wait_s, seen.p50_s, answer_s)
        return found

    def slower(self, name: str, than: str) -> bool:
        """Whether a call on ``name`` would be answered later than on the other; no while nothing is known of it."""
        there = self.of(name)
        known = there.usual_s is not None or math.isinf(there.answer_s)
        return known and there.answer_s > self.of(than).answer_s

    def pressure(self, names: Iterable[str]) -> float:
        """The largest pressure among these."""
        now, highest = self._clock.monotonic(), 0.0
        for name in names:
            known = self._known.get(name)
            if known is None or now - known.at >= SAMPLE_S:
                known = self._look(name, known, now)
            if known.pressure > highest:
                highest = known.pressure
        return highest


class Ladder:
    """One workflow's ladder: which rungs pressure has taken, remembered for the hysteresis."""

    __slots__ = (
        "_called",
        "_pressure",
        "_rungs",
        "_sums",
        "_taken",
        "_watch",
        "_whole",
        "confirms",
        "knobs",
        "skippable",
    )

    def __init__(
        self, rungs: tuple[degrade.Rung, ...], pressure: Callable[[], float], watch: ResourceWatch | None
    ) -> None:
        """``pressure``: on the workflow, in 0..1, apart from that of the resources it calls."""
        self._rungs = degrade.in_order(rungs)
        self._pressure, self._watch = pressure, watch
        self._taken: frozenset[int] = frozenset()
        self._sums: dict[tuple[frozenset[int], int], degrade.Active] = {}
        """What rungs that were taken lately come to; at most ``SUMS_KEPT``."""
        self._whole = degrade.add_up(self._rungs, range(len(self._rungs)))
        self._called: set[str] = set(self._whole.models)
        """Resources that runs of the workflow call, as far as known."""
        self.knobs = frozenset(self._whole.knobs)
        """Knobs that some rung changes; the others always have their default."""
        self.skippable = self._whole.skip
        self.confirms = frozenset(self._whole.require_approval)
        """Parts that some rung asks people about."""

    def __len__(self) -> int:
        return len(self._rungs)

    def called(self, resource: str) -> None:
        """A run of the workflow calls it."""
        if self._rungs and len(self._called) < CALLED_AT_MOST:
            self._called.add(resource)

    def pressed(self) -> frozenset[int]:
        """The rungs that pressure has taken: one that replaces models goes by the pressure of those models, any other
        by that of whatever the workflow calls, and all of them by that of the fleet and of the workflow's own queue.
        So a resource in trouble moves only the ladders of those who use it, and a full queue only its own."""
        fleet, watch = self._pressure(), self._watch
        if watch is None:
            pressures = [fleet] * len(self._rungs)
        else:
            own = max(fleet, watch.pressure(self._called))
            pressures = [max(fleet, watch.pressure(rung.models)) if rung.models else own for rung in self._rungs]
        self._taken = degrade.rungs_taken(self._rungs, pressures, before=self._taken)
        return self._taken

    def active(self, *, own: int = 0, whole: bool = False) -> degrade.Active:
        """What holds, as of the last look at the pressure; ``own``: rungs that the run takes for its slack;
        ``whole``: it was admitted on the cheaper path."""
        if whole:
            return self._whole
        key = (self._taken, own)
        found = self._sums.get(key)
        if found is None:
            if len(self._sums) >= SUMS_KEPT:
                self._sums.clear()
            found = self._sums[key] = degrade.add_up(self._rungs, self._taken, own=own)
        return found


class Ladders:
    """Ladders by workflow."""

    def __init__(
        self,
        workflows: Mapping[str, WorkflowSettings],
        pressure: Callable[[str], float],
        watch: ResourceWatch | None = None,
    ) -> None:
        """``pressure``: on a workflow, in 0..1; ``watch``: that of single resources."""
        self.pressure, self.watch = pressure, watch
        self._ladders = {name: Ladder(one.degrade, partial(pressure, name), watch) for name, one in workflows.items()}
        self._none = Ladder((), partial(pressure, ""), None)

    def of(self, workflow: str) -> Ladder:
        """That workflow's ladder, which may be empty."""
        return self._ladders.get(workflow, self._none)
