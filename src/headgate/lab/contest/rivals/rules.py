"""Rules that others have published, with their constants. Pure: time comes in as ``now`` in seconds."""

from __future__ import annotations

import math
from typing import Protocol

from headgate.model.outcome import Outcome
from headgate.policy.outcome_window import OutcomeWindow

ACCEPTED = frozenset({Outcome.OK, Outcome.CALLER_ERROR})
FAILURES = frozenset({Outcome.FAILED, Outcome.TIMEOUT, Outcome.OVERLOADED})


class ClientThrottle:
    """Adaptive throttling of clients (Site Reliability Engineering, ch. 21): over two minutes, a call is refused here
    with probability max(0, (requests - K * accepts) / (requests + 1)), K = 2.

    Requests count when they are asked for, also those refused here; accepts when they end well.
    """

    def __init__(self, *, k: float = 2.0, window_s: float = 120.0) -> None:
        self._k = k
        self._requests = OutcomeWindow(window_s, 24)
        self._accepts = OutcomeWindow(window_s, 24)

    def chance(self, now: float) -> float:
        """Of being refused now."""
        self._requests.advance(now)
        self._accepts.advance(now)
        requests, accepts = self._requests.good, self._accepts.good
        return max(0.0, (requests - self._k * accepts) / (requests + 1))

    def refuses(self, now: float, luck: float) -> bool:
        """Count a request; whether it is refused. ``luck`` is uniform in 0..1."""
        refused = luck < self.chance(now)
        self._requests.add(True, now)
        return refused

    def end(self, outcome: Outcome, now: float) -> None:
        """A request that went out ended."""
        if outcome in ACCEPTED:
            self._accepts.add(True, now)


class VolumeBreaker:
    """Circuit breaker with the defaults of Hystrix: opens at 50 % failures of at least 20 requests in ten seconds,
    lets one request through after five seconds, and closes when that one succeeds."""

    def __init__(
        self, *, failures: float = 0.5, volume: int = 20, window_s: float = 10.0, sleep_s: float = 5.0
    ) -> None:
        self._failures, self._volume, self._sleep_s = failures, volume, sleep_s
        self._window = OutcomeWindow(window_s)
        self._tries_at: float | None = None
        """When it lets the next one through; ``None`` while it is closed."""

    def refuses(self, now: float) -> bool:
        """Whether a request that comes now is refused; one that is let through while it is open is the test."""
        if self._tries_at is None:
            return False
        if now < self._tries_at:
            return True
        self._tries_at = now + self._sleep_s  # the next test, if this one tells nothing
        return False

    def end(self, outcome: Outcome, now: float) -> None:
        """A request that was let through ended."""
        if outcome not in ACCEPTED and outcome not in FAILURES:
            return
        good = outcome in ACCEPTED
        if self._tries_at is not None:
            if good:
                self._tries_at = None
                self._window.clear()
            else:
                self._tries_at = now + self._sleep_s
            return
        self._window.add(good, now)
        total = self._window.good + self._window.bad
        if total >= self._volume and self._window.bad >= self._failures * total:
            self._tries_at = now + self._sleep_s


class RetryAllowance(Protocol):
    """Whether a failed request may be repeated."""

    def request(self, now: float) -> None:
        """A first try."""
        ...

    def allows(self, now: float, active: int) -> bool:
        """Whether there may be one more retry; if so, it is counted. ``active``: requests under way, with those that
        wait."""
        ...

    def ended(self) -> None:
        """A counted retry ended."""
        ...


class FreeRetries:
    """As many as there are tries."""

    def request(self, now: float) -> None:
        return

    def allows(self, now: float, active: int) -> bool:
        return True

    def ended(self) -> None:
        return


class ActiveShare:
    """The retry budget of Envoy: retries under way are at most 20 % of the requests under way, or three."""

    def __init__(self, *, share: float = 0.2, least: int = 3) -> None:
        self._share, self._least = share, least
        self._active = 0

    def request(self, now: float) -> None:
        return

    def allows(self, now: float, active: int) -> bool:
        if self._active >= max(self._least, self._share * active):
            return False
        self._active += 1
        return True

    def ended(self) -> None:
        self._active -= 1


class RequestShare:
    """The retry budget of a client (Site Reliability Engineering, ch. 21): retries are at most a tenth of its
    requests, here of the last two minutes, or one."""

    def __init__(self, *, share: float = 0.1, window_s: float = 120.0) -> None:
        self._share = share
        self._window = OutcomeWindow(window_s, 24)
        """Good: first tries; bad: retries."""

    def request(self, now: float) -> None:
        self._window.add(True, now)

    def allows(self, now: float, active: int) -> bool:
        self._window.advance(now)
        if self._window.bad >= max(1.0, self._share * self._window.good):
            return False
        self._window.add(False, now)
        return True

    def ended(self) -> None:
        return


class Pacer:
    """A token bucket for a declared rate: calls go out ``per_s``, up to ``burst`` at once; the others wait. Who could
    not go in time takes no place, as with ``Limiter.Wait`` of Go's ``x/time/rate``."""

    def __init__(self, per_s: float, *, burst: float) -> None:
        self._step_s = 1 / per_s
        self._burst_s = (burst - 1) / per_s
        self._next_at = 0.0

    def wait_s(self, now: float, until_s: float = math.inf) -> float | None:
        """Take a place; how long to wait for it, or ``None`` if it would come after ``until_s``."""
        turn = max(self._next_at, now - self._burst_s)
        if turn > until_s:
            return None
        self._next_at = turn + self._step_s
        return max(0.0, turn - now)
