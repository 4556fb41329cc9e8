"""The settings as they are in force: what is declared, with what operators have set by hand in its place.

Only numbers that stand for themselves are found here. Named limits keep their buckets under an override, and
resources their limiters, so those are looked up where they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.config.settings import (
    FleetBudget,
    GateSettings,
    LaneSettings,
    ModelSettings,
    TenantSettings,
    WorkflowSettings,
)
from headgate.config.units import Rate
from headgate.model.control import Control

PLACES = ("runs", "waiting", "tool_calls", "memory")
"""Budgets that are a number."""
FLOWS = ("model_tokens", "money")
"""Budgets that are a rate."""


def effective(settings: GateSettings, overrides: Mapping[str, Control]) -> GateSettings:
    """``settings`` with these overrides, by target. What has no target among them is the very same object."""
    by_kind: dict[str, dict[str, Control]] = {}
    for target, control in overrides.items():
        what, _, name = target.partition(":")
        by_kind.setdefault(what, {})[name] = control
    changes: dict[str, Any] = {}
    for what, field, change in (
        ("lane", "lanes", _lane),
        ("workflow", "workflows", _workflow),
        ("resource", "models", _model),
    ):
        declared = getattr(settings, field)
        changed = {
            name: change(declared[name], one) for name, one in by_kind.get(what, {}).items() if name in declared
        }
        if changed:
            changes[field] = {**declared, **changed}
    weights = {name: one.weight for name, one in by_kind.get("tenant", {}).items() if one.weight is not None}
    if weights:
        known = settings.tenants
        tenants = {
            name: known.get(name, TenantSettings()).model_copy(update={"weight": weight})
            for name, weight in weights.items()
        }
        changes["tenants"] = {**known, **tenants}
    if "budget" in by_kind:
        changes["budget"] = _budget(settings.budget, by_kind["budget"])
    fleet = by_kind.get("fleet", {}).get("")
    if fleet is not None and fleet.shed_at is not None:
        changes["shed_at"] = fleet.shed_at
    return settings.model_copy(update=changes) if changes else settings


def rate_of(control: Control | None) -> Rate | None:
    """The rate that it sets, if it sets one."""
    if control is None or control.rate_amount is None or control.rate_window_s is None:
        return None
    return Rate(control.rate_amount, control.rate_window_s)


def tokens_of(control: Control | None) -> Rate | None:
    """The model tokens that it sets, if it sets them."""
    if control is None or control.tokens_amount is None or control.tokens_window_s is None:
        return None
    return Rate(control.tokens_amount, control.tokens_window_s)


def _lane(lane: LaneSettings, control: Control) -> LaneSettings:
    return lane.model_copy(update=_given(share=control.share, depth=control.depth_to, max_wait=control.age_s))


def _workflow(workflow: WorkflowSettings, control: Control) -> WorkflowSettings:
    given = _given(depth=control.depth_to, max_age=control.age_s)
    return workflow.model_copy(update={"queue": workflow.queue.model_copy(update=given)}) if given else workflow


def _model(model: ModelSettings, control: Control) -> ModelSettings:
    return model.model_copy(update=_given(model_tokens=tokens_of(control)))


def _budget(budget: FleetBudget, controls: Mapping[str, Control]) -> FleetBudget:
    places = {name: one.limit_to for name, one in controls.items() if name in PLACES}
    flows = {name: rate_of(one) for name, one in controls.items() if name in FLOWS}
    return budget.model_copy(update=_given(**places, **flows))


def _given(**numbers: Any) -> dict[str, Any]:
    return {name: value for name, value in numbers.items() if value is not None}
