"""What an operator has set by hand: a pause, or other numbers than the declared ones. The declared ones stay.

Targets are written like the scopes of refusals: ``resource:github``, ``lane:background``, ``workflow:triage``,
``tenant:acme``, ``limit:reports``, ``limit:reports@acme``, ``budget:runs``, ``fleet``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

WINDOWS = {1.0: "s", 60.0: "min", 3600.0: "h", 86400.0: "d"}


FLEET = "fleet"
"""The target of what concerns all: paused, it takes in nothing new."""
ENDS_COOLDOWN = "cooldown ended"
"""The words of an override without numbers: processes that read it end the cooldown of its resource, once."""


class ControlKind(StrEnum):
    """A target has at most one control of each kind."""

    PAUSE = "pause"
    OVERRIDE = "override"


@dataclass(frozen=True, slots=True)
class Control:
    """One thing set by hand on one target. Moments are milliseconds since the epoch."""

    target: str
    kind: ControlKind
    reason: str
    """Why, in words for others."""
    set_by: str
    set_ms: int
    until_ms: int | None = None
    """Over by itself then; ``None``: until somebody ends it."""
    limit_to: int | None = None
    """Resources: calls in flight; limits: unfinished runs; budgets: how much there is (memory: bytes)."""
    rate_amount: float | None = None
    """Resources: calls; limits: what their first rate counts; budgets: model tokens or money; over a window of
    ``rate_window_s`` seconds."""
    rate_window_s: float | None = None
    depth_to: int | None = None
    """Workflows and lanes: runs that may wait."""
    age_s: float | None = None
    """Workflows and lanes: the longest that a run may wait for its start, in seconds."""
    share: float | None = None
    """Lanes: part of the worker slots, 0..1."""
    weight: float | None = None
    """Tenants: its share beside other tenants, > 0."""
    shed_at: float | None = None
    """The fleet: pressure from which sheddable lanes are refused, 0..1."""
    tokens_amount: float | None = None
    """Models and limits: model tokens, over a window of ``tokens_window_s`` seconds."""
    tokens_window_s: float | None = None
    stops_running: bool = False
    """Pauses of lanes, workflows and tenants: running runs stop at their next step and go back in line."""

    def holds(self, now_ms: int) -> bool:
        """Whether it is in force."""
        return self.until_ms is None or now_ms < self.until_ms

    @property
    def words(self) -> str:
        """What it sets, such as ``paused`` or ``limit 4, rate 100/min``."""
        if self.kind is ControlKind.PAUSE:
            if self.target == FLEET:
                return "drained, nothing new comes in"
            return "paused, running runs stop" if self.stops_running else "paused"
        parts = []
        if self.limit_to is not None:
            parts.append(f"limit {self.limit_to}")
        if self.rate_amount is not None and self.rate_window_s is not None:
            parts.append(f"rate {rate_words(self.rate_amount, self.rate_window_s)}")
        if self.tokens_amount is not None and self.tokens_window_s is not None:
            parts.append(f"model tokens {rate_words(self.tokens_amount, self.tokens_window_s)}")
        if self.depth_to is not None:
            parts.append(f"depth {self.depth_to}")
        if self.age_s is not None:
            parts.append(f"max age {self.age_s:g}s")
        if self.share is not None:
            parts.append(f"share {100 * self.share:g}%")
        if self.weight is not None:
            parts.append(f"weight {self.weight:g}")
        if self.shed_at is not None:
            parts.append(f"shed at {100 * self.shed_at:g}%")
        return ", ".join(parts) or ENDS_COOLDOWN


def rate_words(amount: float, window_s: float) -> str:
    """A rate as people write it, such as ``100/min``."""
    return f"{amount:.10g}/{WINDOWS.get(window_s, f'{window_s:g}s')}"


@dataclass(frozen=True, slots=True)
class ControlChange:
    """One line of the record of who set what by hand."""

    at_ms: int
    target: str
    kind: ControlKind
    changed_by: str
    reason: str
    was: str | None
    """As `Control.words`; ``None``: nothing was set."""
    became: str | None
    """``None``: ended."""
    until_ms: int | None
