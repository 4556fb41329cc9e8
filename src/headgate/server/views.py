"""How runs, steps and approvals look on the wire. Moments are RFC 3339 in UTC, durations end in ``_ms`` or ``_s``."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from headgate.model.control import Control, ControlChange
from headgate.model.decision import Admission
from headgate.model.degradation import degradations_of
from headgate.model.run import DEAD, RunRecord, RunState
from headgate.model.step import Step
from headgate.store.protocols import Approval, DeadChange, HistoryLine

NO_SUB_RUNS: Mapping[str, int] = MappingProxyType({})


def moment(ms: int | None) -> str | None:
    """Milliseconds since the epoch as text such as ``2026-01-31T12:00:00.000Z``."""
    if ms is None:
        return None
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"
    except (ValueError, OverflowError, OSError):  # beyond the year 9999
        return None


def admission_view(answer: Admission) -> dict[str, Any]:
    """The answer to an accepted (or already known) run."""
    run = answer.run
    view: dict[str, Any] = {
        "id": run.id,
        "state": run.state.value,
        "reason": run.reason,
        "position": answer.position,
        **_times(answer),
        "available_at": moment(run.available_ms),
        "lane": run.lane,
        "deadline": moment(run.deadline_ms),
        "workflow": run.workflow,
        "tenant": run.tenant,
        "created": answer.created,
        "collapsed": answer.collapsed,
        "degraded": run.degraded,
        "paused": answer.paused,
    }
    if run.replay_of is not None:
        view["replay_of"] = run.replay_of
    return view


def standing_view(answer: Admission) -> dict[str, Any]:
    """What changes while a run lives: the short form that event streams repeat."""
    run = answer.run
    waits = run.state is RunState.QUEUED
    return {
        "id": run.id,
        "state": run.state.value,
        "reason": run.reason,
        "position": answer.position if waits else None,
        **_times(answer),
        "available_at": moment(run.available_ms),
        "degraded": run.degraded,
        "cancel_requested": run.cancel_requested,
    }


def summary_view(run: RunRecord) -> dict[str, Any]:
    """One line of a list: everything but input, result and steps."""
    return {
        "id": run.id,
        "workflow": run.workflow,
        "tenant": run.tenant,
        "user": run.user,
        "lane": run.lane,
        "state": run.state.value,
        "reason": run.reason,
        "detail": run.detail,
        "degraded": run.degraded,
        "cancel_requested": run.cancel_requested,
        "submitted_at": moment(run.submitted_ms),
        "available_at": moment(run.available_ms),
        "started_at": moment(run.started_ms),
        "finished_at": moment(run.finished_ms),
        "deadline": moment(run.deadline_ms),
        "queue_deadline": moment(run.queue_deadline_ms),
        "starts": run.term,
        "attempts": run.attempts,
        "crashes": run.crashes,
        "origin_id": run.origin_id,
        "replay_of": run.replay_of,
        "parent_id": run.parent_id,
        "depth": run.depth,
        "spawned": run.spawned,
        "resolved_by": run.resolved_by,
        "idempotency_key": run.idempotency_key,
        "usage": {"calls": run.used_calls, "model_tokens": run.used_model_tokens},
        "budget": {"calls": run.budget_calls, "model_tokens": run.budget_model_tokens},
    }


def run_view(
    answer: Admission,
    steps: Sequence[Step],
    *,
    models: Collection[str],
    now_ms: int,
    sub_runs: Mapping[str, int] = NO_SUB_RUNS,
    used_below: tuple[int, int] = (0, 0),
) -> dict[str, Any]:
    """Everything about one run. ``used_below``: calls and model tokens of its sub-runs."""
    run = answer.run
    degradations = [one.view() for one in degradations_of(run, steps)]
    waits = run.state is RunState.QUEUED
    here = f"/v1/runs/{run.id}"
    links = {"self": here, "events": f"{here}/events"}
    if run.parent_id is not None:
        links["parent"] = f"/v1/runs/{run.parent_id}"
    if run.spawned:
        links["sub_runs"] = f"/v1/runs?parent={run.id}"
    if not run.state.terminal:
        links["cancel"] = f"{here}/cancel"
    if run.state in DEAD:
        links["replay"] = f"{here}/replay"
    return {
        **summary_view(run),
        "degraded": run.degraded or bool(degradations),  # the row learns it when an attempt ends
        "degradations": degradations,
        "usage_with_sub_runs": {
            "calls": run.used_calls + used_below[0],
            "model_tokens": run.used_model_tokens + used_below[1],
        },
        "position": answer.position if waits else None,
        **_times(answer),
        "sub_runs": dict(sub_runs),
        "paused": answer.paused,
        "timings": _timings(run, steps, models, now_ms),
        "input": json_value(run.input),
        "result": None if run.result is None else json_value(run.result),
        "steps": [step_view(step) for step in steps],
        "links": links,
    }


def step_view(step: Step) -> dict[str, Any]:
    """One remembered call, without what it returned."""
    return {
        "seq": step.seq,
        "resource": step.resource,
        "function": step.function,
        "nth": step.nth,
        "effect": step.effect.value,
        "state": step.state.value,
        "queued_ms": step.queued_ms,
        "ran_ms": step.ran_ms,
        "tries": step.tries,
        "degraded": step.degraded,
        "model_tokens": step.model_tokens,
        "started_at": moment(step.started_ms),
        "finished_at": moment(step.finished_ms),
    }


def approval_view(approval: Approval) -> dict[str, Any]:
    """A question to a person."""
    return {
        "id": approval.id,
        "queue": approval.queue,
        "run_id": approval.run_id,
        "tenant": approval.tenant,
        "lane": approval.lane,
        "state": approval.state,
        "payload": json_value(approval.payload),
        "asked_at": moment(approval.asked_ms),
        "expires_at": moment(approval.expires_ms),
        "deadline_at": moment(approval.deadline_ms),
        "decided_by": approval.decided_by,
        "decided_at": moment(approval.decided_ms),
        "note": approval.note,
    }


def budget_view(run: RunRecord) -> dict[str, Any]:
    """How much of a run's ceilings is used."""
    return {
        "id": run.id,
        "state": run.state.value,
        "reason": run.reason,
        "budget": {
            "calls": run.budget_calls,
            "model_tokens": run.budget_model_tokens,
            "money": run.budget_money,
            "wall_ms": run.budget_wall_ms,
        },
        "usage": {
            "calls": run.used_calls,
            "model_tokens": run.used_model_tokens,
            "money": run.used_money,
            "wall_ms": run.used_wall_ms,
        },
    }


