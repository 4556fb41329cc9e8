"""One low-cardinality vocabulary for decisions, rows, metrics, logs, HTTP and the dashboard.

Three families, by the moment they can occur. A word keeps its meaning wherever it turns up.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why something was refused, ended, or changed."""

    # contended: room may appear by itself (HTTP 429)
    QUEUE_FULL = "queue_full"
    """A bounded queue is at its depth or byte bound."""
    RATE_LIMITED = "rate_limited"
    """A rate over a window is used up."""
    COOLDOWN = "cooldown"
    """The dependency itself asked for no calls until a moment (``Retry-After``, a used-up window)."""
    CONCURRENCY = "concurrency"
    """A bound on simultaneous work is reached and the caller would not wait."""
    OVER_BUDGET = "over_budget"
    """The fleet's budget (memory, model tokens, runs) has no room."""
    SHED = "shed"
    """Refused or ended because of overload rather than a rule: a sheddable lane under pressure."""
    WAIT_EXPIRED = "wait_expired"
    """It waited in a bounded queue for as long as that queue lets anything wait."""
    TOO_LATE = "too_late"
    """With the work ahead of it, it would start or finish too late if it were taken in now; later it may fit."""
    RETRY_BUDGET = "retry_budget"
    """A retry, or an agent's repair of an unusable answer, was due but the budget for it has no room."""

    # nothing there: waiting in line does not help yet (HTTP 503)
    BREAKER_OPEN = "breaker_open"
    """The circuit breaker holds calls back from a dependency that fails."""
    DRAINING = "draining"
    """This process is shutting down and takes nothing new."""
    PAUSED = "paused"
    """An operator or a rule paused it."""
    STORE_UNAVAILABLE = "store_unavailable"
    """The durable store cannot take a write now."""

    # terminal refusals: a retry of the same request cannot succeed (4xx, never 429)
    DEADLINE_UNREACHABLE = "deadline_unreachable"
    """It could not finish before its deadline, so it was not started."""
    NEVER_FITS = "never_fits"
    """It asks for more than the whole limit."""
    INVALID_REQUEST = "invalid_request"
    TOO_LARGE = "too_large"
    UNKNOWN_WORKFLOW = "unknown_workflow"
    UNKNOWN_RUN = "unknown_run"
    NOT_FOUND = "not_found"
    """No such path, or nothing of that id (approvals)."""
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    """The idempotency key is known with another body."""
    DUPLICATE = "duplicate"
    """The same content is already in flight and the workflow says ``duplicates: reject``."""
    NOT_REPLAYABLE = "not_replayable"
    """Only a dead letter can be replayed, and only once at a time."""
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"

    # how a call ended
    OK = "ok"
    ERROR = "error"
    """It raised, or the dependency answered with a failure."""
    TIMEOUT = "timeout"
    CALLER_ERROR = "caller_error"
    """The dependency says the request itself is wrong (400, 401, 403, 404, 413, 422)."""
    PROVIDER_OVERLOADED = "provider_overloaded"
    """429, 503, 529 or a refused connection: the dependency says it is full."""
    QUOTA_EXHAUSTED = "quota_exhausted"
    """The dependency says money or quota is used up; waiting does not help."""
    INTERRUPTED = "interrupted"
    """Stopped by us (drain, preemption, lost lease), which says nothing about the dependency."""

    # how a run ended, beyond the words above
    SUCCEEDED = "succeeded"
    CANCELLED = "cancelled"
    DEADLINE_PASSED = "deadline_passed"
    QUEUE_EXPIRED = "queue_expired"
    """It waited for a worker longer than its queue lets anything wait."""
    CRASH_LOOP = "crash_loop"
    """It took its worker down too often."""
    BUDGET_EXHAUSTED = "budget_exhausted"
    """It reached its own ceiling of calls, model tokens, ….."""
    UNKNOWN_OUTCOME = "unknown_outcome"
    """A ``once`` step may or may not have taken effect; a person must say."""
    UNDECODABLE = "undecodable"
    """Its row cannot be read back (damaged, or written by something else)."""
    APPROVAL_DENIED = "approval_denied"
    LOOP_DETECTED = "loop_detected"
    """It made the same calls over and over without getting anywhere."""
    CHILD_FAILED = "child_failed"
    """A sub-run whose result it needed did not succeed."""
    LEASE_EXPIRED = "lease_expired"
    """Its worker vanished; the run was put back in line."""
    PREEMPTED = "preempted"
    """It made room for a run of a higher lane; it was put back in line, and goes on from its last step."""

    # why a run is suspended
    RETRY_WAIT = "retry_wait"
    APPROVAL_WAIT = "approval_wait"
    CHILDREN_WAIT = "children_wait"
    """It waits for sub-runs to end, or for room to spawn one."""
    BUDGET_WAIT = "budget_wait"
    """It reached one of its own ceilings and waits until somebody raises it."""
    DELAYED = "delayed"
    """It was accepted while its queue was full, and goes in line later."""
    DEBOUNCED = "debounced"
    """It waits for more of the same content, of which the latest counts."""

    # why something was done more cheaply, beyond ``shed``
    CHEAPER_PATH = "cheaper_path"
    """The run was taken in on the cheaper path: its queue was filling, or it would have been late otherwise."""
    SLACK = "slack"
    """What the run still needed was too large a part of the time to its deadline."""
    FALLBACK = "fallback"
    """What was asked for refused or failed, and its fallback answered."""


CONTENDED = frozenset(
    {
        Reason.QUEUE_FULL,
        Reason.RATE_LIMITED,
        Reason.COOLDOWN,
        Reason.CONCURRENCY,
        Reason.OVER_BUDGET,
        Reason.SHED,
        Reason.WAIT_EXPIRED,
        Reason.TOO_LATE,
        Reason.RETRY_BUDGET,
    }
)
"""Refusals that mean *contended*: HTTP 429."""

NOTHING_THERE = frozenset({Reason.BREAKER_OPEN, Reason.DRAINING, Reason.PAUSED, Reason.STORE_UNAVAILABLE})
"""Refusals that mean *nothing there*: HTTP 503."""
