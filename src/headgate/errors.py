"""Every error that headgate raises on purpose.

They sit at the bottom of the house so that any layer may raise them; reasons are plain strings here because
the `Reason` vocabulary lives one layer up (its members are strings, so they compare equal).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


class HeadgateError(Exception):
    """The root of headgate's errors."""


class Overloaded(HeadgateError):
    """A call or a run was refused because capacity or a limit did not allow it now.

    An answer rather than a failure: it says whose limit it was, how full, until when, and what to do instead.

    Attributes:
        reason: a `headgate.Reason` value, e.g. ``"queue_full"``.
        scope: whose limit it was, e.g. ``"resource:github"`` or ``"tenant:acme"``.
        retry_after_s: seconds after which a retry makes sense; ``None`` when retrying will not help.
        limit, used: the bound and how much of it was taken, where they are numbers.
        advice: one sentence for a model or a person on what to do instead.
        rule: which of the configured ``limits`` it was, by its name or its place: ``limits[0]``; ``None`` if none.
        executed: whether an earlier try of the same call reached the dependency before this refusal of a further
            try; then nothing is said about whether it took effect.
    """

    def __init__(
        self,
        reason: str,
        *,
        scope: str,
        retry_after_s: float | None = None,
        limit: float | None = None,
        used: float | None = None,
        advice: str = "",
        executed: bool = False,
        rule: str | None = None,
    ) -> None:
        self.reason = str(reason)
        self.rule = rule
        self.executed = executed
        self.scope = scope
        self.retry_after_s = retry_after_s
        self.limit = limit
        self.used = used
        self.advice = advice
        super().__init__(self._words())

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.retry_after_s is not None

    def _words(self) -> str:
        fill = "" if self.limit is None or self.used is None else f" ({self.used:g}/{self.limit:g})"
        wait = "" if self.retry_after_s is None else f", retry after {self.retry_after_s:.1f} s"
        rule = "" if self.rule is None else f" by {self.rule}"
        return f"{self.scope}: {self.reason}{rule}{fill}{wait}"

    def as_tool_result(self) -> str:
        """JSON that a model can act on: not executed, why, when to try again, what to do instead."""
        body: dict[str, Any] = {
            "error": "overloaded",
            "executed": "unknown" if self.executed else False,
            "reason": self.reason,
            "scope": _clipped(self.scope, 60),
            "retry_after_s": None if self.retry_after_s is None else round(self.retry_after_s, 3),
            "advice": _clipped(self.advice, 240) or _default_advice(self),
        }
        if self.limit is not None:
            body["limit"] = self.limit
        if self.used is not None:
            body["used"] = self.used
        return json.dumps(body)


def _clipped(text: str, most: int) -> str:
    """The end of a text, which names the thing most exactly, so that it takes at most ``most`` characters of JSON:
    what a model reads of a refusal is short, whatever people call their functions and tenants."""
    if len(json.dumps(text)) <= most + 2:
        return text
    end = text[-most:]
    while len(json.dumps(end)) > most - 1:
        end = end[1:]
    return f"...{end}"


def _default_advice(refusal: Overloaded) -> str:
    begun = (
        "An earlier try failed and may have taken effect, and no further one was made"
        if refusal.executed
        else f"Not executed ({refusal.reason})"
    )
    if refusal.retry_after_s is None:
        return f"{begun}. Do not retry this call; continue without it or report that it could not be done."
    wait = f"{refusal.retry_after_s:.1f}".removesuffix(".0")
    return f"{begun}. Do something else first, or try again in {wait} s; do not repeat it sooner."


class UnknownTarget(HeadgateError):
    """Something is to be set by hand on what does not exist; the message names what is alike."""


class Rejected(Overloaded):
    """A run was refused at intake, before anything was stored."""


class Expired(HeadgateError):
    """Accepted or waiting work became too old to matter: its deadline or queue age passed."""


class LeaseLost(HeadgateError):
    """A fenced write changed no row: another owner holds the run now, so this attempt must stop."""

    def __init__(self, run_id: str, term: int) -> None:
        self.run_id = run_id
        self.term = term
        super().__init__(f"run {run_id}: the lease of term {term} is lost")


class BudgetExhausted(HeadgateError):
    """A run reached one of its own ceilings (calls, model tokens, money, running time)."""

    def __init__(self, dimension: str, *, limit: float, used: float) -> None:
        self.dimension = dimension
        self.limit = limit
        self.used = used
        super().__init__(f"the run's budget of {limit:g} {dimension} is used up ({used:g})")

    def as_tool_result(self) -> str:
        """JSON that a model can act on: not executed, why, what to do instead."""
        what = _clipped(self.dimension, 40)
        return json.dumps(
            {
                "error": "budget_exhausted",
                "executed": False,
                "dimension": what,
                "limit": self.limit,
                "used": self.used,
                "retry_after_s": None,
                "advice": f"Not executed: what this run may use of {what} is used up. Make no further calls; finish "
                "with what you have, or report what is missing.",
            }
        )