def control_view(control: Control) -> dict[str, Any]:
    """One thing that is set by hand, or held back by a rule."""
    rate = None
    if control.rate_amount is not None:
        rate = {"amount": control.rate_amount, "window_s": control.rate_window_s}
    tokens = None
    if control.tokens_amount is not None:
        tokens = {"amount": control.tokens_amount, "window_s": control.tokens_window_s}
    return {
        "target": control.target,
        "kind": control.kind.value,
        "sets": control.words,
        "limit": control.limit_to,
        "rate": rate,
        "depth": control.depth_to,
        "max_age_s": control.age_s,
        "share": control.share,
        "weight": control.weight,
        "shed_at": control.shed_at,
        "model_tokens": tokens,
        "reason": control.reason,
        "by": control.set_by,
        "since": moment(control.set_ms),
        "until": moment(control.until_ms),
    }


def control_change_view(change: ControlChange) -> dict[str, Any]:
    """One line of the record."""
    return {
        "at": moment(change.at_ms),
        "target": change.target,
        "kind": change.kind.value,
        "by": change.changed_by,
        "reason": change.reason,
        "before": change.was,
        "after": change.became,
        "until": moment(change.until_ms),
    }


def history_view(line: HistoryLine) -> dict[str, Any]:
    """What became of one attempt."""
    return {
        "at": moment(line.at_ms),
        "start": line.term,
        "owner": line.owner,
        "state": line.state,
        "reason": line.reason,
        "detail": line.detail,
    }


def dead_change_view(change: DeadChange) -> dict[str, Any]:
    """What somebody did with a dead letter."""
    return {
        "at": moment(change.at_ms),
        "action": change.action,
        "run_id": change.run_id,
        "workflow": change.workflow,
        "tenant": change.tenant,
        "cause": change.cause,
        "by": change.done_by,
        "why": change.why,
    }


def json_value(text: str) -> Any:
    """Stored JSON text as a value; a damaged row is shown as the text it holds rather than failing the page."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _ran_ms(run: RunRecord, now_ms: int) -> int | None:
    """Time in the hands of workers, without waiting in line, for people or for a retry. While it runs again, what
    attempts before this one took."""
    if run.started_ms is None:
        return None
    if run.state is RunState.RUNNING and run.term <= 1:
        return max(0, now_ms - run.started_ms)
    return run.used_wall_ms


def _timings(run: RunRecord, steps: Sequence[Step], models: Collection[str], now_ms: int) -> dict[str, int | None]:
    started = run.started_ms
    ended = run.finished_ms
    until = started if started is not None else ended if ended is not None else now_ms
    return {
        "queued_ms": max(0, until - run.submitted_ms),
        "ran_ms": _ran_ms(run, now_ms),
        "call_queued_ms": sum(step.queued_ms for step in steps),
        "model_ms": sum(step.ran_ms for step in steps if step.resource in models),
        "tool_ms": sum(step.ran_ms for step in steps if step.resource not in models),
    }


def _times(answer: Admission) -> dict[str, float | None]:
    """When it should start and finish, in seconds from now."""
    return {
        "eta_s": _seconds(answer.eta_ms),
        "eta_p90_s": _seconds(answer.eta_p90_ms),
        "finish_s": _seconds(answer.finish_ms),
        "finish_p90_s": _seconds(answer.finish_p90_ms),
    }


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000
