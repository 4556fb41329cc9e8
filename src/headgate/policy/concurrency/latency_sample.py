"""What a group of calls says about latency before all of them have ended.

The log of latency by size is taken as normal. Calls that have not ended, or timed out, are known to be at
least as slow as they are old; leaving them out would make every group look fast whose slow half is still running.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

_ROOT = math.sqrt(0.5)
_FAR = 3.0
"""Values further than this many spreads away count as that far: one wild value does not move the mean much."""
_ROUNDS = 12
SIZE_KEPT = 0.99
"""How much of the evidence on size is kept from group to group: slowly, or a group in which the estimates changed
would look like one in which size means nothing."""


class SizeEffect:
    """How much of the log of latency the log of the predicted size explains: 1 when predictions are right.

    A slope over recent groups, from deviations within each group, so that a slowdown does not look like size. Noisy
    predictions, or latency that has a fixed part, give a slope below 1, and less scatter than dividing would.
    """

    __slots__ = ("_both", "_middle", "_square", "slope")

    def __init__(self) -> None:
        self.slope = 1.0
        self._middle: float | None = None
        """Mean log size of the first group; it stays, or its wandering would look like latency."""
        self._both, self._square = 2.0, 2.0

    def learn(self, calls: Sequence[tuple[float, float]]) -> None:
        """Calls that ended: (log of latency, log of size)."""
        count = len(calls)
        if not count:
            return
        latency, size = math.fsum(call[0] for call in calls) / count, math.fsum(call[1] for call in calls) / count
        self._both = SIZE_KEPT * self._both + math.fsum((y - latency) * (s - size) for y, s in calls)
        self._square = SIZE_KEPT * self._square + math.fsum((s - size) ** 2 for _, s in calls)
        self.slope = min(1.2, max(0.0, self._both / (self._square + 1e-6)))
        if self._middle is None:
            self._middle = size

    def without(self, log_latency: float, log_size: float) -> float:
        """The log of latency as it would be for a call of usual size."""
        middle = log_size if self._middle is None else self._middle
        return log_latency - self.slope * (log_size - middle)


def overdue(z: float) -> float:
    """Minus the log of the chance that a normal value exceeds ``z``: the hazard a call has lived through."""
    if z < 8:
        return -math.log(0.5 * math.erfc(z * _ROOT))
    return 0.5 * z * z + math.log(z) + 0.919


def censored_mean(
    ended: Sequence[float], at_least: Sequence[float], usual: float, spread: float
) -> tuple[float, float]:
    """Mean and spread of normal values, some of which are only known to be ``at_least`` so large.

    Expectation maximisation with a known ``spread`` for the unknown parts (Dempster, Laird and Rubin, 1977), and
    values pulled in to three spreads (Huber). The search begins at the mean of those that ended, or at the ``usual``
    one if none did.
    """
    count = len(ended) + len(at_least)
    mean, squares, shift = math.fsum(ended) / len(ended) if ended else usual, 0.0, 0.0
    for _ in range(_ROUNDS):
        shift = squares = 0.0
        for x in ended:
            off = max(-_FAR * spread, min(_FAR * spread, x - mean))
            shift += off
            squares += off * off
        for least in at_least:
            z = (least - mean) / spread
            if z > _FAR:
                shift += _FAR * spread
                squares += (_FAR * spread) ** 2
                continue
            hazard = math.exp(-0.5 * z * z) / (math.sqrt(2 * math.pi) * 0.5 * math.erfc(z * _ROOT))
            shift += spread * hazard
            squares += spread * spread * (1 + z * hazard)
        shift /= count
        mean += shift
        if abs(shift) < 0.01:
            break
    return mean, math.sqrt(max(1e-4, squares / count - shift * shift))
