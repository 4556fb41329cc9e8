"""Circuit breaker: stop asking a dependency that fails, and ask again carefully.

States: *closed* (calls pass) → *open* (calls are refused for a while) → *probing* (one call at a time finds out) →
*closed*, or *open* again for longer.

Two kinds. A *soft* breaker keeps a trickle going: it probes soon, at growing intervals, and closes once two of the
last four probes were clean: a dependency that answers every other call is worth calling. A *hard* one leaves the
dependency alone for much longer and closes after one. In simulations of overload a full breaker helped naive callers
and hurt callers with limits and retry budgets, because it stays away when capacity is back; hence soft is the
default.

Opens when, within the window, at least ``minimum_calls`` ended, the share of failures reaches ``failure_rate`` and
that is no accident: the lower end of its 90 % Wilson interval reaches ``failure_rate``, or one half where that is
less. Opens also after ``consecutive`` failures in a row, or after so many more that chance would hardly make such a
row in the window at the share of failures before it: with every other call failing, eight in a row come every few
minutes. Rules taken from the field's scars: a 429 never counts (full is not broken); 503 and 529 count only while
nothing succeeds in the window; an answer that blames the request proves that somebody is there; the open time
doubles and is jittered so that many processes do not probe in step; a hint such as ``Retry-After`` is the least open
time.

Endings carry the *epoch* in which their call began: an ending from before the last change of state is no evidence.

The breaker gives no slots. After it closed, the owner restarts the limit at a quarter of the last good one (no herd).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from headgate.policy.outcome_window import OutcomeWindow

Z_90 = 1.6449
"""Normal quantile of a two-sided 90 % interval."""
EVIDENCE_AT_MOST = 0.5
"""The lower end of the interval need not be above this, however high the failure rate is set."""


PROBES_SEEN = 4
CHANCE = 0.05
"""Of a row of failures that is not taken for an accident."""


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """The numbers. Times in seconds."""

    failure_rate: float = 0.8
    minimum_calls: int = 8
    consecutive: int = 8
    window_s: float = 60.0
    open_for_s: float = 1.0
    """First open time; it doubles with every failed probe."""
    open_at_most_s: float = 30.0
    probes: int = 2
    """Clean probes among the last `PROBES_SEEN` that close it."""


@dataclass(frozen=True, slots=True)
class BreakerChange:
    """A change of state and why."""

    old: BreakerState
    new: BreakerState
    reason: str
    """``failure_rate``, ``consecutive_failures``, ``probe_failed``, ``probe_succeeded``, ``probing``."""
    open_for_s: float = 0.0


def wilson_lower(bad: int, total: int, *, z: float = Z_90) -> float:
    """The lower end of the Wilson score interval (1927) for the share ``bad / total``: 0 for no calls."""
    if total <= 0:
        return 0.0
    share, weight = bad / total, z * z / total
    half = z * math.sqrt(share * (1 - share) / total + weight / (4 * total))
    return max(0.0, (share + weight / 2 - half) / (1 + weight))


class Breaker:
    """The state of one dependency."""

    __slots__ = (
        "_in_a_row",
        "_open_until",
        "_probed",
        "_reopened",
        "_rules",
        "_window",
        "epoch",
        "probe_out",
        "state",
    )

    def __init__(self, rules: BreakerRules) -> None:
        self._rules = rules
        self._window = OutcomeWindow(rules.window_s)
        self._in_a_row = 0
        self._reopened = 0
        self._probed: tuple[bool, ...] = ()
        """How the latest probes ended."""
        self._open_until = 0.0
        self.state = BreakerState.CLOSED
        self.epoch = 0
        self.probe_out = False
        """Whether the single probe is under way."""

    def refuses(self, now: float) -> bool:
        """Whether a call that comes now is turned away (rather than waiting for a probe's result)."""
        return self.state is BreakerState.OPEN and now < self._open_until

    def reopens_in(self, now: float) -> float:
        """Seconds until the next probe may be made."""
        return max(0.0, self._open_until - now) if self.state is BreakerState.OPEN else 0.0

    def may_start(self, now: float) -> bool:
        """Whether one more call may start now; when the breaker is not closed it would be the probe."""
        if self.state is BreakerState.CLOSED:
            return True
        if self.state is BreakerState.PROBING:
            return not self.probe_out
        return now >= self._open_until

    def begin_probe(self) -> BreakerChange | None:
        """The call that starts now is the probe (`may_start` said yes and the breaker is not closed)."""
        self.probe_out = True
        if self.state is BreakerState.PROBING:
            return None
        return self._become(BreakerState.PROBING, "probing")

    def on_alive(self, now: float, *, epoch: int, probe: bool = False) -> BreakerChange | None:
        """A call ended in a way that shows the dependency working (also: it refused us, or blamed the request)."""
        if epoch != self.epoch and not probe:
            return None
        self._in_a_row = 0
        if self.state is BreakerState.CLOSED:
            self._window.add(True, now)
            return None
        if not probe:
            return None
        self.probe_out = False
        self._reopened = 0
        self._probed = (*self._probed, True)[-PROBES_SEEN:]
        if sum(1 for probed in self._probed if probed) < self._rules.probes:
            return None
        self._window.clear()
        self._probed = ()
        return self._become(BreakerState.CLOSED, "probe_succeeded")

    def on_failure(
        self, now: float, *, epoch: int, jitter: float, probe: bool = False, hint_s: float | None = None
    ) -> BreakerChange | None:
        """A call failed: 5xx, timeout, broken connection, malformed answer. ``jitter`` is uniform in 0..1."""
        if probe:
            self.probe_out = False
            self._reopened += 1
            self._probed = (*self._probed, False)[-PROBES_SEEN:]
            return self._open(now, "probe_failed", jitter, hint_s)
        if epoch != self.epoch or self.state is not BreakerState.CLOSED:
            return None
        window = self._window
        window.add(False, now)
        self._in_a_row += 1
        total = window.good + window.bad
        if self._in_a_row >= self._row_needed(total):
            return self._open(now, "consecutive_failures", jitter, hint_s)
        if total >= self._rules.minimum_calls and self._too_many(window.bad, total):
            return self._open(now, "failure_rate", jitter, hint_s)
        return None

    def on_full(
        self, now: float, *, epoch: int, jitter: float, probe: bool = False, hint_s: float | None = None
    ) -> BreakerChange | None:
        """The dependency said 503 or 529, or refused to connect: a failure only if nothing else succeeds."""
        self._window.advance(now)
        if self._window.good and not probe:
            return None
        return self.on_failure(now, epoch=epoch, jitter=jitter, probe=probe, hint_s=hint_s)

    def on_nothing(self, *, probe: bool) -> None:
        """A call ended without evidence (we cancelled it). An abandoned probe may be made again."""
        if probe:
            self.probe_out = False

    def _too_many(self, bad: int, total: int) -> bool:
        rate = self._rules.failure_rate
        return bad >= rate * total and wilson_lower(bad, total) >= min(rate, EVIDENCE_AT_MOST)

    def _row_needed(self, total: int) -> int:
        """Failures in a row, the last of ``total`` calls, that are no accident."""
        before = total - self._in_a_row
        share = (self._window.bad - self._in_a_row) / before if before >= self._rules.minimum_calls else 0.0
        if not 0 < share < 1:
            return self._rules.consecutive
        return max(self._rules.consecutive, math.ceil(math.log(CHANCE / total) / math.log(share)))

    def _open(self, now: float, reason: str, jitter: float, hint_s: float | None) -> BreakerChange:
        length = min(self._rules.open_at_most_s, self._rules.open_for_s * 2.0 ** min(self._reopened, 32))
        length *= 0.75 + 0.5 * jitter
        if hint_s is not None:
            length = max(length, min(hint_s, 2 * self._rules.open_at_most_s))
        self._open_until = now + length
        self._in_a_row = 0
        self._window.clear()
        return self._become(BreakerState.OPEN, reason, length)

    def _become(self, state: BreakerState, reason: str, open_for_s: float = 0.0) -> BreakerChange:
        old, self.state = self.state, state
        self.epoch += 1
        return BreakerChange(old, state, reason, open_for_s)
