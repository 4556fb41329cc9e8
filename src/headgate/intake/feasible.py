"""What feasibility is judged from, and what is refused before the store is asked: what no fleet finishes in time.

A profile can be wrong for good if nothing of its kind comes in any more. So what would never fit is let in once in a
while to try, and teaches; the others are refused.
"""

from __future__ import annotations

from dataclasses import replace

from headgate.config.settings import GateSettings
from headgate.intake.limits import Rules
from headgate.intake.outlook import Outlook
from headgate.model.decision import Refusal
from headgate.model.reason import Reason
from headgate.policy.feasibility import FIRST_LANE_TOLERANCE, Fit, Wish, judge_idle

TRY_EVERY_MS = 60_000
WORKFLOWS_AT_MOST = 1000
PROMISES_PER_S = 32
"""Promises that are kept to be compared, at most. More would teach nothing new."""


class Feasibility:
    """Of one process."""

    def __init__(self, settings: GateSettings, outlook: Outlook) -> None:
        self._first_lane = next(iter(settings.lanes), "")
        self._outlook = outlook
        self._tried_ms: dict[str, int] = {}
        self._second = 0
        self._promised = 0

    def wish(self, rules: Rules, workflow: str, *, now_ms: int, deadline_ms: int | None) -> Wish | None:
        """What is known of such a run; ``None`` while that is nothing."""
        forecaster = self._outlook.forecaster
        plain = forecaster.prospect(workflow, rules.lane)
        if plain is None:
            return None
        may_degrade = bool(rules.workflow.degrade)
        return Wish(
            plain=plain,
            cheaper=forecaster.prospect(workflow, rules.lane, degraded=True) if may_degrade else None,
            may_degrade=may_degrade,
            left_s=None if deadline_ms is None else (deadline_ms - now_ms) / 1000,
            queue_s=rules.queue_ms / 1000,
            tolerance=FIRST_LANE_TOLERANCE if rules.lane == self._first_lane else 1.0,
            # without a worker there is no rate: the queue's bounds decide
            refuse=forecaster.slots > 0 and rules.workflow.when_late == "reject",
        )

    def never(self, wish: Wish, workflow: str, *, now_ms: int) -> Wish | Refusal:
        """The refusal of a run that would be late on an idle fleet; else the wish, as it may come in or be tried."""
        if wish.left_s is None or not wish.refuse:
            return wish
        judged = judge_idle(wish)
        if judged.fit is not Fit.NEVER:
            return wish
        if now_ms - self._tried_ms.get(workflow, -TRY_EVERY_MS) >= TRY_EVERY_MS:
            if len(self._tried_ms) >= WORKFLOWS_AT_MOST:
                self._tried_ms.clear()
            self._tried_ms[workflow] = now_ms
            return replace(wish, refuse=False)
        takes_s = judged.forecast.finish_p50_s
        return Refusal(
            Reason.DEADLINE_UNREACHABLE,
            "deadline",
            f"such runs take about {takes_s:.1f} s with nothing else to do, and it has {wish.left_s:.1f} s",
            limit=round(wish.left_s, 3),
            used=round(takes_s, 3),
            unit="seconds",
        )

    def remember(self, now_ms: int) -> bool:
        """Whether what this caller is told is kept to be compared."""
        second = now_ms // 1000
        if second != self._second:
            self._second, self._promised = second, 0
        self._promised += 1
        return self._promised <= PROMISES_PER_S
