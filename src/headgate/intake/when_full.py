"""What a submission brings along for the case that its queue is full, and what makes it the same as another one.

The store decides, in the transaction that would store the run; here is what it may do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from headgate.config.settings import DuplicateSettings, GateSettings, LaneSettings, WhenFull, WorkflowSettings
from headgate.intake.outlook import Outlook
from headgate.model.canonical import digest
from headgate.model.decision import Admission
from headgate.model.duplicates import Duplicates
from headgate.model.reason import Reason
from headgate.model.run import RunRecord, RunState
from headgate.observe.bus import EventBus
from headgate.store.protocols import Debounce, Delay, RunOffer


class WaysIn:
    """Adds to offers how else they may come in. Workflows without any of it cost nothing here."""

    def __init__(self, settings: GateSettings, outlook: Outlook) -> None:
        self._outlook = outlook
        self._sheds = {lane: lower_lanes(settings.lanes, lane) for lane in settings.lanes}
        # Only where somebody sheds is it worth keeping the waiting runs that may be lost in an index of their own.
        wanted = any(one.when_full is WhenFull.SHED_LOWER for one in settings.workflows.values())
        self._sheddable = frozenset(name for name, lane in settings.lanes.items() if wanted and lane.sheddable)

    def open(self, offer: RunOffer, workflow: WorkflowSettings) -> RunOffer:
        """The offer with the ways that its workflow's settings allow."""
        changes: dict[str, Any] = {}
        if offer.lane in self._sheddable:
            changes["sheddable"] = True
        if workflow.when_full is WhenFull.DELAY:
            changes["delay"] = self._delay(offer.workflow, workflow)
        elif workflow.when_full is WhenFull.SHED_LOWER:
            changes["sheds"] = self._sheds[offer.lane]
        duplicates = workflow.duplicates
        if duplicates.mode is not Duplicates.ALLOW and offer.replay_of is None and offer.spawn is None:
            changes |= _sameness(offer, duplicates)
        return replace(offer, **changes) if changes else offer

    def _delay(self, name: str, workflow: WorkflowSettings) -> Delay:
        rate = self._outlook.rate(workflow=name)
        every_ms = 1000 / rate if rate else None
        return Delay(workflow.delay.depth, every_ms, round(1000 * workflow.delay.at_most))


def held_back_ms(run: RunRecord, now_ms: int) -> int | None:
    """Milliseconds until a run that is held back goes in line at the latest; ``None`` for any other run. Its place in
    line is that of its submission, so it starts soon after."""
    held = run.state is RunState.SUSPENDED and run.reason in (Reason.DELAYED, Reason.DEBOUNCED)
    return max(0, run.available_ms - now_ms) if held else None


def tell(bus: EventBus, answer: Admission) -> None:
    """What came of an admission beside the run itself: it is held back, and others made room for it."""
    run = answer.run
    if not bus.active:
        return
    if run.state is RunState.SUSPENDED and run.term == 0 and (answer.created or run.reason == Reason.DEBOUNCED):
        bus.emit(
            "run_suspended",
            workflow=run.workflow,
            tenant=run.tenant,
            lane=run.lane,
            run_id=run.id,
            reason=run.reason,
            wake_ms=run.available_ms,
        )
    for lost in answer.made_room:
        bus.emit(
            "run_expired",
            workflow=lost.workflow,
            tenant=lost.tenant,
            lane=lost.lane,
            run_id=lost.run_id,
            reason=Reason.SHED.value,
        )


def lower_lanes(lanes: Mapping[str, LaneSettings], lane: str) -> tuple[str, ...]:
    """The sheddable lanes below ``lane``, the lowest first."""
    names = list(lanes)
    return tuple(name for name in reversed(names[names.index(lane) + 1 :]) if lanes[name].sheddable)


def _sameness(offer: RunOffer, settings: DuplicateSettings) -> dict[str, Any]:
    key = content_key(offer, settings.by)
    if key is None:
        return {}
    changes: dict[str, Any] = {"content_key": key, "duplicates": settings.mode}
    if settings.debounce is not None:
        changes["debounce"] = Debounce(round(1000 * settings.debounce), round(1000 * settings.longest))
    return changes


def content_key(offer: RunOffer, by: Sequence[str]) -> str | None:
    """What two submissions have in common that are the same: workflow, tenant, and the whole input or the fields
    ``by``. ``None`` if one of the fields is missing or null: such a submission is like no other."""
    if not by:
        return digest(offer.workflow, offer.tenant, offer.input)
    value = json.loads(offer.input) if any(path != "user" for path in by) else None
    parts = []
    for path in by:
        found = offer.user if path == "user" else _inside(value, path.split(".")[1:])
        if found is None:
            return None
        parts.append(json.dumps([path, found], sort_keys=True, separators=(",", ":")))
    return digest(offer.workflow, offer.tenant, "by", *parts)


def _inside(value: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isascii() and step.isdigit() and len(step) < 7:
            value = value[int(step)] if int(step) < len(value) else None
        else:
            return None
    return value
