"""How far ahead of its slots a worker claims, so that quick runs do not wait for the store between them."""

from __future__ import annotations

AHEAD_S = 0.02
"""Claimed ahead: about as many runs as the slots carry out in this time."""
AHEAD_AT_MOST = 1000
STALE_S = 0.25
"""A run that was claimed ahead and could not be started for so long is given back."""
_WEIGHT = 0.1


class Pace:
    """Learns how long runs take."""

    __slots__ = ("_typical_s", "slots")

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._typical_s = AHEAD_S

    def note(self, ran_s: float) -> None:
        """A run took so long."""
        self._typical_s += _WEIGHT * (ran_s - self._typical_s)

    def stalled(self) -> None:
        """Runs claimed ahead could not be started in time."""
        self._typical_s = max(self._typical_s, STALE_S)

    @property
    def ahead(self) -> int:
        """How many runs to claim beyond the free slots; 0 unless a run takes less than ``AHEAD_S``."""
        if self._typical_s >= AHEAD_S:
            return 0
        return min(AHEAD_AT_MOST, int(self.slots * AHEAD_S / max(self._typical_s, 1e-6)))

    @property
    def least(self) -> int:
        """Room for so many runs makes a claim worth while: a quarter of everything, if runs are quick."""
        return max(1, (self.slots + self.ahead) // 4) if self.ahead else 1
