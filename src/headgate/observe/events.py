"""Every event that headgate tells on its bus: what it means and which fields it carries.

A documented contract: names and fields change only with a line in the changelog. Fields are optional (a teller
leaves out what it does not know) but nothing outside the list is told. Moments are integer milliseconds,
durations end in ``_ms``. Inputs, results, arguments and secrets are never fields.
"""

from __future__ import annotations

from dataclasses import dataclass

_WHOSE = ("workflow", "tenant", "lane", "run_id")
_CALL = ("resource", "kind", *_WHOSE)
_FULLNESS = ("queue_depth", "queue_limit", "inflight", "limit", "p95_ms", "error_rate")


@dataclass(frozen=True, slots=True)
class EventSpec:
    """One kind of event."""

    name: str
    doc: str
    fields: tuple[str, ...]
    decision: bool = False
    """Whether it tells a decision (something refused, ended or changed), which the decision log writes down."""


def _spec(name: str, doc: str, *fields: str, decision: bool = False) -> EventSpec:
    return EventSpec(name, doc, fields, decision)


_ALL = (
    _spec("run_admitted", "A new run came in. `degraded`: on the cheaper path.", *_WHOSE, "degraded",
          "position", "eta_ms", "queue_depth", "queue_limit", decision=True),
    _spec("run_refused", "A run was refused at intake. `shadow`: only counted.", *_WHOSE, "reason", "scope", "limit",
          "used", "queue_depth", "queue_limit", "retry_after_ms", "shadow", decision=True),
    _spec("run_degraded", "A run was put on a cheaper path. `what`: the knob, model or part.", *_WHOSE, "reason",
          "what", "old", "new", "pressure", decision=True),
    _spec("run_claimed", "A worker took a run up. `queued_ms`: since it became available.", *_WHOSE, "owner", "term",
          "queued_ms", "attempt"),
    _spec("run_finished", "A run ended. `outcome`: its terminal state. `ran_ms`: from first claim to the end.",
          *_WHOSE, "outcome", "reason", "queued_ms", "ran_ms", "attempts", "calls", "model_tokens", "degraded",
          decision=True),
    _spec("run_suspended", "A run waits for a moment or a person and holds nothing.", *_WHOSE, "reason", "wake_ms",
          "ran_ms", decision=True),
    _spec("budget_raised", "Somebody raised the ceilings of a run.", *_WHOSE, "calls", "model_tokens", "money",
          "wall_ms", decision=True),
    _spec("loop_warned", "A run repeats itself. `outcome`: warned, refused or stopped. `count`: how often so far.",
          *_WHOSE, "resource", "outcome", "reason", "count", decision=True),
    _spec("context_window", "A model call's prompt took 80 % or more of its context window.", *_WHOSE, "resource",
          "used", "limit", decision=True),
    _spec("run_spawned", "A run spawned a sub-run, `child_id`. `depth`: generations below a run that was submitted.",
          *_WHOSE, "child_id", "child_workflow", "depth"),
    _spec("run_released", "A worker put a run back in line unharmed.", *_WHOSE, "reason", "term", decision=True),
    _spec("run_preempted", "A run is asked to stop at its next step, to make room for one of `for_lane` that has "
          "waited `waited_ms`. `count`: how many times this would be.",
          *_WHOSE, "reason", "for_lane", "waited_ms", "count", decision=True),
    _spec("run_rescued", "A run was taken back from a worker that vanished. `outcome`: the state it is in now.",
          *_WHOSE, "outcome", "reason", "crashes", decision=True),
    _spec("run_woken", "A suspended run went back in line.", *_WHOSE, "reason"),
    _spec("run_expired", "A waiting run became too old to matter.", *_WHOSE, "reason", "queued_ms", decision=True),
    _spec("lease_lost", "An attempt found that another owner holds its run, and stopped.", *_WHOSE, "owner", "term",
          decision=True),
    _spec("step_remembered", "A step's result was written to the journal.", *_CALL, "effect"),
    _spec("step_replayed", "A step was answered from the journal; its call was not repeated.", *_CALL, "effect"),
    _spec("call_started", "A call got its slot.", *_CALL, "queued_ms", "inflight", "limit"),
    _spec("call_finished", "A call gave its slot back. `outcome`: a `model.outcome.Outcome`. `ran_ms`: slot held.",
          *_CALL, "outcome", "reason", "status", "queued_ms", "ran_ms", "model_tokens", *_FULLNESS),
    _spec("call_refused", "A call, or its repair, was refused before it began. `shadow`: only counted.", *_CALL,
          "reason", "scope", "used", *_FULLNESS, "retry_after_ms", "shadow", decision=True),
    _spec("call_retried", "A failed call will be tried again after `retry_after_ms`, outside its slot.", *_CALL,
          "outcome", "reason", "attempt", "retry_after_ms"),
    _spec("call_fell_back", "A call went to another resource. `old`, `new`: resource names.", *_CALL, "reason", "old",
          "new", decision=True),
    _spec("limit_changed", "An adaptive limit moved, on the evidence of `inputs` (name:value, …).", "resource",
          "kind", "old", "new", "reason", "inputs", *_FULLNESS, decision=True),
    _spec("breaker_changed", "A circuit breaker moved: `closed`, `open`, `probing`.", "resource", "kind", "old",
          "new", "reason", "error_rate", "retry_after_ms", decision=True),
    _spec("lane_shed", "Sheddable lanes began (`new`: true) or stopped being refused under pressure.", "lane",
          "old", "new", "reason", "pressure", decision=True),
    _spec("control_changed", "Something was set by hand or by a pause rule, or ended, in this process. `by`: who.",
          "target", "old", "new", "by", "reason", "until_ms", decision=True),
    _spec("pressure_changed", "The fleet's pressure (0..1) moved by a twentieth or more.", "old", "new", "reason"),
    _spec("approval_asked", "A question was put to people. `approval_id` names it.", *_WHOSE, "queue", "approval_id",
          "queue_depth", "queue_limit", decision=True),
    _spec("approval_displaced", "A question gave way to one of `for_lane` in a full queue, after `queued_ms`; its "
          "run asks again.", *_WHOSE, "queue", "approval_id", "for_lane", "queued_ms", "queue_limit", decision=True),
    _spec("approval_decided", "A question was answered or expired. `outcome`: approved, denied or expired.", *_WHOSE,
          "queue", "approval_id", "outcome", "reason", "queued_ms", decision=True),
    _spec("approval_escalated", "Nobody answered in time in `old`, and the question went on to the queue `new`.",
          *_WHOSE, "queue", "approval_id", "old", "new", decision=True),
    _spec("drain_began", "This process takes nothing new and lets running work reach its next step.", "inflight",
          "limit_ms", decision=True),
    _spec("drain_ended", "Draining is over. `released`: runs put back in line.", "released", "finished", "ran_ms",
          decision=True),
    _spec("store_failed", "The store could not do an operation. `detail`: the error in words, without data.",
          "operation", "reason", "detail", decision=True),
)  # fmt: skip

CATALOGUE: dict[str, EventSpec] = {spec.name: spec for spec in _ALL}
"""Every event by its name."""
