"""How values are spread, within 1 % of the truth, in bounded memory.

Buckets grow by a constant factor, so that the middle of each is within `RELATIVE_ERROR` of every value in it.
Source: the DDSketch idea (Masson, Rim, Lee, VLDB 2019) with a fixed range instead of collapsing buckets: values
below `SMALLEST` count as zero, values above `LARGEST` as `LARGEST`, which bounds a histogram to about 2,100
buckets however much it is fed. Histograms with equal buckets add up exactly, so merging loses nothing.

Not thread-safe; whoever shares one between threads holds a lock around it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

RELATIVE_ERROR = 0.01
SMALLEST = 1e-6
LARGEST = 1e12
_GROWTH = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_INVERSE_LOG_GROWTH = 1 / math.log(_GROWTH)
_MIDDLE = 2 / (1 + _GROWTH)
_ZERO = math.floor(math.log(SMALLEST) * _INVERSE_LOG_GROWTH) - 1


class Histogram:
    """Counts of values in buckets of equal relative width. Values are in whatever unit the caller keeps to."""

    __slots__ = ("_counts", "count", "total")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0
        """Values added."""
        self.total = 0.0
        """Their sum."""

    def add(self, value: float) -> None:
        """Count one value; negative ones count as zero.

        Raises:
            ValueError: ``value`` is not a number.
        """
        value = _within(value)
        index = _index(value)
        self._counts[index] = self._counts.get(index, 0) + 1
        self.count += 1
        self.total += value

    def merge(self, other: Histogram) -> None:
        """Count everything that ``other`` counted, too."""
        for index, count in other._counts.items():
            self._counts[index] = self._counts.get(index, 0) + count
        self.count += other.count
        self.total += other.total

    def take_out(self, other: Histogram) -> None:
        """Forget what ``other`` counted; it must have been merged or added before."""
        for index, count in other._counts.items():
            left = self._counts[index] - count
            if left:
                self._counts[index] = left
            else:
                del self._counts[index]
        self.count -= other.count
        self.total = self.total - other.total if self.count else 0.0

    def quantile(self, q: float) -> float | None:
        """The value below which a share ``q`` (0..1) of the values lies, within 1 %; ``None`` when empty.

        Raises:
            ValueError: ``q`` is outside 0..1.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"a quantile is between 0 and 1, not {q!r}")
        if not self.count:
            return None
        rank = q * (self.count - 1)
        seen = 0
        index = _ZERO
        for index in sorted(self._counts):
            seen += self._counts[index]
            if seen > rank:
                break
        return _middle(index)

    def mean(self) -> float | None:
        """The average of the values; ``None`` when empty."""
        return self.total / self.count if self.count else None

    def at_or_below(self, bounds: Iterable[float]) -> list[int]:
        """For each bound, how many values are at or below it, within 1 % of the bound (cumulative buckets)."""
        ordered = sorted((_middle(index), count) for index, count in self._counts.items())
        return [sum(count for middle, count in ordered if middle <= bound) for bound in bounds]

    def copy(self) -> Histogram:
        """An independent histogram with the same contents."""
        twin = Histogram()
        twin.merge(self)
        return twin

    @property
    def buckets(self) -> int:
        """Buckets in use: what its memory is proportional to."""
        return len(self._counts)


class WindowedHistogram:
    """A histogram that forgets: what was added within about the last ``window_s`` seconds.

    The window is cut into ``slices``; a whole slice is forgotten at a time, so the memory reaches back between
    ``window_s - window_s / slices`` and ``window_s``. Moments are seconds on any clock that does not go back
    (an earlier moment counts as the latest one seen).
    """

    __slots__ = ("_latest", "_recent", "_slice_s", "_slices", "_sum")

    def __init__(self, window_s: float, slices: int = 6) -> None:
        if window_s <= 0 or slices < 1:
            raise ValueError(f"a window needs a positive length and at least one slice: {window_s!r}, {slices!r}")
        self._slice_s = window_s / slices
        self._slices = slices
        self._recent: deque[tuple[int, Histogram]] = deque()
        self._sum = Histogram()
        self._latest = -math.inf

    def add(self, value: float, now: float) -> None:
        """Count one value at the moment ``now``.

        Raises:
            ValueError: ``value`` is not a number.
        """
        place = self._forget(now)
        if not self._recent or self._recent[-1][0] != place:
            self._recent.append((place, Histogram()))
        self._recent[-1][1].add(value)
        self._sum.add(value)

    def quantile(self, q: float, now: float) -> float | None:
        """As `Histogram.quantile`, of what is remembered at ``now``; ``None`` when that is nothing."""
        self._forget(now)
        return self._sum.quantile(q)

    def count(self, now: float) -> int:
        """Values remembered at ``now``."""
        self._forget(now)
        return self._sum.count

    def mean(self, now: float) -> float | None:
        """The average of what is remembered at ``now``; ``None`` when that is nothing."""
        self._forget(now)
        return self._sum.mean()

    def _forget(self, now: float) -> int:
        """Drop slices that are too old; the slice that ``now`` belongs to."""
        self._latest = max(self._latest, now)
        place = math.floor(self._latest / self._slice_s)
        while self._recent and self._recent[0][0] <= place - self._slices:
            self._sum.take_out(self._recent.popleft()[1])
        return place


def _within(value: float) -> float:
    if value != value:
        raise ValueError("not a number cannot be counted")
    return min(max(value, 0.0), LARGEST)


def _index(value: float) -> int:
    if value < SMALLEST:
        return _ZERO
    return math.ceil(math.log(value) * _INVERSE_LOG_GROWTH)


def _middle(index: int) -> float:
    return 0.0 if index == _ZERO else _GROWTH**index * _MIDDLE
