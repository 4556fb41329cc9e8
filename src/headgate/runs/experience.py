"""What a worker has learned about how much work runs take, to know which are nearly done. In memory only.

A call is refused when what its run has left does not fit before the deadline. That must not lock itself in, because
refused runs teach nothing: a workflow's work is known only after several successes, only while the last one is
recent, and then learned anew.
"""

from __future__ import annotations

import math
from typing import NamedTuple

_WEIGHT = 0.1
WORKFLOWS_AT_MOST = 1000
RUNS_LEAST = 8
"""Successes after which a workflow's work is taken as known."""
FRESH_S = 600.0
"""How long after the last success it still is."""
STRETCH_FRESH_S = 60.0
"""How long after the last end in a lane its stretch is believed: runs that are not started teach nothing."""
STRETCH_AT_MOST = 4.0


class Expected(NamedTuple):
    """An ordinary successful run of a workflow."""

    calls: float
    log_ran_s: float
    """Logarithms, because run times are skewed and the ordinary run is wanted: about the median, not the mean."""
    runs: int
    at: float


class Experience:
    """Averages of successful runs by workflow, the latest counting most. ``now``: seconds, monotonic."""

    def __init__(self) -> None:
        self._known: dict[str, Expected] = {}

    def note(self, workflow: str, *, calls: int, ran_s: float, now: float) -> None:
        """A run succeeded and took so much over all its attempts."""
        known = self._known.get(workflow)
        log_ran_s = math.log(max(1e-3, ran_s))
        if known is None or now - known.at > FRESH_S:
            if known is not None or len(self._known) < WORKFLOWS_AT_MOST:
                self._known[workflow] = Expected(calls, log_ran_s, 1, now)
            return
        runs = known.runs + 1
        weight = max(_WEIGHT, 1 / runs)
        self._known[workflow] = Expected(
            known.calls + weight * (calls - known.calls),
            known.log_ran_s + weight * (log_ran_s - known.log_ran_s),
            runs,
            now,
        )

    def outlook(self, workflow: str, *, calls: int, ran_s: float, now: float) -> tuple[float | None, float | None]:
        """Seconds of work that a run has left, and the part (0..1) of its calls that is done; ``None`` unknown. The
        part only orders runs and refuses none, so one success is enough for it."""
        known = self._known.get(workflow)
        if known is None or known.calls < 1:
            return None, None
        done = min(1.0, calls / known.calls)
        if known.runs < RUNS_LEAST or now - known.at > FRESH_S:
            return None, done
        usual_s = math.exp(known.log_ran_s)
        return max(0.0, min(usual_s - ran_s, usual_s * (1.0 - done))), done


class Stretches:
    """How much longer runs of a lane stay in their slot lately than they work, because their calls wait in line.
    Averages of logarithms, the latest counting most. ``now``: seconds, monotonic."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, int, float]] = {}

    def note(self, lane: str, *, stayed_s: float, worked_s: float, now: float) -> None:
        """A run of the lane left its slot, done or too late."""
        log_ratio = math.log(min(STRETCH_AT_MOST, max(1.0, stayed_s / max(1e-3, worked_s))))
        mean, ends, at = self._known.get(lane, (0.0, 0, now))
        if now - at > STRETCH_FRESH_S:
            mean, ends = 0.0, 0
        ends += 1
        self._known[lane] = mean + max(_WEIGHT, 1 / ends) * (log_ratio - mean), ends, now

    def of(self, lane: str, now: float) -> float:
        """1 to ``STRETCH_AT_MOST``; 1 on little or old evidence."""
        mean, ends, at = self._known.get(lane, (0.0, 0, now))
        return math.exp(mean) if ends >= RUNS_LEAST and now - at <= STRETCH_FRESH_S else 1.0
