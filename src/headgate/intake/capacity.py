"""The truth about capacity, as one plain JSON value: what ``GET /v1/capacity`` and the dashboard show."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from headgate.config.settings import ApprovalSettings, GateSettings, LimitAmounts, LimitRule, WorkflowSettings
from headgate.guard.resource import ResourceStatistics
from headgate.intake.outlook import Outlook
from headgate.model.control import FLEET, Control, ControlKind
from headgate.policy.holds import MEMORY, TOOL_CALLS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def capacity_report(
    settings: GateSettings,
    outlook: Outlook,
    resources: Mapping[str, ResourceStatistics],
    *,
    now_ms: int,
    draining: bool,
    worker: DataclassInstance | None,
    shadowed: Mapping[tuple[str, ...], float],
    registered: Collection[str] = (),
) -> dict[str, Any]:
    """Everything that bounds work, with its use. Times are milliseconds or seconds as the names end.

    ``registered`` are the workflows that exist in code, also without settings.
    ``shadowed`` is (scope, reason) → what limits in shadow mode would have refused in this process.
    """
    pressure = outlook.pressure
    return {
        "at_ms": now_ms,
        "state": "draining" if draining or outlook.in_force.drain is not None else "serving",
        "drain": _control(outlook, FLEET, ControlKind.PAUSE),
        "pressure": {
            "level": round(pressure.level, 3),
            "intake": round(pressure.intake, 3),
            "queue": round(pressure.queue, 3),
            "age": round(pressure.age, 3),
            "memory": round(pressure.memory, 3),
            "resources": round(pressure.resources, 3),
            "shedding": outlook.shedding,
            "shed_at": outlook.settings.shed_at,
            "base_shed_at": settings.shed_at,
            "override": _control(outlook, "fleet", ControlKind.OVERRIDE),
            "why": outlook.why(resources),
            "parts": [{"of": what, "level": level} for what, level in outlook.parts(resources)],
        },
        "cursor": {
            "share": round(outlook.shedder.cursor.share, 3),
            "overload": round(outlook.shedder.overload.value, 3),
            "why": outlook.shedder.overload.why,
            "order": outlook.shedder.order,
        },
        "runs": {**outlook.overview.states, "dead": outlook.overview.dead},
        "lanes": [_lane(name, settings, outlook) for name in settings.lanes],
        "workflows": [
            _workflow(name, settings, outlook)
            for name in (*settings.workflows, *sorted(set(registered) - set(settings.workflows)))
        ],
        "resources": [_resource(one, settings, outlook, now_ms) for one in resources.values()],
        "approvals": [_people(name, one, outlook, now_ms) for name, one in settings.approvals.items()],
        "tenants": _tenants(settings, outlook),
        "limits": [_limit(rule, place, outlook) for place, rule in enumerate(settings.limits)],
        "shadow": [
            {"scope": scope, "reason": reason, "would_refuse": round(count)}
            for (scope, reason), count in sorted(shadowed.items())
        ],
        "budget": _budget(settings, outlook),
        "forecasts": _forecasts(outlook),
        "worker": None if worker is None else asdict(worker),
    }


def _forecasts(outlook: Outlook) -> dict[str, Any]:
    """How true what callers were told turned out to be."""
    quality, honesty = outlook.forecaster.quality(), outlook.audits.honesty
    return {
        "judged": quality.judged,
        "median_error": _rounded(quality.median_error),
        "p90_kept": _rounded(quality.p90_kept),
        "retry_after_audited": round(honesty.audited),
        "retry_after_honest": _rounded(honesty.share),
        "slots": outlook.forecaster.slots,
    }


def _lane(name: str, settings: GateSettings, outlook: Outlook) -> dict[str, Any]:
    lane, now = settings.lanes[name], outlook.settings.lanes[name]
    queue = outlook.queue(lane=name)
    return {
        "name": name,
        "share": now.share,
        "base_share": lane.share,
        "max_wait_s": now.max_wait,
        "base_max_wait_s": lane.max_wait,
        "depth_limit": now.depth,
        "base_depth_limit": lane.depth,
        "override": _control(outlook, f"lane:{name}", ControlKind.OVERRIDE),
        "paused": _control(outlook, f"lane:{name}", ControlKind.PAUSE),
        "thinned_to": outlook.in_force.thinned.get(name),
        "lent_part": round(outlook.holdback.lent.get(name, 1.0), 3),
        "sheddable": lane.sheddable,
        "shedding": lane.sheddable and outlook.shedding,
        "admitted_part": outlook.admitted_part(name),
        "refuses_why": outlook.refuses_why(name),
        "drain_s": _rounded(outlook.drains_s().get(name)),
        "depth": queue.depth if queue else 0,
        "running": queue.running if queue else 0,
        "oldest_age_s": outlook.oldest_age_s().get(name, 0.0),
        "starts_per_s": _rounded(outlook.rate(lane=name)),
    }


def _settings_of(name: str, settings: GateSettings) -> WorkflowSettings:
    """The settings of a workflow; the defaults, as at intake, for one that has none."""
    known = settings.workflows.get(name)
    if known is not None:
        return known
    return WorkflowSettings(lane="standard" if "standard" in settings.lanes else tuple(settings.lanes)[-1])


def _workflow(name: str, settings: GateSettings, outlook: Outlook) -> dict[str, Any]:
    workflow = _settings_of(name, settings)
    queue = outlook.queue(workflow=name)
    return {
        "name": name,
        "lane": workflow.lane,
        "queue": {
            "depth": queue.depth if queue else 0,
            "limit": outlook.in_force.depth(name, workflow.queue.depth),
            "base_limit": workflow.queue.depth,
            "per_tenant": workflow.queue.per_tenant,
            "bytes": queue.bytes if queue else 0,
            "bytes_limit": workflow.queue.bytes,
            "max_age_s": _settings_of(name, outlook.settings).queue.max_age,
            "base_max_age_s": workflow.queue.max_age,
            "pressure": round(outlook.queues.own.get(name, 0.0), 3),
            "shedding": name in outlook.queues.shedding,
        },
        "running": queue.running if queue else 0,
        "starts_per_s": _rounded(outlook.rate(workflow=name)),
        "deadline_s": workflow.deadline,
        "cost": outlook.estimates.report(name),
        "paused": _control(outlook, f"workflow:{name}", ControlKind.PAUSE),
        "override": _control(outlook, f"workflow:{name}", ControlKind.OVERRIDE),
    }


def _tenants(settings: GateSettings, outlook: Outlook) -> list[dict[str, Any]]:
    """Those that are declared, or on which something is set by hand."""
    in_force, now = outlook.in_force, outlook.settings
    by_hand = {target[7:] for target in (*in_force.pauses, *in_force.overrides) if target.startswith("tenant:")}
    return [
        {
            "name": name,
            "weight": now.tenants[name].weight if name in now.tenants else 1.0,
            "base_weight": settings.tenants[name].weight if name in settings.tenants else 1.0,
            "paused": _control(outlook, f"tenant:{name}", ControlKind.PAUSE),
            "override": _control(outlook, f"tenant:{name}", ControlKind.OVERRIDE),
        }
        for name in sorted({*settings.tenants, *by_hand})
    ]


def _resource(one: ResourceStatistics, settings: GateSettings, outlook: Outlook, now_ms: int) -> dict[str, Any]:
    declared = {**settings.tools, **settings.models, **settings.stages}[one.name]
    paused = _control(outlook, f"resource:{one.name}", ControlKind.PAUSE)
    if paused is None and one.pause is not None:
        paused = {"reason": one.pause.reason, "by": "code"}
    return {
        "name": one.name,
        "kind": one.kind,
        "mode": declared.mode.value,
        "concurrency": {
            "limit": one.limit,
            "base_limit": one.base_limit,
            "least": one.least,
            "most": one.most,
            "inflight": one.inflight,
        },
        "base_rate": None
        if declared.rate is None
        else {"amount": declared.rate.amount, "window_s": declared.rate.window_s},
        "queue": {"depth": one.waiting, "limit": one.queue_limit, "oldest_age_s": one.oldest_wait_s},
        "p50_ms": _ms(one.p50_s),
        "p95_ms": _ms(one.p95_s),
        "p99_ms": _ms(one.p99_s),
        "error_rate": round(one.error_rate, 4),
        "breaker": one.breaker,
        "rate_remaining": _rounded(one.rate_remaining),
        "calls": one.calls,
        "retries": one.retries,
        "refused": dict(one.refused),
        "would_refuse": dict(one.would_refuse),
        "paused": paused,
        "cooldown": None
        if one.cooldown is None
        else {
            "why": one.cooldown.why,
            "left_s": round(one.cooldown.until - one.at_s, 1),
            "until_ms": now_ms + round(1000 * (one.cooldown.until - one.at_s)),
        },
        "retry_budget": round(one.retry_budget, 1),
        "model_tokens": [room._asdict() for room in one.token_rooms],
        "override": _control(outlook, f"resource:{one.name}", ControlKind.OVERRIDE),
        "pressure": round(one.pressure, 3),
    }


def _people(name: str, one: ApprovalSettings, outlook: Outlook, now_ms: int) -> dict[str, Any]:
    """A queue of people, as of the latest look at the store, about a second ago."""
    load = outlook.people.load(name)
    oldest_ms = None if load is None else load.oldest_ms
    return {
        "name": name,
        "queue": {
            "depth": 0 if load is None else sum(load.waiting.values()),
            "limit": one.depth,
            "oldest_age_s": 0.0 if oldest_ms is None else round(max(0, now_ms - oldest_ms) / 1000, 1),
            "max_age_s": one.max_age,
        },
        "on_expiry": one.on_expiry,
    }


def _control(outlook: Outlook, target: str, kind: ControlKind) -> dict[str, Any] | None:
    control = outlook.in_force.of(target, kind)
    return None if control is None else control_report(control)


def control_report(control: Control) -> dict[str, Any]:
    """What is set by hand, without its target; numbers that are not set are left out."""
    rate = None
    if control.rate_amount is not None:
        rate = {"amount": control.rate_amount, "window_s": control.rate_window_s}
    tokens = None
    if control.tokens_amount is not None:
        tokens = {"amount": control.tokens_amount, "window_s": control.tokens_window_s}
    numbers = {
        "limit": control.limit_to,
        "rate": rate,
        "depth": control.depth_to,
        "max_age_s": control.age_s,
        "share": control.share,
        "weight": control.weight,
        "shed_at": control.shed_at,
        "model_tokens": tokens,
    }
    return {
        "reason": control.reason,
        "by": control.set_by,
        "since_ms": control.set_ms,
        "until_ms": control.until_ms,
        **{name: value for name, value in numbers.items() if value is not None},
    }


def _limit(rule: LimitRule, place: int, outlook: Outlook) -> dict[str, Any]:
    amounts = rule.amounts
    return {
        "name": rule.name,
        "rule": rule.name or f"limits[{place}]",
        "per": rule.per if isinstance(rule.per, str) else list(rule.per),
        "workflow": rule.workflow,
        "tenant": rule.tenant,
        "mode": rule.mode.value,
        "override": None if rule.name is None else _control(outlook, f"limit:{rule.name}", ControlKind.OVERRIDE),
        **_amounts(amounts),
        **({} if rule.total is None else {"total": _amounts(rule.total)}),
    }


def _amounts(amounts: LimitAmounts) -> dict[str, Any]:
    rates = {unit: {"amount": rate.amount, "window_s": rate.window_s} for unit, rate in amounts.rates.items()}
    return rates if amounts.concurrent is None else {**rates, "concurrent": amounts.concurrent}


def _budget(settings: GateSettings, outlook: Outlook) -> dict[str, Any]:
    base, budget = settings.budget, outlook.settings.budget
    running = outlook.overview.states.get("running", 0)
    report: dict[str, Any] = {}
    if budget.runs is not None:
        report["runs"] = {"limit": budget.runs, "used": running}
    if budget.memory is not None:
        report["memory"] = {"limit": budget.memory, "used": outlook.resident_bytes()}
        report["memory"]["held"] = outlook.held.get(MEMORY, 0)
    if budget.tool_calls is not None:
        report["tool_calls"] = {"limit": budget.tool_calls, "held": outlook.held.get(TOOL_CALLS, 0)}
    for unit in ("model_tokens", "money"):
        rate = getattr(budget, unit)
        if rate is not None:
            report[unit] = {"limit": rate.amount, "window_s": rate.window_s}
    for unit, one in report.items():
        override = _control(outlook, f"budget:{unit}", ControlKind.OVERRIDE)
        if override is not None:
            declared = getattr(base, unit)
            one["base_limit"] = declared if isinstance(declared, int) else declared.amount
            one["override"] = override
    return report


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 1)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
