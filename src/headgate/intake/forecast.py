"""What the fleet can carry and what runs take: the inputs of every forecast, read from the store about once a second.

Workers report their resources, and teach by how much forecasts were wrong; this process reads both, so it can tell
ETAs also where it has no worker itself. Everything is kept in memory and bounded by what the store bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp

from headgate.config.settings import GateSettings
from headgate.intake.stand_ins import answers_per_s, grouped, together
from headgate.model.resource_report import OwnerReport, ResourceReport
from headgate.model.tracks import errors_name, path_name
from headgate.policy import throughput
from headgate.policy.calibration import ENOUGH, Spread, quantile, spread
from headgate.policy.eta import BACKGROUND, WORKERS, Line, Prospect, Spreads
from headgate.policy.lane_shares import split
from headgate.policy.throughput import Seen, Throughput
from headgate.store.protocols import Overview, Store

PATHS_REMEMBERED = 30
"""How many of the latest runs tell how long one needs its slot."""
_SLOTS = (WORKERS, BACKGROUND)
LEFT_AT_LEAST = 0.1
"""Part of a resource that earlier lanes leave, however much they ask for."""
COMING_S, USUAL_S = 10.0, 120.0
"""Time constants of what comes into a lane: now, and usually."""

Needs = Callable[[str], Mapping[str, float] | None]
"""Calls by resource that an ordinary run of a workflow needs answered; ``None`` while nothing is known."""


def nothing_known(_workflow: str) -> Mapping[str, float] | None:
    """No needs are known; what runs take on average is used instead."""
    return None


@dataclass(frozen=True, slots=True)
class ForecastQuality:
    """How forecasts turned out lately."""

    judged: int
    median_error: float | None
    """Median of the distance between the promised p50 and the actual finish, as a part of the actual."""
    p90_kept: float | None
    """Share of runs that ended by the promised p90."""


class Forecaster:
    """Makes prospects. One per process."""

    def __init__(self, settings: GateSettings, *, needs: Needs = nothing_known) -> None:
        self._settings = settings
        self._places = {name: place for place, name in enumerate(settings.lanes)}
        self._shares = split({name: lane.share for name, lane in settings.lanes.items()})
        self._needs = needs
        self._heads = together(settings)
        self._counters: dict[tuple[str, str], tuple[float, float]] = {}
        self._known: dict[str, Throughput] = {}
        self._tracks: dict[str, tuple[tuple[float, ...], ...]] = {}
        self._revision = 0
        self._slots = dict.fromkeys(_SLOTS, 0.0)
        self._apart = frozenset(settings.background_lanes)
        self._overview: Overview | None = None
        self._entered: dict[str, tuple[int, int]] = {}
        self._coming: dict[str, tuple[float, float]] = {}
        """Lane → runs per second that come in: now, and usually."""
        self._prospects: dict[tuple[str, str, bool], Prospect | None] = {}

    async def refresh(self, store: Store, overview: Overview, *, now_ms: int) -> None:
        """Read what was reported and learned."""
        reports = await store.reports.all(now_ms=now_ms)
        for track in await store.reports.tracks(after=self._revision):
            self._tracks[track.name] = track.samples
            self._revision = max(self._revision, track.revision)
        self._overview = overview
        self._prospects.clear()
        self._note_arrivals(overview, now_ms)
        self._follow(reports, now_ms)

    @property
    def slots(self) -> float:
        """Runs that the fleet carries at once, as far as its workers were heard of lately."""
        return self._at_most(math.fsum(self._slots.values()))

    def _at_most(self, slots: float) -> float:
        most = self._settings.budget.runs
        return slots if most is None else min(slots, most)

    def _slots_of(self, lane: str) -> str:
        """The name of the slots that runs of the lane have."""
        return BACKGROUND if lane in self._apart else WORKERS

    @property
    def throughput(self) -> Mapping[str, Throughput]:
        """What is known of each resource."""
        return self._known

    def prospect(self, workflow: str, lane: str, *, degraded: bool = False) -> Prospect | None:
        """What a forecast for such a run is made from; ``None`` until enough such runs have ended here."""
        key = (workflow, lane, degraded)
        if key not in self._prospects:
            self._prospects[key] = self._prospect(workflow, lane, degraded=degraded)
        return self._prospects[key]

    def comes_per_s(self, lane: str) -> float:
        """Runs that come into a lane in a second: between what comes now and what comes usually."""
        return sum(self._coming.get(lane, (0.0, 0.0))) / 2

    def mix(self, lane: str) -> dict[str, float]:
        """Parts of the workflows among the runs of a lane, as far as the store counts them; empty: none is known."""
        return self._mix(lane)

    def quality(self) -> ForecastQuality:
        """How forecasts turned out lately, over all lanes."""
        samples = [
            *self._tracks.get(errors_name("", "", True), ()),
            *self._tracks.get(errors_name("", "", False), ()),
        ]
        if not samples:
            return ForecastQuality(0, None, None)
        off = sorted(abs(sample[3]) for sample in samples)
        kept = math.fsum(sample[2] for sample in samples) / len(samples)
        return ForecastQuality(len(samples), quantile(off, 0.5), kept)

    # -- the fleet --------------------------------------------------------------------------------------------------

    def _follow(self, reports: Sequence[OwnerReport], now_ms: int) -> None:
        fleet: dict[str, list[tuple[str, ResourceReport]]] = {}
        for report in reports:
            for one in report.resources:
                fleet.setdefault(one.name, []).append((report.owner, one))
        seen: dict[tuple[str, str], tuple[float, float]] = {}
        for name, told in fleet.items():
            done = busy_s = 0.0
            for owner, one in told:
                seen[owner, name] = one.done, one.busy_s
                before = self._counters.get((owner, name), (one.done, one.busy_s))
                if one.done >= before[0]:
                    done, busy_s = done + one.done - before[0], busy_s + max(0.0, one.busy_s - before[1])
            self._known[name] = throughput.follow(
                self._known.get(name), _seen(told, now_ms, done, busy_s, self._waiting)
            )
        for name in self._known.keys() - fleet.keys():
            gone = Seen(now_ms, 0.0, 0.0, 0.0, saturated=True, done=0.0, busy_s=0.0)
            self._known[name] = throughput.follow(self._known[name], gone)
        self._counters = seen
        self._slots = {name: math.fsum(one.limit for _, one in fleet.get(name, ())) for name in _SLOTS}

    def _note_arrivals(self, overview: Overview, now_ms: int) -> None:
        for queue in overview.queues:
            if not queue.lane:
                continue
            entered = queue.started + queue.depth
            before = self._entered.get(queue.lane)
            self._entered[queue.lane] = now_ms, entered
            if before is None or now_ms <= before[0]:
                continue
            elapsed_s = (now_ms - before[0]) / 1000
            rate = (
                max(0, entered - before[1]) / elapsed_s
            )  # runs that expired in line are not told apart: they fall out
            now, usual = self._coming.get(queue.lane, (rate, rate))
            self._coming[queue.lane] = (
                now + (1 - exp(-elapsed_s / COMING_S)) * (rate - now),
                usual + (1 - exp(-elapsed_s / USUAL_S)) * (rate - usual),
            )

    @property
    def _waiting(self) -> int:
        """Runs that wait for their first start."""
        if self._overview is None:
            return 0
        return sum(queue.depth for queue in self._overview.queues if queue.lane)

    # -- one kind of run ------------------------------------------------------------------------------------------

    def _prospect(self, workflow: str, lane: str, *, degraded: bool) -> Prospect | None:
        paths = self._tracks.get(path_name(workflow, degraded), ())
        if len(paths) < ENOUGH or not self._known.keys() >= {WORKERS, self._slots_of(lane)}:
            return None
        straight, queued = (self._spreads(lane, workflow, waited) for waited in (False, True))
        return Prospect(
            path_s=quantile(sorted(sample[0] for sample in paths), 0.5),
            slots=self._at_most(self._slots[self._slots_of(lane)]),
            lines=tuple(self._lines(workflow, lane)),
            straight=straight,
            queued=queued,
        )

    def _shares_of(self, lane: str) -> tuple[float, float]:
        """What lanes starting later leave to this lane and those before it, and what is its own in any case."""
        occupied, sharing = {lane}, set(self._settings.sharing(lane))
        if self._overview is not None:
            occupied |= {queue.lane for queue in self._overview.queues if queue.lane and queue.depth + queue.running}
            occupied &= sharing
        total = math.fsum(share for name, share in self._shares.items() if name in occupied) or 1.0
        later = math.fsum(
            share for name, share in self._shares.items() if name in occupied and self._after(name, lane)
        )
        return max(0.0, 1 - later / total), self._shares.get(lane, 0.0) / total

    def _after(self, one: str, other: str) -> bool:
        """Whether a lane starts after another one."""
        return self._place(one) > self._place(other)

    def _place(self, lane: str) -> int:
        return self._places.get(lane, len(self._places))

    def _lines(self, workflow: str, lane: str) -> list[Line]:
        ahead = self._mix(lane, workflow)
        sharing = self._settings.sharing(lane)
        before = [(one, rates, self._mix(one)) for one, rates in self._coming.items() if self._after(lane, one)]
        upper, own = self._shares_of(lane)
        lines, mine = [], self._slots_of(lane)
        for head, names in grouped(self._known, self._heads).items():
            if head in _SLOTS and head != mine:
                continue
            each = self._each(names, ahead)
            if each <= 0 or not (head == mine or any(self._known[name].call_s for name in names)):
                continue  # how fast it is cannot be told before it has answered, as after a restart
            rivals = [(rates, mix) for one, rates, mix in before if head != mine or one in sharing]
            now, usual = (
                math.fsum(rates[which] * self._each(names, mix) for rates, mix in rivals) for which in (0, 1)
            )
            if head == mine:
                known = self._known[head]
                rate, healthy, left, floor = known.rate, known.healthy, upper, own
            else:  # at a resource, calls of earlier lanes simply go first
                rate, healthy = answers_per_s(self._known[name] for name in names)
                left, floor = 1.0, LEFT_AT_LEAST
            own_rate = own * rate if head == mine else 0.0
            rates = max(left * rate - now, floor * rate), max(left * healthy - usual, floor * healthy)
            lines.append(Line(WORKERS if head == mine else head, each, *rates, own_rate))
        return lines

    def _each(self, names: Sequence[str], mix: Mapping[str, float]) -> float:
        """Work of an ordinary run of a mix: seconds in a slot, or calls that such resources have to answer."""
        if names[0] in _SLOTS:
            return math.fsum(part * self._path_s(one) for one, part in mix.items())
        mean = math.fsum(self._mean_need(self._known[name], self._known[WORKERS]) for name in names)
        return math.fsum(part * self._need(one, names, mean) for one, part in mix.items())

    def _mix(self, lane: str, workflow: str | None = None) -> dict[str, float]:
        """Parts of the workflows among the runs of a lane; with ``workflow``, among those that go before such a run.

        The store counts by workflow and by lane, not by both: a run is taken to be in its workflow's lane, and a
        lane that is no workflow's to have runs of all.
        """
        counts: dict[str, float] = {} if workflow is None else {workflow: 1.0}
        every: dict[str, float] = {}
        for queue in () if self._overview is None else self._overview.queues:
            declared = self._settings.workflows.get(queue.workflow)
            if not queue.workflow or declared is None:
                continue
            runs = queue.depth + queue.running + 0.01
            every[queue.workflow] = runs
            earlier = self._after(lane, declared.lane) and declared.lane in self._settings.sharing(lane)
            if declared.lane == lane or (workflow is not None and earlier):
                counts[queue.workflow] = counts.get(queue.workflow, 0.0) + runs
        counts = counts or every  # no workflow is at home in the lane: callers chose it for theirs
        total = math.fsum(counts.values())
        return {name: count / total for name, count in counts.items()}

    def _path_s(self, workflow: str) -> float:
        """How long a run of the workflow needs its slot if its calls wait for nothing."""
        latest = self._tracks.get(path_name(workflow, False), ())[-PATHS_REMEMBERED:]
        if latest:
            return math.fsum(sample[0] for sample in latest) / len(latest)
        return self._known[WORKERS].call_s or 0.0

    def _need(self, workflow: str, names: Sequence[str], mean: float) -> float:
        needs = self._needs(workflow)
        if needs is not None:
            return math.fsum(needs.get(name, 0.0) for name in names)
        whole_s = self._path_s("")
        return mean * self._path_s(workflow) / whole_s if whole_s > 0 else mean

    def _mean_need(self, known: Throughput, attempts: Throughput) -> float:
        """Calls of a run that a resource answers on average: no workflow is told apart."""
        return known.total_done / attempts.total_done if attempts.total_done >= ENOUGH else 0.0

    def _spreads(self, lane: str, workflow: str, waited: bool) -> Spreads:
        others = errors_name("", "", waited)
        names = (errors_name(lane, workflow, waited), errors_name(lane, "", waited), others)
        name = next((one for one in names if len(self._tracks.get(one, ())) >= ENOUGH), "")
        samples = self._tracks.get(name, ())
        kept = [sample[2] for sample in samples]
        starts, finishes = (spread([sample[which] for sample in samples], kept if which else ()) for which in (0, 1))
        if not waited:
            return Spreads(Spread(), finishes)
        return (
            Spreads(starts.never_shorter(), finishes.never_shorter()) if name == others else Spreads(starts, finishes)
        )


def _seen(
    told: Sequence[tuple[str, ResourceReport]], now_ms: int, done: float, busy_s: float, waiting_runs: int
) -> Seen:
    reports = [one for _, one in told]
    limit, inflight = math.fsum(one.limit for one in reports), math.fsum(one.inflight for one in reports)
    if reports[0].name in _SLOTS:  # what waits for slots waits in the store
        saturated = waiting_runs > 0 and inflight >= limit - 0.5
    else:
        open_limit = math.fsum(one.limit for one in reports if one.saturated or one.inflight)
        saturated = any(one.saturated for one in reports) and inflight >= 0.8 * open_limit
    calls = [one.call_s for one in reports if one.call_s is not None]
    typical_s = math.fsum(calls) / len(calls) if calls else None
    return Seen(now_ms, limit, math.fsum(one.most for one in reports), inflight, saturated, done, busy_s, typical_s)
