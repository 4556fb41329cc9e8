"""How far ahead of its slots a worker claims, so that quick runs do not wait for the store between them."""

from __future__ import annotations

AHEAD_S = 0.02
"""Claimed ahead: about as many runs as the slots carry out in this time, if a run takes less than this."""
AHEAD_AT_MOST = 1000
STALE_S = 0.25
"""A run that was claimed ahead and could not be started for so long is given back."""
_WEIGHT = 0.1
_SETTLED = 16
"""The pace is looked at again after so many runs."""


class Pace:
    """Learns how long runs take."""

    __slots__ = ("_noted", "_typical_s", "ahead", "least", "slots")

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.ahead = 0
        """How many runs to claim beyond the slots."""
        self.least = 1
        """Room for so many runs makes a claim worth while: a quarter of everything, if runs are quick."""
        self._typical_s = AHEAD_S
        self._noted = 0

    def note(self, ran_s: float) -> None:
        """A run took so long."""
        self._typical_s += _WEIGHT * (ran_s - self._typical_s)
        self._noted += 1
        if self._noted >= _SETTLED or self._typical_s >= AHEAD_S:
            self._settle()

    def stalled(self) -> None:
        """Runs claimed ahead could not be started in time."""
        self._typical_s = max(self._typical_s, STALE_S)
        self._settle()

    def _settle(self) -> None:
        self._noted = 0
        if self._typical_s >= AHEAD_S:
            self.ahead, self.least = 0, 1
        else:
            self.ahead = min(AHEAD_AT_MOST, int(self.slots * AHEAD_S / max(self._typical_s, 1e-6)))
            self.least = max(1, (self.slots + self.ahead) // 4)
