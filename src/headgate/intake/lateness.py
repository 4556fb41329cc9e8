"""How much of the time that they have do those who come in lately need to wait: what presses on their workflow.

Queues may be far from full and resources far from their bounds, and yet the next run hardly fits before its deadline.
Then all runs of its workflow should be done more cheaply, not only those that do not fit otherwise.
"""

from __future__ import annotations

import math
from collections import deque

from headgate.policy import pressure

LOOKED_BACK_MS = 10_000
LEAST = 5
"""Runs of a lane in that time from which something is said; one run in a hurry is no overload."""
KEPT = 500
KINDS_AT_MOST = 1000


class Lateness:
    """Of one process: it sees what comes in here."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], deque[tuple[int, float]]] = {}
        self.levels: dict[str, float] = {}
        """Workflow → pressure, 0..1; those without any are left out."""
        self._at_ms = 0

    def note(self, workflow: str, lane: str, tightness: float, *, now_ms: int) -> None:
        """A run came, or was refused because it would come too late; ``tightness`` is 0..1."""
        kind = (workflow, lane)
        if kind not in self._seen:
            if len(self._seen) >= KINDS_AT_MOST:
                self._seen.clear()
            self._seen[kind] = deque(maxlen=KEPT)
        self._seen[kind].append((now_ms, tightness))

    def look(self, now_ms: int) -> None:
        """Follow what was noted; about once a second."""
        sample: dict[str, float] = {}
        for (workflow, _), seen in self._seen.items():
            while seen and seen[0][0] < now_ms - LOOKED_BACK_MS:
                seen.popleft()
            if len(seen) >= LEAST:
                mean = math.fsum(one for _, one in seen) / len(seen)
                sample[workflow] = max(sample.get(workflow, 0.0), mean)
        self._seen = {kind: seen for kind, seen in self._seen.items() if seen}
        self.levels = pressure.follow_each(self.levels, sample, elapsed_s=(now_ms - self._at_ms) / 1000)
        self._at_ms = now_ms
