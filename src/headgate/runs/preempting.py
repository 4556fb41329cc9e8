"""Makes room on a worker for a waiting run of a higher lane, by `headgate.policy.preemption`.

One at a time: a run is asked to stop at its next step, its slot is kept for the lane that waits, and only when a run
was claimed into it, or nobody waits any more, is the next looked for. A worker with a free slot, or that carries
nothing of a lower lane, asks the store nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from headgate.clock import Clock
from headgate.config.settings import GateSettings, LaneSettings
from headgate.errors import StoreError
from headgate.model.reason import Reason
from headgate.observe.bus import EventBus
from headgate.policy import lane_shares, preemption
from headgate.policy.pause import HeldBack
from headgate.policy.preemption import Bounds, CallTimes, Candidate, Head, Use
from headgate.runs.attempt import Attempt, Stop
from headgate.runs.carrier import Carrier
from headgate.runs.experience import Experience
from headgate.runs.others import OtherWorkers
from headgate.runs.progress import whose
from headgate.store.protocols import Claim, Store

log = logging.getLogger("headgate.runs")

LOOK_S = 0.25
PATIENCE_S = 10.0
"""A run that has not come to a step for so long is not waited for any more; another one may be nearer."""
IN_VAIN_S = 10.0
"""After a slot was made free for a run that still was not claimed: something else is in its way."""
OTHERS_POLLS = 5.0
"""A worker of the fleet with a free slot looks at least once within so many of its poll intervals."""


@dataclass(slots=True)
class _Order:
    """One preemption under way."""

    head: Head
    victim: Attempt
    asked: float
    """Monotonic."""
    asked_before: float | None
    """When the victim was asked the last time before."""


def _call_times(running: Sequence[Attempt]) -> Mapping[str, CallTimes]:
    """By workflow; those of all of them for one whose runs here have made no call yet."""
    seen: dict[str, list[float]] = {}
    for attempt in running:
        seen.setdefault(attempt.run.workflow, []).extend(attempt.safe_point.calls_s)
    everything = CallTimes(chain.from_iterable(seen.values()))
    return {workflow: CallTimes(seconds) if seconds else everything for workflow, seconds in seen.items()}


class Preemptor:
    """Watches one worker. Use from its event loop only."""

    def __init__(
        self,
        carrier: Carrier,
        store: Store,
        settings: GateSettings,
        *,
        experience: Experience,
        owner: str,
        clock: Clock,
        bus: EventBus,
        workflows: Callable[[], Sequence[str]],
        held_back: Callable[[], HeldBack],
        lanes: Mapping[str, LaneSettings],
        slots: str,
    ) -> None:
        """``workflows``: those that this worker has code for; ``lanes``: those that share its slots, which are
        reported under the name ``slots``."""
        self._carrier, self._runs, self._experience = carrier, store.runs, experience
        self._others = OtherWorkers(store.reports, owner, clock, slots)
        self._clock, self._bus = clock, bus
        self._workflows, self._held_back = workflows, held_back
        rules = settings.preemption
        self._bounds = None if rules is None else Bounds(rules.after, rules.per_run, rules.every, rules.per_minute)
        self._ranks = {lane: rank for rank, lane in enumerate(lanes)}
        self._fixed = frozenset(name for name, lane in lanes.items() if not lane.preemptible)
        self._shares = lane_shares.split({name: lane.share for name, lane in lanes.items()})
        self._others_s = OTHERS_POLLS * settings.workers.poll
        self._averages = dict.fromkeys(self._shares, 0.0)
        self._began = self._averaged = clock.monotonic()
        self._order: _Order | None = None
        self._asked: deque[float] = deque()
        self._not_before = 0.0
        self._in_vain: tuple[Head, int] | None = None
        """For whom a slot was made free without a claim bringing its run, and when that was."""

    @property
    def kept_for(self) -> str | None:
        """The lane that the slot of a preempted run is kept for."""
        order = self._order
        made = order is not None and order.victim.ended and order.victim.signalled
        return order.head.lane if order is not None and made else None

    async def keep(self) -> None:
        """Look until cancelled."""
        if self._bounds is None:
            return
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look(self._bounds)
            except StoreError as error:
                self._bus.emit("store_failed", operation="heads", reason=str(error))
            except Exception:  # a defect here must not end preemption for good
                log.exception("looking for a run to preempt failed")

    async def look(self, bounds: Bounds) -> None:
        """One look: begin a preemption, or see how the one under way stands."""
        if self._carrier.leaving:
            return
        self._average()
        if self._order is not None:
            await self._follow(self._order)
            return
        now = self._clock.monotonic()
        while self._asked and now - self._asked[0] >= preemption.MINUTE_S:
            self._asked.popleft()
        if self._in_vain is not None:
            await self._doubt(*self._in_vain)
        if now < self._not_before or not self._full() or not preemption.may_ask(self._asked, now, bounds):
            return
        lanes_here = {attempt.run.lane for attempt in self._carrier.running}
        heads = await self._heads(below=max(map(self._rank, lanes_here), default=0))
        if not heads or not self._full():
            return
        carried, slots = self._carrier.carried, self._carrier.pace.slots
        lanes = {
            lane: Use(carried[lane], share * slots, self._averages[lane]) for lane, share in self._shares.items()
        }
        others_s = self._others_s if await self._others.have_room() else 0.0
        if not self._full():
            return
        head = preemption.wanted(heads, lanes, bounds, others_s=others_s)
        if head is not None:
            self._ask(head, lanes, bounds)

    def claimed(self, claims: Sequence[Claim]) -> None:
        """A claim was answered, which was asked to bring a run for `kept_for` first."""
        order = self._order
        if order is None or self.kept_for is None:
            return
        self._order = None
        if not any(self._ranks.get(claim.run.lane, 0) <= order.head.rank for claim in claims):
            self._in_vain = order.head, self._clock.now_ms()

    def _average(self) -> None:
        """What the lanes use, on average."""
        now = self._clock.monotonic()
        elapsed_s, age_s = now - self._averaged, self._averaged - self._began
        for lane, before in self._averages.items():
            used = self._carrier.carried[lane]
            self._averages[lane] = preemption.average(before, used, elapsed_s=elapsed_s, age_s=age_s)
        self._averaged = now

    def _ask(self, head: Head, lanes: Mapping[str, Use], bounds: Bounds) -> None:
        running = list(self._carrier.running)
        times = _call_times(running)
        candidates = [
            self._candidate(key, attempt, times[attempt.run.workflow])
            for key, attempt in enumerate(running)
            if self._rank(attempt.run.lane) > head.rank  # no other makes room for it
        ]
        found = preemption.victim(candidates, head, lanes, bounds)
        if found is None:
            return
        attempt, now = running[found.key], self._clock.monotonic()
        attempt.step_reason = Reason.PREEMPTED
        self._carrier.stop(attempt, Stop.STEP)
        self._order = _Order(head, attempt, now, attempt.safe_point.asked)
        attempt.safe_point.asked = now
        self._asked.append(now)
        self._bus.emit(
            "run_preempted",
            **whose(attempt),
            reason=Reason.PREEMPTED,
            for_lane=head.lane,
            waited_ms=round(1000 * head.waited_s),
            count=attempt.run.preemptions + 1,
        )

    async def _follow(self, order: _Order) -> None:
        if order.victim.ended:
            if not order.victim.signalled:  # it came to its end instead, and its slot went on in turn
                self._order = None
            return  # otherwise the claim that follows says whether it was of use
        in_time = self._clock.monotonic() - order.asked < PATIENCE_S
        if in_time and self._full():
            waiting = await self._heads(below=order.head.rank + 1)
            if waiting or order.victim.ended:
                return
        if not self._carrier.leaving and order.victim.withdraw():
            self._order = None
            if in_time:  # nobody needs its slot any more: nothing came of it, so that it does not count
                order.victim.safe_point.asked = order.asked_before

    async def _doubt(self, head: Head, at_ms: int) -> None:
        """If a run of that lane has waited since before ``at_ms``, it is not slots that it waits for. Otherwise
        another worker took it."""
        self._in_vain = None
        waited_s = (self._clock.now_ms() - at_ms) / 1000
        heads = await self._heads(below=head.rank + 1)
        if any(one.lane == head.lane and one.waited_s > waited_s for one in heads):
            self._not_before = self._clock.monotonic() + IN_VAIN_S

    async def _heads(self, *, below: int) -> list[Head]:
        """Of the lanes whose rank is less than ``below``, those in which somebody waits."""
        held, slots, now_ms = self._held_back(), self._carrier.pace.slots, self._clock.now_ms()
        carried = self._carrier.carried
        lanes = [
            lane
            for lane, rank in self._ranks.items()
            if rank < below and carried[lane] < held.open_slots(lane, slots)
        ]
        workflows = [name for name in self._workflows() if name not in held.workflows]
        if not lanes or not workflows:
            return []
        since = await self._runs.heads(lanes, workflows, now_ms=now_ms, not_tenants=held.tenants)
        return [Head(lane, self._ranks[lane], max(0, now_ms - at_ms) / 1000) for lane, at_ms in since.items()]

    def _full(self) -> bool:
        carrier = self._carrier
        return not carrier.leaving and not carrier.room and len(carrier.running) >= carrier.pace.slots

    def _rank(self, lane: str) -> int:
        return self._ranks.get(lane, len(self._ranks))

    def _candidate(self, key: int, attempt: Attempt, times: CallTimes) -> Candidate:
        run, now = attempt.run, self._clock.monotonic()
        calls = max(0, attempt.meter.used_calls - len(attempt.performing))
        remaining_s, done = self._experience.outlook(
            run.workflow, calls=calls, ran_s=min(attempt.worked_s, attempt.ran_s), now=now
        )
        safe_point = attempt.safe_point
        redo_s, to_step_s = safe_point.cost_s(times, calling=bool(attempt.performing))
        asked_s = None if safe_point.asked is None else now - safe_point.asked
        stored_s = None if run.preempted_ms is None else max(0, self._clock.now_ms() - run.preempted_ms) / 1000
        return Candidate(
            key=key,
            lane=run.lane,
            rank=self._rank(run.lane),
            redo_s=redo_s,
            to_step_s=to_step_s,
            remaining_s=remaining_s,
            done=done,
            preemptions=run.preemptions,
            since_s=min((one for one in (asked_s, stored_s) if one is not None), default=None),
            spared=run.lane in self._fixed or attempt.stop is not None or attempt.asking or safe_point.once > 0,
        )
