"""Places of a workflow's queue that are kept for runs of higher lanes."""

from __future__ import annotations

from dataclasses import replace

from headgate.intake.limits import Rules
from headgate.policy.admission import places_left_to
from headgate.store.protocols import DepthBound

IN_USE_MS = 600_000
"""A lane in which no run of the workflow was asked for in this time keeps no places from the others."""


class Places:
    """Which lanes are in use for which workflow, as far as this process was asked. One per process."""

    def __init__(self) -> None:
        self._asked_ms: dict[tuple[str, str], int] = {}

    def bounds(self, workflow: str, rules: Rules, now_ms: int) -> tuple[DepthBound, ...]:
        """The bounds of a run that asks to come in now, less what is held back for lanes before its own."""
        self._asked_ms[workflow, rules.lane] = now_ms
        higher = sum(now_ms - self._asked_ms.get((workflow, lane), -IN_USE_MS) < IN_USE_MS for lane in rules.ahead_of)
        if not higher:
            return rules.bounds
        return tuple(_held_back(bound, higher) if _of_workflow(bound) else bound for bound in rules.bounds)


def _of_workflow(bound: DepthBound) -> bool:
    return bool(bound.workflow) and not bound.tenant


def _held_back(bound: DepthBound, higher: int) -> DepthBound:
    depth, degrade_from = (
        None if places is None else places_left_to(places, higher) for places in (bound.depth, bound.degrade_from)
    )
    return replace(bound, depth=depth, degrade_from=degrade_from)
