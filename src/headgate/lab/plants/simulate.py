"""One client with a limiter in front of one plant, in virtual time, and what came of it.

The client sends whatever the limit allows. A refused call goes back to the head of the line, and nothing is sent
until the refusal's Retry-After has passed, as the guard does it: so every limiter under test enjoys the same pacing,
and the figures show what the limit adds. A call that timed out is given up and is lost.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from random import Random
from statistics import median

from headgate.lab.plants.catalogue import Scenario
from headgate.lab.plants.plant import Accepted, Plant
from headgate.lab.plants.traffic import sizes
from headgate.model.outcome import Outcome
from headgate.policy.concurrency.protocol import CallLimiter, Change, Stamp

TICK_S = 1.0
OUTCOMES = {"ok": Outcome.OK, "empty": Outcome.FAILED, "failed": Outcome.FAILED}


@dataclass(slots=True)
class PhaseResult:
    """What one phase brought, in its settled part (after the first third) and in all."""

    usable_s: float = 0.0
    done_s: float = 0.0
    settled_usable_s: float = 0.0
    settled_done_s: float = 0.0
    stretches: list[float] = field(default_factory=list)
    """Latency by the work (times the plant's own slowness) of the calls that ended in the settled part."""
    limit_time: float = 0.0
    """Seconds times the limit, settled; for the mean limit."""
    first_cut_s: float | None = None
    """From the phase's beginning to the first fall of the limit below what it was then."""

    @property
    def share(self) -> float:
        """Part of the usable capacity that became finished work; NaN when nothing was usable."""
        return self.settled_done_s / self.settled_usable_s if self.settled_usable_s else math.nan

    @property
    def stretch(self) -> float:
        return median(self.stretches) if self.stretches else math.nan


@dataclass(slots=True)
class Result:
    """One simulated run."""

    phases: list[PhaseResult]
    calls: int = 0
    refused: int = 0
    changes: list[tuple[float, Change]] = field(default_factory=list)
    begins: list[float] = field(default_factory=lambda: [0.0])
    """When each phase began."""

    @property
    def whole_share(self) -> float:
        return sum(phase.done_s for phase in self.phases) / sum(phase.usable_s for phase in self.phases)

    @property
    def refused_share(self) -> float:
        return self.refused / max(1, self.calls)


@dataclass(slots=True, eq=False)
class _Sent:
    stamp: Stamp
    accepted: Accepted
    at: float
    slow: float
    ended: bool = False


class Simulation:
    """The loop: whatever comes next of a call's end, its timeout, an arrival, a tick, the end of a pause or phase."""

    def __init__(self, scenario: Scenario, limiter: CallLimiter, seed: int) -> None:
        self._scenario = scenario
        self._limiter = limiter
        self._rng = Random(seed)
        self._plant = Plant(scenario.phases[0], Random(seed + 1))
        self._index = 0
        self._begins = 0.0
        self._ends = scenario.phases[0].lasts_s
        self._sent: dict[int, _Sent] = {}
        self._deadlines: deque[tuple[float, _Sent]] = deque()
        self._waiting: deque[float] = deque()
        self._arrivals = scenario.traffic.arrivals(Random(seed + 2))
        self._endless = scenario.traffic.per_s is None
        self._next_arrival = next(self._arrivals, math.inf)
        self._next_tick = TICK_S
        self._paused_until = 0.0
        self._limit_at_begin = limiter.limit
        self._seen = (0.0, limiter.limit)
        self.result = Result([PhaseResult() for _ in scenario.phases])
        mean_s, _, _ = sizes(scenario.traffic)
        for index, phase in enumerate(scenario.phases):
            if self._endless:
                self._add_usable(index, phase.capacity(mean_s) * phase.lasts_s)
                self.result.phases[index].settled_usable_s *= 2 / 3
        self._mean_s = mean_s

    def run(self) -> Result:
        now = 0.0
        while True:
            self._send(now)
            now, event = min(
                (self._plant.next_end(), 0),
                (self._deadlines[0][0] if self._deadlines else math.inf, 1),
                (self._next_arrival, 2),
                (self._next_tick, 3),
                (self._paused_until if self._paused_until > now else math.inf, 4),
                (self._ends, 5),
            )
            if event == 0:
                self._end(now)
            elif event == 1:
                self._time_out(now)
            elif event == 2:
                self._arrive(now)
            elif event == 3:
                self._next_tick = now + TICK_S
                self._note(now, self._limiter.tick(now=now))
            elif event == 5 and not self._next_phase(now):
                return self.result

    def _send(self, now: float) -> None:
        while (
            (self._endless or self._waiting) and len(self._sent) < self._limiter.limit and now >= self._paused_until
        ):
            traffic = self._scenario.traffic
            work_s = self._waiting.popleft() if self._waiting else traffic.work_s(self._rng)
            inflight = len(self._sent) + 1
            size = traffic.predicted(work_s, self._index, self._rng)
            stamp = self._limiter.begin(inflight=inflight, size=size, now=now)
            self.result.calls += 1
            answer = self._plant.offer(work_s, now)
            if isinstance(answer, Accepted):
                sent = _Sent(stamp, answer, now, self._plant.phase.slow)
                self._sent[answer.number] = sent
                self._deadlines.append((now + self._scenario.timeout_s, sent))
                continue
            self.result.refused += 1
            self._waiting.appendleft(work_s)
            self._paused_until = now + answer
            self._note(now, self._limiter.end(stamp, Outcome.OVERLOADED, inflight=inflight, now=now))

    def _end(self, now: float) -> None:
        accepted = self._plant.take_ended(now)
        inflight = len(self._sent)
        sent = self._sent.pop(accepted.number)
        sent.ended = True
        self._forget_ended()
        if accepted.outcome == "ok":
            self._count(accepted.work_s, (now - sent.at) / (accepted.work_s * sent.slow), now)
        self._note(now, self._limiter.end(sent.stamp, OUTCOMES[accepted.outcome], inflight=inflight, now=now))

    def _time_out(self, now: float) -> None:
        sent = self._deadlines.popleft()[1]
        inflight = len(self._sent)
        del self._sent[sent.accepted.number]
        self._forget_ended()
        self._plant.withdraw(sent.accepted, now)
        self._note(now, self._limiter.end(sent.stamp, Outcome.TIMEOUT, inflight=inflight, now=now))

    def _forget_ended(self) -> None:
        while self._deadlines and self._deadlines[0][1].ended:
            self._deadlines.popleft()

    def _arrive(self, now: float) -> None:
        work_s = self._scenario.traffic.work_s(self._rng)
        self._waiting.append(work_s)
        self._next_arrival = next(self._arrivals, math.inf)
        phase = self.result.phases[self._index]
        phase.usable_s += work_s
        if self._settled(now):
            phase.settled_usable_s += work_s

    def _count(self, work_s: float, stretch: float, now: float) -> None:
        phase = self.result.phases[self._index]
        phase.done_s += work_s
        if self._settled(now):
            phase.settled_done_s += work_s
            phase.stretches.append(stretch)

    def _settled(self, now: float) -> bool:
        return now - self._begins >= (self._ends - self._begins) / 3

    def _add_usable(self, index: int, work_s: float) -> None:
        self.result.phases[index].usable_s += work_s
        self.result.phases[index].settled_usable_s += work_s

    def _note(self, now: float, change: Change | None) -> None:
        if change is not None:
            self.result.changes.append((now, change))
        limit = self._limiter.limit
        if limit == self._seen[1]:
            return
        self._weigh(now)
        self._seen = (now, limit)
        phase = self.result.phases[self._index]
        if phase.first_cut_s is None and limit < self._limit_at_begin:
            phase.first_cut_s = now - self._begins

    def _weigh(self, now: float) -> None:
        since = max(self._seen[0], self._begins + (self._ends - self._begins) / 3)
        if now > since:
            self.result.phases[self._index].limit_time += self._seen[1] * (now - since)

    def _next_phase(self, now: float) -> bool:
        self._weigh(now)
        phase, done = self._scenario.phases[self._index], self.result.phases[self._index]
        if not self._endless:  # what came in may have been more than could be done
            most = phase.capacity(self._mean_s) * phase.lasts_s
            done.usable_s = min(done.usable_s, most)
            done.settled_usable_s = min(done.settled_usable_s, most * 2 / 3)
        self._index += 1
        if self._index == len(self._scenario.phases):
            return False
        self.result.begins.append(now)
        self._begins, self._ends = now, now + self._scenario.phases[self._index].lasts_s
        self._seen = (now, self._limiter.limit)
        self._limit_at_begin = self._limiter.limit
        self._plant.enter(self._scenario.phases[self._index], now)
        return True


def simulate(scenario: Scenario, limiter: CallLimiter, seed: int) -> Result:
    """The same scenario, limiter and seed give the same result."""
    return Simulation(scenario, limiter, seed).run()
