"""How many retries a resource can afford.

Decides: whether a retry may happen now. Source: the retry budgets of Finagle and Envoy, with prices by kind of
failure as in the AWS SDKs (mode 2.1).

Rule: every first try that succeeds deposits a share of a call; a retry withdraws a price; a retry that succeeds gets
its price back. The balance is capped, and a trickle lets resources with little traffic retry once in a while.

Each run has a budget besides: at most a fifth of its calls are repeated, and three in any case, so that one unlucky
run does not spend what belongs to all.

Invariant: withdrawals over any stretch are at most the cap, plus the share of its successes, plus one per trickle
period, so that a dependency which fails every call sees at most that much beyond the callers' own demand.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from enum import Enum


class RetryKind(Enum):
    """Why a retry is due; the value is its price in calls."""

    THROTTLE = 0.5
    """The dependency said that it is full: cheap for it to refuse."""
    TRANSIENT = 1.0
    TIMEOUT = 2.0
    """The dearest: the dependency may still be at work on the first try."""


class RetryBudget:
    """The balance of one resource, in calls. It starts full."""

    __slots__ = ("_balance", "_cap", "_share", "_trickle_s", "_trickled_at")

    def __init__(self, *, share: float, cap: float = 10.0, trickle_s: float = 60.0, now: float = 0.0) -> None:
        if not 0.0 < share <= 1.0 or cap <= 0 or trickle_s <= 0:
            raise ValueError(f"share must be in (0, 1], cap and trickle positive: {share!r}, {cap!r}, {trickle_s!r}")
        self._share = share
        self._cap = cap
        self._trickle_s = trickle_s
        self._balance = cap
        self._trickled_at = now

    def deposit(self) -> None:
        """A first try succeeded."""
        balance = self._balance + self._share
        self._balance = balance if balance < self._cap else self._cap

    def withdraw(self, kind: RetryKind, *, now: float) -> bool:
        """Pay for one retry; ``False`` (and nothing taken) when the balance does not cover it."""
        price = kind.value
        if self.balance(now) < price:
            return False
        self._balance -= price
        return True

    def refund(self, kind: RetryKind) -> None:
        """The retry that was paid for succeeded, or was never made."""
        self._balance = min(self._cap, self._balance + kind.value)

    def spend(self, price: float) -> None:
        """Something was retried without asking; the balance stops at 0."""
        self._balance = max(0.0, self._balance - price)

    def balance(self, now: float) -> float:
        """What could be withdrawn now, the trickle included."""
        earned = (now - self._trickled_at) / self._trickle_s
        if earned > 0:
            self._balance = min(self._cap, self._balance + earned)
            self._trickled_at = now
        return self._balance


class RunRetries:
    """How many retries each run has had. Runs that have not called for longest are forgotten beyond a bound."""

    __slots__ = ("_runs",)

    SHARE = 0.2
    LEAST = 3
    REMEMBERED = 10_000

    def __init__(self) -> None:
        self._runs: OrderedDict[str, tuple[int, int]] = OrderedDict()
        """Run → calls and retries."""

    def __len__(self) -> int:
        return len(self._runs)

    def call(self, run_id: str) -> None:
        """The run makes a call (its first try)."""
        runs = self._runs
        known = runs.get(run_id)
        if known is None:
            self._keep(run_id, 1, 0)
        else:
            runs[run_id] = known[0] + 1, known[1]
            runs.move_to_end(run_id)

    def withdraw(self, run_id: str) -> bool:
        """Count one retry of the run; ``False`` (and nothing counted) when it has had its part."""
        calls, retries = self._runs.get(run_id, (0, 0))
        if retries >= max(self.LEAST, math.floor(self.SHARE * calls)):
            return False
        self._keep(run_id, calls, retries + 1)
        return True

    def refund(self, run_id: str) -> None:
        """A retry that was counted was never made."""
        calls, retries = self._runs.get(run_id, (0, 0))
        if retries:
            self._runs[run_id] = calls, retries - 1

    def _keep(self, run_id: str, calls: int, retries: int) -> None:
        self._runs[run_id] = calls, retries
        self._runs.move_to_end(run_id)
        if len(self._runs) > self.REMEMBERED:
            self._runs.popitem(last=False)