class LoopDetected(HeadgateError):
    """A call was not made, because the run made it again and again without getting anywhere.

    Attributes:
        why: ``failing``, ``repetition``, ``ping_pong``, ``cycle``, or ``recursion`` for a sub-run that stands above
            itself.
        count: how often so far; ``stop_at``: where the run is stopped, if it is.
    """

    def __init__(self, call: str, *, why: str, count: int, stop_at: int | None = None) -> None:
        self.call = call
        self.why = why
        self.count = count
        self.stop_at = stop_at
        end = "" if stop_at is None else f"; the run is stopped at {stop_at}"
        super().__init__(f"{call}: refused as a loop ({why}, {count} times{end})")

    def as_tool_result(self) -> str:
        """JSON that a model can act on: not executed, why, what to do instead."""
        return json.dumps(
            {
                "error": "loop_detected",
                "executed": False,
                "call": _clipped(self.call, 120),
                "why": self.why,
                "count": self.count,
                "stop_at": self.stop_at,
                "retry_after_s": None,
                "advice": "Do not make this call again with these arguments. Try another way, other arguments, or "
                "report what is missing.",
            }
        )


class UnusableResult(HeadgateError):
    """A call answered, but every answer failed the check that the caller gave."""

    def __init__(self, call: str, tries: int) -> None:
        self.call = call
        self.tries = tries
        super().__init__(f"{call}: {tries} answers, none of which passed the check")


class ApprovalDenied(HeadgateError):
    """A person said no, or nobody answered in time and the queue's rule is to deny."""

    def __init__(self, queue: str, *, reason: str) -> None:
        self.queue = queue
        self.reason = reason
        super().__init__(f"approval in {queue!r} was not given: {reason}")


class ChildFailed(HeadgateError):
    """A sub-run ended without success.

    Attributes:
        run_id: the sub-run. workflow: its workflow.
        state: ``failed``, ``cancelled`` or ``expired``.
        reason: a `headgate.Reason` value: why it ended.
        detail: words for people.
    """

    def __init__(self, workflow: str, run_id: str, *, state: str, reason: str, detail: str | None = None) -> None:
        self.workflow = workflow
        self.run_id = run_id
        self.state = str(state)
        self.reason = str(reason)
        self.detail = detail
        first = "" if not detail else f": {detail.splitlines()[0]}"
        super().__init__(f"the sub-run {run_id} ({workflow}) ended as {self.state}, {self.reason}{first}")


class UnknownOutcome(HeadgateError):
    """A ``once`` step was begun by an attempt that vanished: nobody knows whether it took effect.

    It is never repeated by itself; a person decides by replaying the run with ``assume``.
    """

    def __init__(self, step: str) -> None:
        self.step = step
        super().__init__(
            f"step {step} was begun and its outcome is unknown; it is not repeated. Find out whether it took "
            'effect, then replay the run with assume="done" or assume="not_done".'
        )


class StepNotSerializable(HeadgateError, TypeError):
    """A step's arguments or result cannot be written as JSON, so the step could not be remembered."""


class UnknownWorkflow(HeadgateError, LookupError):
    """No workflow of that name is configured or registered."""


class UnknownResource(HeadgateError, LookupError):
    """No tool, model, stage or approval of that name is configured."""


class InvalidRequest(HeadgateError, ValueError):
    """A request to intake is malformed; nothing was stored.

    ``problems`` lists every mistake as ``(field, message)``.
    """

    def __init__(self, problems: Sequence[tuple[str, str]], *, reason: str = "invalid_request") -> None:
        self.problems = tuple(problems)
        self.reason = reason
        super().__init__("; ".join(f"{field}: {message}" for field, message in problems))


class StoreError(HeadgateError):
    """The store cannot do what was asked: unreachable, full, damaged, or written by a newer headgate.

    Nothing was stored, unless the words say that writing itself failed: then the same request, repeated with its
    idempotency key, finds out.
    """

    reason = "store_unavailable"


class ConfigError(HeadgateError, ValueError):
    """A configuration has mistakes; all of them are listed, each as ``file:line:column: message``."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


class ApiError(HeadgateError):
    """The client got an HTTP error that is neither an overload answer nor a network failure."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = dict(problem)
        super().__init__(f"{status} {self.problem.get('title', '')}: {self.problem.get('detail', '')}".strip())
