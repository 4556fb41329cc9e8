"""What a worker has learned about how much work runs take, to know which are nearly done. In memory only."""

from __future__ import annotations

from typing import NamedTuple

_WEIGHT = 0.1
WORKFLOWS_AT_MOST = 1000


class Expected(NamedTuple):
    """An ordinary successful run of a workflow."""

    calls: float
    ran_s: float


class Experience:
    """Means of successful runs by workflow, the latest counting most."""

    def __init__(self) -> None:
        self._known: dict[str, Expected] = {}

    def note(self, workflow: str, *, calls: int, ran_s: float) -> None:
        """A run succeeded and took so much over all its attempts."""
        known = self._known.get(workflow)
        if known is None:
            if len(self._known) < WORKFLOWS_AT_MOST:
                self._known[workflow] = Expected(calls, ran_s)
            return
        self._known[workflow] = Expected(
            known.calls + _WEIGHT * (calls - known.calls), known.ran_s + _WEIGHT * (ran_s - known.ran_s)
        )

    def outlook(self, workflow: str, *, calls: int, ran_s: float) -> tuple[float | None, float | None]:
        """Seconds of work that a run has left, and the part (0..1) of its calls that is done; ``None`` unknown."""
        known = self._known.get(workflow)
        if known is None or known.calls < 1:
            return None, None
        done = min(1.0, calls / known.calls)
        return max(0.0, min(known.ran_s - ran_s, known.ran_s * (1.0 - done))), done
