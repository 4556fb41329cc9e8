"""How long calls of each size take, where their size is known beforehand.

One median for calls that differ by a factor of a hundred refuses small ones that would have been quick, and starts
large ones that cannot end in time. So calls with an estimate of their model tokens are remembered by size class, each
four times the one before. Called under the resource's lock.
"""

from __future__ import annotations

import math
from functools import lru_cache

from headgate.observe.histogram import WindowedHistogram

CLASSES = 12
"""From 4 model tokens to 16 million; smaller and larger ones count among the last on their side."""
_LOG_FACTOR = math.log(4)


class SizedLatencies:
    """Seconds of calls that ended well lately, by size class."""

    __slots__ = ("_classes", "_window_s")

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._classes: dict[int, WindowedHistogram] = {}

    def add(self, size: float, bucket: int, seconds: float, now: float) -> None:
        """A call of that many model tokens (above 0) took so long; ``bucket``: of the seconds, by `placed`."""
        place = size_class(size)
        known = self._classes.get(place)
        if known is None:
            known = self._classes[place] = WindowedHistogram(self._window_s, 6)
        known.add_at(bucket, seconds, now)

    def like(self, size: float, now: float, *, least: int, or_smaller: bool) -> WindowedHistogram | None:
        """The latencies of calls of that size, if at least ``least`` are known.

        With ``or_smaller``, else those of the next smaller class that is known: a larger call takes no less.
        """
        place = size_class(size)
        for one in range(place, -1 if or_smaller else place - 1, -1):
            known = self._classes.get(one)
            if known is not None and known.count(now) >= least:
                return known
        return None


@lru_cache(maxsize=1024)
def size_class(size: float) -> int:
    """The class of a size above 0."""
    return min(CLASSES - 1, max(0, int(math.log(size) / _LOG_FACTOR)))


def median_at_least(latencies: WindowedHistogram, now: float) -> float | None:
    """What the median is not below, with 90 % certainty (the order statistic, by the normal approximation of the
    binomial); ``None`` when nothing is known. Few samples give a low value, so that they refuse little."""
    count = latencies.count(now)
    return latencies.quantile(max(0.0, 0.5 - 0.64 / math.sqrt(count)), now) if count else None
