"""What an operator has set by hand: a pause, or other numbers than the declared ones. The declared ones stay.

Targets are written like the scopes of refusals: ``resource:github``, ``lane:background``, ``workflow:triage``,
``limit:reports``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

WINDOWS = {1.0: "s", 60.0: "min", 3600.0: "h", 86400.0: "d"}


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
    """Resources: calls in flight."""
    rate_amount: float | None = None
    """Resources: calls, limits: runs, over a window of ``rate_window_s`` seconds."""
    rate_window_s: float | None = None
    depth_to: int | None = None
    """Workflows: runs that may wait."""

    def holds(self, now_ms: int) -> bool:
        """Whether it is in force."""
        return self.until_ms is None or now_ms < self.until_ms

    @property
    def words(self) -> str:
        """What it sets, such as ``paused`` or ``limit 4, rate 100/min``."""
        if self.kind is ControlKind.PAUSE:
            return "paused"
        parts = []
        if self.limit_to is not None:
            parts.append(f"limit {self.limit_to}")
        if self.rate_amount is not None and self.rate_window_s is not None:
            window = WINDOWS.get(self.rate_window_s, f"{self.rate_window_s:g}s")
            parts.append(f"rate {self.rate_amount:g}/{window}")
        if self.depth_to is not None:
            parts.append(f"depth {self.depth_to}")
        return ", ".join(parts) or ENDS_COOLDOWN


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
