"""The cohort limiter: finds and follows a dependency's capacity from a few calls at a time.

Decides: the number of calls in flight, a real level within ``least``..``most`` of which the nearest whole number is
enforced: with a knee of 3 a limit of 2 costs a third of the capacity, and one of 4 a little latency.

Evidence, and what it does:

* *Latency.* Calls are judged in groups (a *cohort*) of as many as make the mean of the log of latency certain to
  about 0.2: ten when it scatters little, 64 at most. What the predicted size explains of it is taken out
  first, as far as it does (`SizeEffect`). Calls that have not ended count as at least as slow as they are old.
  The mean, with the calls in flight that the cohort saw, updates a belief about where the knee is and how slow the
  dependency is by itself (`KneeBelief`). The level goes to a little above the knee, at most ×1.6 up and ×0.5
  down at a time. Only calls sent after a cut for latency judge what it did. Calls that fail, are refused or given up
  leave their cohort, or quick failures would fill every one before a slow answer comes. A cohort is judged early
  when most of its calls should have ended by now and have not.
* *Slowness that is not ours* raises the believed base, not the load's part: cutting stops by itself, the level
  returns, and one change is reported as ``provider_slow``.
* *Soundings.* Every eighth cohort is sent with more calls in flight (is the knee still there?) or, when the base has
  become uncertain, in turn with fewer; after a cohort that was faster than the base, with fewer at once. A sounding
  from below that finds things faster is followed further down.
* *Refusals* cut at once, once for each generation, and leave a wall (`Wall`). A share of refusals that is the same
  at every number of calls says nothing about the number: what it cut is given back, as far as latencies allow.
* *After an outage* (the breaker has closed, or even a call that was alone was refused) every good answer adds one
  until the level from before is reached: ten calls at a limit of one are too many to wait for.
* *Silence.* All calls in flight together have a chance of having stayed silent since the last answer; below 1 in
  150,000, or when half of them (at least four) are later than two and a half spreads, the level is cut ×0.7, once for
  each generation: a dependency that accepts and never answers is noticed long before any timeout.
* *Memory pressure* above 85 % stops growth until it is below 80 %, above 92 % it cuts ×0.7, at most every 10 s.
* *Failures* say nothing about capacity and are left to the breaker; an empty answer in no time is not fast.

Invariants: at most one cut for each generation; a call of an older generation never cuts; the level grows only while
the limit holds work back. State is bounded: one cohort, one grid, one entry for each call in flight.

Trade-offs: one cohort in eight is an experiment, which costs a percent or two of capacity or a little latency.
Known failures: two knees (a shared database behind a pool) are seen as the lower one; a base and a knee that
change at the same moment take several cohorts to be told apart; under a cap that moves quickly it
lags by the probe's wait; fewer than ten calls between two changes of the dependency cannot be followed by anybody.

Sources: generation stamps (Envoy, sia), once-per-round cuts and slow start (TCP), the latency gradient with an
allowance (Gradient2), "did latency follow the load" (Uber's and failsafe-go's correlation), the mixture of Kalman
filters (Alspach and Sorenson, 1972); the rest was chosen on simulated plants (``bench/plants.py``).
"""

from __future__ import annotations

import math
from itertools import islice, takewhile

from headgate.model.outcome import Outcome
from headgate.policy.concurrency.group import LEAST_CALLS, PATIENCE, SENT_MOST, Group
from headgate.policy.concurrency.knee import KneeBelief
from headgate.policy.concurrency.latency_sample import SizeEffect, censored_mean, overdue
from headgate.policy.concurrency.protocol import Change, Stamp
from headgate.policy.concurrency.wall import SEEN, Wall

