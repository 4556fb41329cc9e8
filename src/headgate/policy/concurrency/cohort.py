"""v1"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from headgate.model.outcome import Outcome
from headgate.policy.concurrency.limiter import Stamp
from headgate.policy.concurrency.protocol import Change

TARGET = math.log(1.25)
START = 4
LEAST_CALLS, MOST_CALLS = 8, 48
EVIDENCE = 36.0
DONE = 0.6
GAIN_UP, GAIN_DOWN = 0.6, 0.7
UP_MOST, DOWN_MOST = math.log(1.22), math.log(0.6)
SOUND = 0.6
SOUND_AFTER, SOUND_AFTER_MOST = 8, 32
PROBE_CALLS, PROBE_CALLS_MOST = 80, 200
HOLD_S = 1.5
OURS = 0.4


@dataclass(slots=True)
class _Cohort:
    number: int
    wanted: int
    sent: int = 0
    bound: int = 0
    logs: list[float] = field(default_factory=list)
    void: int = 0
    failed: int = 0

    @property
    def ended(self) -> int:
        return len(self.logs) + self.void + self.failed


class CohortLimiter:
    def __init__(self, least: int, most: int, *, start: int | None = None) -> None:
        self._least, self._most = least, most
        self._level = float(min(most, max(least, START if start is None else start)))
        self.generation = 0
        self._live: set[Stamp] = set()
        self._base: float | None = None
        self._weight = 0
        self._spread = 0.7
        self._inflation = 0.0
        self._number = 0
        self._cohort = self._new_cohort()
        self._trial: tuple[int, float] | None = None  # limit and log latency when the cuts began
        self._rise_to = math.inf
        self._streak = 0
        self._wall: int | None = None
        self._probe_calls = PROBE_CALLS
        self._since_refusal = 0
        self._strikes = 0
        self._hold_until = -math.inf
        self._sounding: float | None = None
        self._calm = 0
        self._sound_after = SOUND_AFTER
        self._memory = False

    @property
    def limit(self) -> int:
        return max(1, int(self._level + 1e-9))

    def begin(self, *, inflight: int, size: float | None, now: float) -> Stamp:
        stamp = Stamp(self.generation, now, size or 1.0, inflight, inflight >= 0.8 * self.limit)
        self._live.add(stamp)
        cohort = self._cohort
        if cohort.sent < cohort.wanted:
            cohort.sent += 1
            cohort.bound += stamp.bound
            stamp.cohort = cohort.number
        return stamp

    def end(self, stamp: Stamp, outcome: Outcome, *, inflight: int, now: float) -> Change | None:
        self._live.discard(stamp)
        if outcome is Outcome.OVERLOADED:
            change = self._refused(stamp, now)
            if change is not None:
                return change
        elif outcome is Outcome.OK:
            self._since_refusal += 1
            if self._wall is not None and stamp.inflight >= self._wall and stamp.generation == self.generation:
                self._wall = None
                self._rise_to = math.inf
                self._probe_calls = PROBE_CALLS
        cohort = self._cohort
        if stamp.cohort != cohort.number:
            return None
        if outcome in (Outcome.OK, Outcome.TIMEOUT):
            cohort.logs.append(math.log(max(now - stamp.begun_at, 1e-6) / stamp.size))
        elif outcome is Outcome.FAILED:
            cohort.failed += 1
        else:
            cohort.void += 1
        if cohort.sent >= cohort.wanted and cohort.ended >= DONE * cohort.sent:
            return self._close(now)
        return None

    def tick(self, *, now: float) -> Change | None:
        live = [stamp for stamp in self._live if stamp.generation == self.generation]
        if self._base is None or len(live) < max(2, 0.5 * self.limit):
            return None
        late = self._base + max(0.0, self._inflation) + 1.645 * self._spread
        factor = 1.2 * math.exp(late)
        old = sum(now - stamp.begun_at > factor * stamp.size for stamp in live)
        if 2 * old < len(live) or old < 2:
            return None
        self._rise_to = self._level
        return self._cut(self._level * 0.7, "stall", now, late=float(old), live=float(len(live)))

    # refusals

    def _refused(self, stamp: Stamp, now: float) -> Change | None:
        self._since_refusal = 0
        if stamp.generation != self.generation or now < self._hold_until:
            return None
        accepted = max(1.0, stamp.inflight - 1.0)
        room = min(self._level, accepted)
        level = max(room, 0.7 * self._level) if self._strikes == 0 else 0.7 * room
        if self._wall is not None and stamp.inflight == self._wall:
            self._probe_calls = min(PROBE_CALLS_MOST, 2 * self._probe_calls)
        else:
            self._probe_calls = PROBE_CALLS
        self._wall = stamp.inflight
        self._strikes += 1
        self._rise_to = 0.0
        self._trial = None
        return self._cut(level, "overload", now, accepted=accepted, strikes=float(self._strikes))

    # latency

    def _close(self, now: float) -> Change | None:
        cohort = self._cohort
        self._cohort = self._new_cohort()
        n = len(cohort.logs)
        if n < LEAST_CALLS // 2:
            return None
        known = sorted(cohort.logs)
        size = n + (cohort.sent - cohort.ended)  # those that have not ended are slower than all that have
        y = known[min(n - 1, (size - 1) // 2)]
        mad = sorted(abs(x - y) for x in known)[min(n - 1, (size - 1) // 2)]
        self._spread += 0.25 * (min(2.0, max(0.05, 1.4826 * mad)) - self._spread)
        se = 1.25 * self._spread / math.sqrt(size)
        bound = 2 * cohort.bound >= cohort.sent
        if self._base is None:
            self._base, self._weight = y, size
        m = y - self._base
        self._inflation = m
        if self._sounding is not None:
            return self._sounded(y, se, size, now)
        if m < -max(2.5 * se, 0.1):
            self._base, self._weight, m = y, size, 0.0
        elif not bound:
            self._learn(y, size)
        if not bound:
            self._trial = None
            return None
        return self._steer(y, m, se, size, now)

    def _steer(self, y: float, m: float, se: float, size: int, now: float) -> Change | None:
        inputs = {"inflation": m, "se": se, "base": self._base or 0.0, "calls": float(size)}
        want = TARGET - m
        if want < -max(0.5 * se, 0.05):
            self._strikes = 0
            self._streak = 0
            if self._trial is None:
                self._trial = (self.limit, y)
            else:
                limit, before = self._trial
                cut = math.log(limit / self.limit)
                expected = min(cut, before - (self._base or 0.0))
                if cut >= 0.45 and m > 2 * se and before - y < OURS * expected:
                    return self._not_ours(y, limit, now, inputs)
            self._rise_to = 0.0
            return self._cut(self._level * math.exp(max(DOWN_MOST, GAIN_DOWN * want)), "latency", now, **inputs)
        self._trial = None
        self._strikes = 0
        self._calm += 1
        if self._rise_to == math.inf and m < 2 * se and self._weight < 150:
            self._learn(y, size)
        if self._calm >= self._sound_after and self.limit > self._least + 1 and self._level >= self._rise_to:
            self._sounding = self._level
            return self._cut(self._level * SOUND, "probe", now, **inputs)
        return self._grow(want, now, inputs)

    def _grow(self, want: float, now: float, inputs: dict[str, float]) -> Change | None:
        if want <= 0 or self._memory:
            return None
        if self._level < self._rise_to:
            level, reason = min(self._level * 2, max(self._rise_to, self._level)), "growth"
        else:
            step = min(UP_MOST, GAIN_UP * want)
            self._streak = self._streak + 1 if want > 0.6 * TARGET else 0
            if self._streak > 2:
                step = min(2 * step, math.log(1.5))
            level, reason = self._level * math.exp(step), "growth"
        if self._wall is not None and level > self._wall - 1:
            level = float(self._wall - 1)
            if self._level >= level:
                if self._since_refusal < self._probe_calls:
                    return None
                level, reason = float(self._wall), "probe"
        return self._move(level, reason, inputs)

    def _sounded(self, y: float, se: float, size: int, now: float) -> Change | None:
        assert self._sounding is not None and self._base is not None
        m = y - self._base
        if m < -2 * se:
            self._base, self._weight = y, size
            self._sound_after = SOUND_AFTER
        else:
            self._learn(y, size)
            self._sound_after = min(SOUND_AFTER_MOST, self._sound_after * 2)
        level, self._sounding, self._calm = self._sounding, None, 0
        return self._move(level, "probe", {"inflation": m, "se": se})

    def _not_ours(self, y: float, limit: int, now: float, inputs: dict[str, float]) -> Change | None:
        self._base, self._weight = y, MOST_CALLS // 2
        self._trial = None
        self._calm = 0
        self._sound_after = SOUND_AFTER
        return self._move(float(limit), "provider_slow", inputs)

    def _learn(self, y: float, size: int) -> None:
        assert self._base is not None
        self._weight = min(150, self._weight + size)
        self._base += (y - self._base) * size / self._weight

    # moves

    def _cut(self, level: float, reason: str, now: float, **inputs: float) -> Change | None:
        self.generation += 1
        self._hold_until = now + HOLD_S
        if reason != "probe":
            self._sounding = None
            self._calm = 0
        self._cohort = self._new_cohort()
        return self._move(level, reason, inputs)

    def _move(self, level: float, reason: str, inputs: dict[str, float]) -> Change | None:
        old = self.limit
        self._level = min(float(self._most), max(float(self._least), level))
        self._cohort = self._new_cohort()
        return None if self.limit == old else Change(old, self.limit, reason, {"generation": self.generation, **inputs})

    def _new_cohort(self) -> _Cohort:
        self._number += 1
        calls = math.ceil(EVIDENCE * self._spread**2)
        return _Cohort(self._number, max(LEAST_CALLS, min(MOST_CALLS, calls)))
