"""When refused callers are told to come back, and the question that is asked in their place at that moment.

The question is about the same request: who had a minute for its run when it was refused has less when it comes back.
Where nothing is left by then it is asked as if the caller took the same time anew, and only a yes counts.
"""

from __future__ import annotations

from dataclasses import replace

from headgate.intake.audits import Probe
from headgate.intake.feasible import Feasibility
from headgate.intake.limits import Rules
from headgate.intake.outlook import Outlook
from headgate.intake.people import SCOPE as OF_PEOPLE
from headgate.intake.submission import Submission
from headgate.model.decision import Refusal
from headgate.model.reason import Reason
from headgate.policy.eta import Ahead
from headgate.policy.feasibility import WAITING_TAKES, Fit, Wish, judge

LATER_PER_SECOND_OVER = 1 / (1 - WAITING_TAKES)
"""Seconds after which one second less is over: the line drains by a second in a second at best, while the caller's
own time runs off and with it the part of it that the forecast may take."""

WORTH_COMING_BACK = 0.25
"""Part of its time that may be gone when a run comes back. Who would have less left is not told a moment at which it
would be refused again, but one after its time: then only a request with a new deadline can come in."""

MOSTLY_REFUSED = 0.5
"""Part of what a tenant asks for in a lane from which who comes back is taken to be refused."""


class ComingBack:
    """Of one process."""

    def __init__(self, outlook: Outlook, feasibility: Feasibility) -> None:
        self._outlook, self._feasibility = outlook, feasibility

    def told(self, refusal: Refusal, wanted: Submission, rules: Rules, wish: Wish | None) -> Refusal:
        """The refusal of a run for want of room, or because it would be late or is shed, with the time to wait."""
        if refusal.reason is Reason.SHED and refusal.scope.startswith(OF_PEOPLE):
            return refusal  # told by the pace of people; how fast runs start says nothing about it
        outlook = self._outlook
        rate = outlook.rate(workflow=wanted.workflow)
        if refusal.reason is Reason.TOO_LATE:
            probe = self._probe(wanted, rules, wish, ahead=refusal.ahead)
            over_ms = float(refusal.retry_after_ms or 0)
            if wish is not None and wish.left_s is not None:
                over_ms *= LATER_PER_SECOND_OVER
            told = outlook.come_back_ms(f"late:{rules.lane}", rate, over_ms=over_ms, probe=probe)
            if wish is not None and wish.left_s is not None and told > WORTH_COMING_BACK * 1000 * wish.left_s:
                told = max(told, round(1000 * wish.left_s))
        elif refusal.reason is Reason.SHED:
            if refusal.scope == f"lane:{rules.lane}":
                rate = outlook.rate(lane=rules.lane)
            elif refusal.scope == f"tenant:{wanted.tenant}":
                rate = outlook.excess.rate(wanted.tenant)
            probe = self._probe(wanted, rules, wish)
            told = outlook.come_back_ms(f"shed:{refusal.scope}", rate, probe=probe)
        else:
            room = refusal.limit if refusal.unit == "runs" else None
            probe = None  # other scopes than the workflow's queue are not in the picture of the queues
            if room is not None and refusal.scope == f"workflow:{wanted.workflow}":
                probe = self._probe(wanted, rules, wish, room=room)
            told = outlook.come_back_ms(refusal.scope, rate, room=room, probe=probe)
        return replace(refusal, retry_after_ms=told)

    def _probe(
        self,
        wanted: Submission,
        rules: Rules,
        wish: Wish | None,
        *,
        ahead: int | None = None,
        room: float | None = None,
    ) -> Probe:
        """Whether the same request would be taken in. ``ahead``: runs of its lane before it; ``None`` is all."""
        outlook, lane = self._outlook, rules.lane
        depth = outlook.waiting((lane,))
        part = 1.0 if ahead is None else min(1.0, ahead / max(1, depth, ahead))
        left_ms = None if wish is None or wish.left_s is None else round(1000 * wish.left_s)
        until_ms = None if left_ms is None else outlook.now_ms() + left_ms

        def would_fit(now_ms: int) -> bool | None:
            over = until_ms is not None and until_ms <= now_ms
            deadline_ms = now_ms + left_ms if over and left_ms is not None else until_ms
            again = self._feasibility.wish(rules, wanted.workflow, now_ms=now_ms, deadline_ms=deadline_ms)
            before = Ahead(
                round(part * outlook.waiting((lane,))),
                outlook.waiting(rules.ahead_of),
                outlook.running_beside(lane),
                outlook.running_in((*rules.ahead_of, lane)),
            )
            queue = outlook.queue(workflow=wanted.workflow)
            fits = again is None or judge(again, before).fit is not Fit.LATE
            fits = fits and (room is None or queue is None or queue.depth < room)
            fits = fits and outlook.excess.part(wanted.tenant, lane) <= MOSTLY_REFUSED
            fits = fits and outlook.shed_why(lane, wanted.tenant, workflow=wanted.workflow) is None
            return True if fits else None if over else False

        return would_fit
