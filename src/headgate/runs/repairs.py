"""What agents may still repair: a budget per resource, as retries have one.

An agent whose call gave something unusable usually has the request repaired by a model, and calls again. When most
answers of a resource are unusable, that makes several calls of every one, and a crowded model of a bad tool. So each
call in a run that ends unusable takes one from the budget of its resource, and each that ends well puts a share back.
While nothing is left the agent hears a refusal instead, which says so; where it does not catch it, its run goes aside
and makes the very same call a moment later.

Source: the retry budgets of Finagle and Envoy, see `headgate.policy.retry_budget`.
"""

from __future__ import annotations

from collections.abc import Callable

from headgate.clock import Clock
from headgate.errors import Overloaded, UnusableResult
from headgate.guard.registry import Resources
from headgate.model.reason import Reason
from headgate.policy.retry_budget import RetryBudget, RetryKind

WAIT_S = 1.0
"""When to come back. Nothing says that a later answer is better, and how many come at once is bounded by the line of
the resource; so the wait does not grow."""
_ADVICE = (
    "Most of its answers are unusable now, and no further repair is affordable. Do not repair the request; make the "
    "same call later, or go on without it."
)


class Repairs:
    """The budgets of one worker. One object per resource that was called in a run."""

    __slots__ = ("_budgets", "_clock", "_resources")

    def __init__(self, resources: Resources, clock: Clock) -> None:
        self._resources, self._clock = resources, clock
        self._budgets: dict[str, RetryBudget] = {}

    def answered(self, resource: str) -> None:
        """A call on it ended well."""
        self._budget(resource).deposit()

    def ended_unusable(self, resource: str, unusable: UnusableResult, tell: Callable[..., None]) -> None:
        """A call on it ended in ``unusable``. Comes back if a repair is affordable, which is paid for then; ``tell``
        emits an event about the run.

        Raises:
            Overloaded: it is not, and whoever made the call is to hear that instead.
        """
        if self._budget(resource).withdraw(RetryKind.TRANSIENT, now=self._clock.monotonic()):
            return
        guarded, reason = self._resources.get(resource), Reason.RETRY_BUDGET
        wait_ms = round(1000 * WAIT_S)
        why = {"scope": guarded.scope, "reason": reason.value, "retry_after_ms": wait_ms}
        tell("call_refused", resource=resource, kind=guarded.kind, **why)
        raise Overloaded(
            reason, scope=guarded.scope, retry_after_s=WAIT_S, executed=True, advice=_ADVICE
        ) from unusable

    def _budget(self, resource: str) -> RetryBudget:
        known = self._budgets.get(resource)
        if known is None:
            share = self._resources.get(resource).settings.retry.budget
            known = self._budgets[resource] = RetryBudget(share=share, now=self._clock.monotonic())
        return known
