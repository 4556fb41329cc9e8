"""What retries of one resource may still cost: its own budget, each run's, and how many are under way.

Called under the resource's lock, except what concerns runs, which all resources share and which has its own lock.
"""

from __future__ import annotations

import math
import random
import threading

from headgate.config.settings import RetrySettings
from headgate.guard.ambient import Ambient
from headgate.guard.options import CallOptions
from headgate.guard.refusals import Denial
from headgate.guard.retry import NO, Again, wait_before, worth_repeating
from headgate.guard.slot import Slot
from headgate.model.outcome import CallResult
from headgate.model.reason import Reason
from headgate.policy.retry_budget import RetryBudget, RetryKind, RunRetries

INFLIGHT_SHARE = 0.2
"""Retries under way, as a share of the calls that run or wait (Envoy's default); one in any case."""


class SharedRunRetries:
    """The retries of runs, counted over all resources."""

    __slots__ = ("_lock", "_runs")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs = RunRetries()

    def call(self, whose: Ambient) -> None:
        """The run makes a call."""
        if whose.run_id:
            with self._lock:
                self._runs.call(whose.run_id)

    def withdraw(self, whose: Ambient) -> bool:
        """Whether the run may retry; counted if so."""
        if not whose.run_id:
            return True
        with self._lock:
            return self._runs.withdraw(whose.run_id)

    def refund(self, whose: Ambient) -> None:
        """The retry was never made."""
        if whose.run_id:
            with self._lock:
                self._runs.refund(whose.run_id)


class Retries:
    """The retries of one resource."""

    __slots__ = ("_budget", "_rng", "_runs", "_settings", "active", "count")

    def __init__(
        self, settings: RetrySettings, budget: RetryBudget, runs: SharedRunRetries, rng: random.Random
    ) -> None:
        self._settings = settings
        self._budget = budget
        self._runs = runs
        self._rng = rng
        self.active = 0
        """Under way now."""
        self.count = 0
        """Made since the beginning, those of SDKs included where they could be seen."""

    def judge(self, result: CallResult, options: CallOptions, whose: Ambient, *, tries: int, now: float) -> Again:
        """Whether and when a try that ended with ``result`` may be repeated; takes from the budgets on a yes.
        ``tries``: how many there were, this one included."""
        settings = self._settings
        kind = worth_repeating(result, options)
        if kind is None or tries >= settings.attempts:
            return NO
        hint_s = result.retry_after_s or 0.0
        wait_s = max(hint_s, wait_before(result, settings, tries=tries, jitter=self._rng.random()))
        if whose.deadline is not None and now + wait_s >= whose.deadline:
            return NO
        if hint_s > settings.max_delay or (whose.run_id and wait_s > settings.max_inline):
            return Again(None, kind, later_s=wait_s, told=wait_s == hint_s)
        if not self._budget.withdraw(kind, now=now):
            return Again(None, kind, out_of_budget=True)
        if not self._runs.withdraw(whose):
            self._budget.refund(kind)
            return Again(None, kind, out_of_budget=True)
        self.count += 1
        return Again(wait_s, kind)

    def enter(self, slot: Slot, now: float, *, busy: int) -> float | Denial:
        """Count the slot's retry as under way: 0; or seconds until to ask again; or, when it has waited for longer
        than a retry may wait in place, its refusal. ``busy``: calls that run or wait."""
        if self.active < max(1, math.floor(INFLIGHT_SHARE * busy)):
            self.active += 1
            slot.retrying = True
            return 0.0
        wait_s = self._settings.base * (0.5 + self._rng.random())
        if now + wait_s >= min(slot.wait_until, slot.asked_at + self._settings.max_inline):
            return Denial(Reason.RETRY_BUDGET, max(wait_s, self._settings.max_inline))
        return wait_s

    def leave(self, slot: Slot) -> None:
        """The slot is over, however that came."""
        if slot.retrying:
            slot.retrying = False
            self.active -= 1

    def refund(self, slot: Slot) -> None:
        """The slot's retry was never made."""
        if slot.paid is not None:
            self._budget.refund(slot.paid)
            self._runs.refund(slot.whose)

    def count_hidden(self, retries: int) -> None:
        """An SDK has retried behind our back: it is counted and paid for like ours."""
        self.count += retries
        self._budget.spend(retries * RetryKind.TRANSIENT.value)
