"""A run's own ceilings, held before a call and settled after it, over all its attempts."""

from __future__ import annotations

from dataclasses import dataclass

from headgate.errors import BudgetExhausted
from headgate.store.protocols import Claim


@dataclass(frozen=True, slots=True)
class Remaining:
    """What a run may still use; ``None`` is without a ceiling."""

    calls: int | None
    model_tokens: int | None


class BudgetMeter:
    """Counts calls and model tokens of one run."""

    __slots__ = ("_calls", "_held_tokens", "_tokens", "used_calls", "used_model_tokens")

    def __init__(self, claim: Claim) -> None:
        run = claim.run
        self._calls = run.budget_calls
        self._tokens = run.budget_model_tokens
        self._held_tokens = 0
        # The totals in the row are from attempts that ended in good order. One that vanished left its steps; steps
        # copied from the run that this one replays are older than the run and cost it nothing.
        self.used_calls = run.used_calls
        self.used_model_tokens = run.used_model_tokens
        if claim.steps:
            own = [step for step in claim.steps if step.started_ms >= run.submitted_ms]
            self.used_calls = max(run.used_calls, sum(step.tries for step in own))
            self.used_model_tokens = max(run.used_model_tokens, sum(step.model_tokens for step in own))

    @property
    def remaining(self) -> Remaining:
        """What is left now, calls in flight counted as used."""
        tokens = None if self._tokens is None else self._tokens - self.used_model_tokens - self._held_tokens
        return Remaining(
            None if self._calls is None else max(0, self._calls - self.used_calls),
            None if tokens is None else max(0, tokens),
        )

    def hold(self, model_tokens: int, *, model: bool) -> None:
        """Take one call and ``model_tokens`` (an estimate; 0 is unknown). ``model``: it is a call on a model.

        Raises:
            BudgetExhausted: that would exceed a ceiling, or a model is called and the model tokens are used up.
        """
        if self._calls is not None and self.used_calls + 1 > self._calls:
            raise BudgetExhausted("calls", limit=self._calls, used=self.used_calls)
        if self._tokens is not None:
            used = self.used_model_tokens + self._held_tokens
            if (model and used >= self._tokens) or used + model_tokens > self._tokens:
                raise BudgetExhausted("model tokens", limit=self._tokens, used=used)
        self.used_calls += 1
        self._held_tokens += model_tokens

    def settle(self, held_tokens: int, *, tries: int, model_tokens: int) -> None:
        """The call took so many tries and model tokens in fact."""
        self._held_tokens -= held_tokens
        self.used_calls += max(1, tries) - 1
        self.used_model_tokens += model_tokens

    def give_back(self, held_tokens: int) -> None:
        """The call never began."""
        self._held_tokens -= held_tokens
        self.used_calls -= 1
