"""How fast replays come in, where somebody asked for a rate."""

from __future__ import annotations

from dataclasses import dataclass

from headgate.policy.token_bucket import RateTake

SCOPE = "replays"
"""How a refusal for this rate names it."""


@dataclass(frozen=True, slots=True)
class Pace:
    """At most ``amount`` replays in ``window_s`` seconds, evenly, of all who replay for ``who``."""

    amount: float
    window_s: float
    who: str

    @property
    def take(self) -> RateTake:
        """One replay, taken with its admission and so only if that is granted."""
        return RateTake(f"replays/{self.who}", SCOPE, self.amount, 1000 * self.window_s, burst=1.0, unit="runs")
