"""v1"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from headgate.model.outcome import Outcome
from headgate.policy.concurrency.knee import KneeBelief
from headgate.policy.concurrency.limiter import Stamp
from headgate.policy.concurrency.protocol import Change

START = 4
LEAST_CALLS, MOST_CALLS = 10, 64
EVIDENCE = 50.0
DONE = 0.6
QUANTILE, MARGIN = 0.6, 0.18
UP_MOST, DOWN_MOST = math.log(1.6), math.log(2.0)
SOUND = 0.6
UNSURE = 0.1
PROBE_CALLS, PROBE_CALLS_MOST = 80, 200
HOLD_S = 1.5
SILENCE = 12.0
IN_A_ROW = 5


def censored_mean(ended: list[float], unended: list[float], guess: float, spread: float) -> tuple[float, float]:
    """Mean and spread of normal values of which ``unended`` are only known to be at least so large."""
    n = len(ended) + len(unended)
    mean, most = guess, 3.0
    squares = 0.0
    for _ in range(12):
        total = squares = 0.0
        for x in ended:
            d = max(-most * spread, min(most * spread, x - mean))
            total += d
            squares += d * d
        for c in unended:
            z = (c - mean) / spread
            if z > most:
                total += most * spread
                squares += (most * spread) ** 2
                continue
            tail = 0.5 * math.erfc(z * 0.7071067811865476)
            hazard = 0.3989422804014327 * math.exp(-0.5 * z * z) / tail
            total += spread * hazard
            squares += spread * spread * (1 + z * hazard)
        mean += total / n
        if abs(total) < 0.01 * n:
            break
    return mean, math.sqrt(max(squares / n - (total / n) ** 2, 1e-4))


def overdue(z: float) -> float:
    """Minus the log of the chance that a normal value is above ``z``."""
    return -math.log(0.5 * math.erfc(z * 0.7071067811865476)) if z < 8 else 0.5 * z * z + math.log(z) + 0.919


@dataclass(slots=True)
class _Cohort:
    number: int
    wanted: int
    sent: int = 0
    bound: int = 0
    logs: list[float] = field(default_factory=list)
    void: int = 0
    failed: int = 0
    inflight: float = 0.0
    refused: int = 0

    @property
    def ended(self) -> int:
        return len(self.logs) + self.void + self.failed


class CohortLimiter:
    def __init__(self, least: int, most: int, *, start: int | None = None) -> None:
        self._least, self._most = least, most
        self._level = float(min(most, max(least, START if start is None else start)))
        self.generation = 0
        self._live: set[Stamp] = set()
        self._belief = KneeBelief(least, most)
        self._spread = 0.7
        self._center = 0.0
        self._number = 0
        self._ruled = 0
        self._cohort = self._new_cohort()
        self._wall: int | None = None
        self._probe_calls = PROBE_CALLS
        self._since_refusal = 0
        self._strikes = 0
        self._hold_until = -math.inf
        self._sounding: float | None = None
        self._calm = 0
        self._sound_after = 5
        self._memory = False
        self._last_answer = -math.inf
        self._last_refusal = -math.inf
        self._accepted = (0.0, 0)
        self._before_refusals = 0.0
        self._in_a_row = 0
        self._at_random = False

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
            cohort.inflight += math.log(inflight)
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
                self._ruled = 0
                self._probe_calls = PROBE_CALLS
        if outcome in (Outcome.OK, Outcome.FAILED):
            self._last_answer = now
        cohort = self._cohort
        if stamp.cohort != cohort.number:
            return None
        if outcome in (Outcome.OK, Outcome.TIMEOUT):
            cohort.logs.append(math.log(max(now - stamp.begun_at, 1e-6) / stamp.size))
        elif outcome is Outcome.FAILED:
            cohort.failed += 1
        else:
            cohort.void += 1
            cohort.refused += outcome is Outcome.OVERLOADED
        if cohort.sent >= cohort.wanted and cohort.ended >= DONE * cohort.sent:
            return self._close(now)
        return None

    def tick(self, *, now: float) -> Change | None:
        if not self._belief.known:
            return None
        middle, spread = self._center, 1.15 * self._spread
        late, silence, live = 0, 0.0, 0
        for stamp in self._live:
            if stamp.generation != self.generation:
                continue
            live += 1
            z = (math.log(max(1e-6, now - stamp.begun_at) / stamp.size) - middle) / spread
            late += z > 2.0
            silence += overdue(z)
            if stamp.begun_at < self._last_answer:
                silence -= overdue((math.log((self._last_answer - stamp.begun_at) / stamp.size) - middle) / spread)
        if silence < SILENCE and (late < 4 or 2 * late < live):
            return None
        return self._cut(self._level * 0.7, "stall", now, late=float(late), live=float(live), silence=silence)

    # refusals

    def _refused(self, stamp: Stamp, now: float) -> Change | None:
        self._since_refusal = 0
        last, self._last_refusal = self._last_refusal, now
        if stamp.generation != self.generation or now < self._hold_until:
            return None
        taken = any(other.begun_at > last and other.inflight >= stamp.inflight for other in self._live)
        self._in_a_row = 1 if taken else self._in_a_row + 1
        if self._strikes and taken:
            self._at_random = True
            self._wall = None
            level, self._before_refusals = max(self._level, self._before_refusals), 0.0
            return self._move(level, "provider_slow", {"inflight": float(stamp.inflight)}) if level > self._level else None
        if self._at_random and self._in_a_row < IN_A_ROW:
            return None
        self._at_random = False
        accepted = max(1.0, stamp.inflight - 1.0)
        room = min(self._level, accepted)
        if self._strikes == 0:
            self._before_refusals = self._level
        level = max(room, 0.7 * self._level) if self._strikes == 0 else 0.7 * room
        if self._wall is not None and stamp.inflight == self._wall:
            self._probe_calls = min(PROBE_CALLS_MOST, 2 * self._probe_calls)
        else:
            self._probe_calls = PROBE_CALLS
        self._wall = stamp.inflight
        self._strikes += 1
        return self._cut(level, "overload", now, accepted=accepted, strikes=float(self._strikes))

    # latency

    def _close(self, now: float) -> Change | None:
        cohort = self._cohort
        self._cohort = self._new_cohort()
        n = len(cohort.logs)
        if n < LEAST_CALLS // 2:
            return None
        unended = [math.log(max(now - s.begun_at, 1e-6) / s.size) for s in self._live if s.cohort == cohort.number]
        size = n + len(unended) // 2
        y, wide = censored_mean(cohort.logs, unended, sum(cohort.logs) / n, self._spread)
        self._spread += 0.25 * (min(2.0, max(0.1, wide)) - self._spread)
        se = self._spread / math.sqrt(size)
        if not cohort.refused:
            self._strikes = 0
            self._at_random = False
        bound = 2 * cohort.bound >= cohort.sent
        self._center = y
        self._ruled += 1
        self._belief.observe(cohort.inflight / cohort.sent, y, se)
        base, error = self._belief.base()
        inputs = {"inflation": y - base, "se": se, "base": base, "base_sd": error, "knee": math.exp(self._belief.knee(0.5)), "calls": float(size)}
        if self._sounding is not None:
            self._sounding = None
            self._calm = 0
        else:
            self._calm += 1
        wish = math.exp(self._belief.knee(QUANTILE) + MARGIN)
        if self._calm >= self._sound_after and error > UNSURE and self.limit > self._least + 1 and bound:
            self._sounding = self._level
            return self._cut(SOUND * min(wish, self._level), "probe", now, **inputs)
        if wish < self._level:
            level = max(wish, self._level * math.exp(-DOWN_MOST))
            return self._cut(level, "latency", now, **inputs) if int(level) < self.limit else self._move(level, "latency", inputs)
        if not bound or self._memory:
            return None
        return self._grow(min(wish, self._level * math.exp(UP_MOST)), now, inputs)

    def _grow(self, level: float, now: float, inputs: dict[str, float]) -> Change | None:
        reason = "growth"
        if self._wall is not None and level > self._wall - 1:
            level = float(self._wall - 1)
            if self._level >= level:
                if self._since_refusal < self._probe_calls:
                    return None
                level, reason = float(self._wall), "probe"
        return self._move(level, reason, inputs)

    # moves

    def _cut(self, level: float, reason: str, now: float, **inputs: float) -> Change | None:
        self.generation += 1
        self._hold_until = now + HOLD_S
        if reason != "probe":
            self._sounding = None
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
        if not self._ruled:
            calls = LEAST_CALLS
        return _Cohort(self._number, max(LEAST_CALLS, min(MOST_CALLS, calls)))