START = 4
MOST_CALLS = 64
EVIDENCE = 25.0
"""Calls per squared spread: the standard error of a cohort is 1 / √25 = 0.2."""
QUANTILE, MARGIN = 0.6, 0.18
"""The level is this quantile of the knee, times e^0.18: enough above it to notice when it moves up."""
UP_MOST, DOWN_MOST = math.log(1.6), math.log(2.0)
SOUND_EVERY = 7
"""Cohorts between two soundings."""
SOUND_ERRORS, SOUND_LEAST, SOUND_MOST = 2.5, 0.2, 0.5
"""How far a sounding goes, in logs: as many errors of a cohort, so that it can be seen, within bounds."""
DOUBT = 3.0
"""A cohort faster than the base by so many errors is followed by a sounding from below: what we took for the base
may have had our own load in it."""
UNSURE = 0.12
"""A base known worse than this (standard deviation of the log) is sounded from below."""
HOLD_S = 1.5
"""No second cut by refusals sooner than this."""
CUT = 0.7
SILENCE = 12.0
"""Minus the log of the chance by which silence is taken for a stall."""
LATE, LATE_LEAST, SPREAD_LEAST = 2.5, 4, 0.4
"""Or: at least so many calls, and half of all, later than this many spreads, of at least the third number."""
SLOW, SLOW_OVER, SLOW_UNSURE = math.log(1.45), math.log(1.15), 0.2
"""A base so far above the usual one is reported as the provider's slowness, and over below the second."""
MEMORY_CUT, MEMORY_FULL, MEMORY_FREE, MEMORY_HOLD_S = 0.92, 0.85, 0.80, 10.0


def _logs(stamp: Stamp, now: float) -> tuple[float, float]:
    return math.log(max(1e-6, now - stamp.begun_at)), math.log(stamp.size)


def _whole(level: float) -> int:
    return int(level + 0.5)


