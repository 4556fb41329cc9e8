"""What a run holds of things that many share at once: memory, calls in flight, places.

Decides: whether a run's needs fit beside what is held now, and for whom capacity is kept.

Source: holds as in payment cards; the bounded skip-ahead of width-aware fair queueing (Kubernetes API Priority and
Fairness has none, and a wide request can starve there).

Rule: all needs of a run are held together or none. A run that does not fit lets others pass at most three times, or
for 30 s; then what it needs, all of it or nothing, is kept for it until it fits. A need larger than the whole is held
as the whole, so that the run starts alone.

Invariants: the sum of what is held of one thing never exceeds its limit. At most one run has a thing kept for it.
No two runs keep what the other lacks.
"""

from __future__ import annotations

from dataclasses import dataclass

PASSES = 3
PATIENCE_MS = 30_000
KEPT_MS = 30_000
"""A keeper that was not looked at for so long (its workflow is paused, nobody carries it out) keeps nothing."""


MEMORY, TOOL_CALLS = "budget/memory", "budget/tool_calls"
"""Keys of what running runs share in the whole fleet."""


@dataclass(frozen=True, slots=True)
class Need:
    """So much of the thing named ``key``, of which there is ``most``. Whole numbers, so that sums are exact."""

    key: str
    name: str
    """How refusals call it: ``fleet``, ``tenant:acme``."""
    unit: str
    """``memory`` (bytes), ``tool_calls`` or ``runs``."""
    amount: int
    most: int
    running: bool = False
    """Held while the run runs; otherwise from its admission to its end."""
    shadow: bool = False
    stated: bool = True
    """More than the whole is a reason to refuse for good. Not so for learned amounts."""
    declared: int | None = None
    """How much there is but for an override: what fits into that may come again once the override is over."""
    waits: bool = True
    """Asking again may help. Not where the one that would wait holds a place itself."""
    rule: str = ""
    """Which of the configured ``limits`` it is, for refusals."""

    @property
    def never(self) -> bool:
        """It can never be met."""
        return self.stated and self.amount > self.most


@dataclass(frozen=True, slots=True)
class Shared:
    """The state of one thing."""

    held: int = 0
    kept_for: int | None = None
    """The number of the run for which it is kept."""
    kept_ms: int = 0
    """When that run was last looked at."""


def fits(shared: Shared, amount: int, most: int, *, run: int | None = None, now_ms: int = 0) -> bool:
    """Whether ``amount`` more can be held, by the run of that number."""
    return free_to_keep(shared, run=run, now_ms=now_ms) and shared.held + min(amount, most) <= most


def free_to_keep(shared: Shared, *, run: int | None, now_ms: int) -> bool:
    """Whether it is kept for nobody but the run of that number."""
    return shared.kept_for in (None, run) or now_ms - shared.kept_ms >= KEPT_MS


def out_of_patience(*, passed: int, waited_ms: int) -> bool:
    """Whether a run that did not fit is passed by nobody any more."""
    return passed >= PASSES or waited_ms >= PATIENCE_MS