class CohortLimiter:
    """The state of one resource. Times in seconds, monotonic; ``least`` and ``most`` as in ``concurrency: 1..64``."""

    def __init__(self, least: int, most: int, *, start: int | None = None) -> None:
        if not 1 <= least <= most:
            raise ValueError(f"an adaptive limit needs 1 <= least <= most, got {least!r}..{most!r}")
        self._least, self._most = least, most
        self._set_level(float(min(most, max(least, START if start is None else start))))
        self.generation = 0
        self._live: dict[Stamp, None] = {}
        self._belief = KneeBelief(least, most)
        self._wall = Wall()
        self._sizes = SizeEffect()
        self._spread = 0.7
        self._center = 0.0
        """The mean of the last cohort."""
        self._judged = 0
        self._number = 0
        self._cohort = self._new_cohort()
        self._sounding: float | None = None
        """The level to come back to while a sounding is out."""
        self._calm = 0
        """Cohorts since the last sounding."""
        self._sound_up = False
        """Which way the last sounding went."""
        self._doubt = False
        """Whether the next one must go down: the last cohort was faster than anything can be that we know."""
        self._area, self._weighed_at = 0.0, 0.0
        self._hold_until = -math.inf
        self._climb_to = 0.0
        """Below this level every good answer adds one."""
        self._last_answer = -math.inf
        self._stalled = -1
        """The generation that the last stall began."""
        self._usual: float | None = None
        self._slow_for = 0
        self.slowdown = 1.0
        """How many times as slow as usual the dependency is, our own load left out; 1 unless reported."""
        self._crowded = False
        self._memory_hold_until = -math.inf

    def _set_level(self, level: float) -> None:
        self._level = level
        self.limit = max(1, _whole(level))

    def begin(self, *, inflight: int, size: float | None, now: float) -> Stamp:
        size = size if size is not None and 0 < size < math.inf else 1.0
        self._weigh(now)
        bound = inflight >= self.limit
        stamp = Stamp(self.generation, now, size, inflight, bound, area=self._area)
        self._live[stamp] = None
        cohort = self._cohort
        cohort.bound = cohort.bound or bound
        if cohort.sent < SENT_MOST * cohort.wanted:
            stamp.cohort = cohort.number
            cohort.join(now)
        return stamp

    def end(self, stamp: Stamp, outcome: Outcome, *, inflight: int, now: float) -> Change | None:
        if stamp not in self._live:
            return None  # it has ended before
        self._weigh(now)
        del self._live[stamp]
        change = None
        if outcome is Outcome.OVERLOADED:
            change = self._refused(stamp, now)
        elif outcome in (Outcome.OK, Outcome.FAILED, Outcome.CALLER_ERROR):
            self._last_answer = now
            if outcome is Outcome.OK:
                self._wall.accepted(stamp.inflight, stamp.begun_at)
                change = self._climb(stamp)
        self._record(stamp, outcome, now)
        return self._judge(now) if change is None and self._cohort.is_due(now, self._patience_s()) else change

    def tick(self, *, now: float) -> Change | None:
        """The alarm for silence. A stall is cut once; what was sent before the cut does not cut again."""
        if not self._judged:
            return None
        calls = [stamp for stamp in self._live if stamp.generation == self.generation]
        if not calls and self.generation != self._stalled:
            calls = list(self._live)  # a cut for another reason is no reason to be blind until they have gone
        spread, late, silence = max(SPREAD_LEAST, 1.15 * self._spread), 0, 0.0
        for stamp in calls:
            z = (self._log_age(stamp, now) - self._center) / spread
            late += z > LATE
            silence += overdue(z)
            if stamp.begun_at < self._last_answer:
                silence -= overdue((self._log_age(stamp, self._last_answer) - self._center) / spread)
        if len(calls) < 2 or (silence < SILENCE and (late < LATE_LEAST or 2 * late < len(calls))):
            return None  # a single call that takes long is no stall
        self._stalled = self.generation + 1
        return self._cut(CUT * self._level, "stall", late=float(late), live=float(len(calls)), silence=silence)

    def press(self, pressure: float, *, now: float) -> Change | None:
        """Memory pressure of this process or its container, 0..1."""
        self._crowded = pressure > (MEMORY_FREE if self._crowded else MEMORY_FULL)
        if pressure <= MEMORY_CUT or now < self._memory_hold_until:
            return None
        self._memory_hold_until = now + MEMORY_HOLD_S
        return self._cut(CUT * self._level, "memory", pressure=pressure)

    def restart(self, *, good: int, now: float) -> Change | None:
        """The breaker closed again: a quarter of what went well, and one more for every good answer until that is
        reached again, or the knee. What is believed stays; what was refused was the outage and no wall."""
        self._last_answer = now
        self._wall = Wall()
        level = good / 4
        change = self._cut(min(level, self._level) if self._crowded else level, "restart", good=float(good))
        self._climb_to = min(float(good), self._wish())
        return change

    def configure(self, least: int, most: int) -> Change | None:
        """Another range; what was believed within the old one is forgotten, the level is kept where it fits."""
        if not 1 <= least <= most:
            raise ValueError(f"an adaptive limit needs 1 <= least <= most, got {least!r}..{most!r}")
        self._least, self._most = least, most
        self._belief, self._judged, self._usual = KneeBelief(least, most), 0, None
        return self._cut(self._level, "config", least=float(least), most=float(most))

    def _log_age(self, stamp: Stamp, now: float) -> float:
        return self._sizes.without(*_logs(stamp, now))

    def _patience_s(self) -> float:
        return math.exp(self._center + PATIENCE * self._spread) if self._judged else math.inf

    def _weigh(self, now: float) -> None:
        """Add the time since the last event, times the calls in flight then."""
        self._area += len(self._live) * (now - self._weighed_at)
        self._weighed_at = now

    def _log_calls(self, stamp: Stamp, now: float) -> float:
        """The log of the mean number of calls in flight since this one was sent."""
        lived = now - stamp.begun_at
        return math.log(max(1.0, (self._area - stamp.area) / lived)) if lived > 1e-6 else math.log(stamp.inflight)

    def _record(self, stamp: Stamp, outcome: Outcome, now: float) -> None:
        cohort = self._cohort
        if stamp.cohort != cohort.number:
            return
        if outcome is Outcome.OK:
            cohort.ended.append(_logs(stamp, now))
        elif outcome is Outcome.TIMEOUT:
            cohort.timed_out.append(_logs(stamp, now))
        else:
            cohort.lose(refused=outcome is Outcome.OVERLOADED)
            return
        cohort.log_calls += self._log_calls(stamp, now)

    def _refused(self, stamp: Stamp, now: float) -> Change | None:
        wall, before = self._wall, self._wall.before
        cuts = stamp.generation == self.generation and now >= self._hold_until
        level = wall.refused(stamp, self._level, self._accepted_before(stamp), now, cuts=cuts)
        if stamp.inflight == 1 and before > self._level:
            self._climb_to = max(self._climb_to, before)
        level = min(level, max(self._level, self._wish()))
        if level > self._level:
            return self._step(level, "provider_slow", inflight=float(stamp.inflight))
        if level == self._level:
            return None
        self._hold_until = now + HOLD_S
        return self._cut(level, "overload", inflight=float(stamp.inflight))

    def _accepted_before(self, refused: Stamp) -> list[Stamp]:
        """Calls that are at work and were sent since refusals began, the latest first; those sent after this one may
        yet be refused."""
        since = math.inf if self._wall.since is None else self._wall.since
        sent = takewhile(lambda stamp: stamp.begun_at > since, reversed(self._live))
        return list(islice((stamp for stamp in sent if stamp.begun_at < refused.begun_at), SEEN))

    def _judge(self, now: float) -> Change | None:
        """A cohort is due: what it says, and where the level goes."""
        cohort, self._cohort = self._cohort, self._new_cohort()
        if not cohort.refused:
            self._wall.clean()
        self._sizes.learn(cohort.ended)
        ended = [self._sizes.without(*logs) for logs in cohort.ended]
        members = [stamp for stamp in self._live if stamp.cohort == cohort.number]
        running = [self._log_age(stamp, now) for stamp in members]
        timed_out = [self._sizes.without(*logs) for logs in cohort.timed_out]
        mean, spread = censored_mean(ended, running + timed_out, self._center, self._spread)
        self._center = mean
        self._spread += 0.25 * (min(2.0, max(0.1, spread)) - self._spread)
        told = math.fsum(0.5 * math.erfc((mean - age) / self._spread * math.sqrt(0.5)) for age in running)
        error = self._spread / math.sqrt(cohort.answered + told)
        log_calls = (cohort.log_calls + math.fsum(self._log_calls(stamp, now) for stamp in members)) / cohort.sent
        below = (self._belief.base()[0] - mean) / error if self._judged else 0.0
        if below > DOUBT and self._sounding is None:
            self._calm, self._doubt = SOUND_EVERY, True
        self._belief.observe(log_calls, mean, error)
        self._judged += 1
        base, base_error = self._belief.base()
        wish = self._wish()
        inputs = {"calls": float(cohort.sent), "inflation": math.exp(mean - base), "error": error, "wish": wish}
        bound = cohort.bound and 2 * math.exp(log_calls) >= self.limit
        change = self._steer(wish, base_error, log_calls, bound, below > 1, inputs)
        return self._with_slowness(change, base, base_error, inputs)

    def _wish(self) -> float:
        """The level that is right by what latencies have told; no bound while they have told nothing."""
        return math.exp(self._belief.knee(QUANTILE) + MARGIN) if self._judged else math.inf

    def _climb(self, stamp: Stamp) -> Change | None:
        """After an outage, or after refusals that were no wall's: one more for a good answer."""
        if self._level >= self._climb_to or stamp.generation != self.generation or self._crowded:
            return None
        if not (stamp.bound or self._cohort.bound):
            return None  # nothing waits for more
        level, _ = self._wall.bound(min(self._level + 1, self._climb_to))
        if level <= self._level:
            return None
        return self._step(level, "growth", climb=self._climb_to)

    def _steer(
        self, wish: float, base_error: float, log_calls: float, bound: bool, faster: bool, inputs: dict[str, float]
    ) -> Change | None:
        step = min(SOUND_MOST, max(SOUND_LEAST, SOUND_ERRORS * inputs["error"]))
        if self._sounding is not None and not self._sound_up and faster and self.limit > self._least:
            return self._go(self._level * math.exp(-step), "probe", bound, inputs)
        if self._sounding is not None:
            level, self._sounding, self._calm = min(wish, self._sounding * math.exp(UP_MOST)), None, 0
            return self._go(level, "probe", bound, inputs)
        self._calm += 1
        if bound and self._calm >= SOUND_EVERY and self.limit > self._least + 1:
            self._calm = 0
            up = self._sound_up = not self._doubt and (base_error <= UNSURE or not self._sound_up)
            self._doubt = False
            level = min(wish, self._level) * math.exp(step if up else -step)
            change = self._go(level, "probe", bound, inputs)
            self._sounding = min(wish, self._level) if change is not None else None
            return change
        if not bound and wish >= math.exp(log_calls):
            return None  # what is in use is not too much, and nothing waits for more
        low, high = self._level * math.exp(-DOWN_MOST), self._level * math.exp(UP_MOST)
        level = min(high, max(low, wish))
        return self._go(level, "latency" if level < self._level else "growth", bound, inputs)

    def _with_slowness(
        self, change: Change | None, base: float, base_error: float, inputs: dict[str, float]
    ) -> Change | None:
        """Compare the base with the usual one, and report once when it has become much slower."""
        if self._usual is None or base < self._usual:
            self._usual = base
        off = base - self._usual
        if self.slowdown > 1.0:
            self.slowdown = math.exp(off) if off > SLOW_OVER else 1.0
        elif off > SLOW and base_error < SLOW_UNSURE and self._slow_for < 1:
            self._slow_for += 1
        elif off > SLOW and base_error < SLOW_UNSURE:
            self._slow_for = 0
            self.slowdown = math.exp(off)
            old, new = (change.old, change.new) if change is not None else (self.limit, self.limit)
            return Change(old, new, "provider_slow", {**inputs, "slowdown": self.slowdown})
        if off <= SLOW_OVER:
            self._slow_for = 0
            self._usual += 0.05 * off
        return change

    def _go(self, level: float, reason: str, bound: bool, inputs: dict[str, float]) -> Change | None:
        """To a level that the latencies ask for."""
        if level < self._level:
            if _whole(level) < self.limit:
                return self._cut(level, reason, **inputs)
            return self._move(level, reason, **inputs)
        if not bound or self._crowded:
            return None
        level, onto_wall = self._wall.bound(level)
        if level <= self._level:
            return None
        return self._move(level, "probe" if onto_wall else reason, **inputs)

    def _cut(self, level: float, reason: str, **inputs: float) -> Change | None:
        """To a lower level: a new generation, which alone will say whether it was enough."""
        self.generation += 1
        if reason != "probe":
            self._sounding = None
        if reason != "overload":
            self._climb_to = 0.0
        return self._move(level, reason, **inputs)

    def _move(self, level: float, reason: str, **inputs: float) -> Change | None:
        """To another level, which calls that are sent from now on will judge."""
        self._cohort = self._new_cohort()
        return self._step(level, reason, **inputs)

    def _step(self, level: float, reason: str, **inputs: float) -> Change | None:
        """To another level within a cohort: each of its members counts the calls in flight that it saw."""
        old = self.limit
        self._set_level(min(float(self._most), max(float(self._least), level)))
        if self.limit == old:
            return None
        return Change(old, self.limit, reason, {"generation": float(self.generation), **inputs})

    def _new_cohort(self) -> Group:
        """As many calls as make its mean certain enough; at birth a few, to get away from the start."""
        self._number += 1
        calls = math.ceil(EVIDENCE * self._spread**2) if self._judged else LEAST_CALLS
        return Group(self._number, max(LEAST_CALLS, min(MOST_CALLS, calls)))
