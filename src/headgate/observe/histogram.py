"""How values are spread, within 1 % of the truth, in bounded memory.

Buckets grow by a constant factor, so that the middle of each is within `RELATIVE_ERROR` of every value in it.
Source: the DDSketch idea (Masson, Rim, Lee, VLDB 2019) with a fixed range instead of collapsing buckets: values
below `SMALLEST` count as zero, values above `LARGEST` as `LARGEST`, which bounds a histogram to about 2,100
buckets however much it is fed. Histograms with equal buckets add up exactly, so merging loses nothing.

Not thread-safe; whoever shares one between threads holds a lock around it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import accumulate

RELATIVE_ERROR = 0.01
SMALLEST = 1e-6
LARGEST = 1e12
_GROWTH = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_INVERSE_LOG_GROWTH = 1 / math.log(_GROWTH)
_MIDDLE = 2 / (1 + _GROWTH)
_ZERO = math.floor(math.log(SMALLEST) * _INVERSE_LOG_GROWTH) - 1


class Histogram:
    """Counts of values in buckets of equal relative width. Values are in whatever unit the caller keeps to."""

    __slots__ = ("_order", "_seen", "count", "counts", "total")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        """By bucket."""
        self._order: list[int] | None = None
        """The buckets from the lowest up, while no other came or went."""
        self._seen: list[int] | None = None
        """How many values are in each of these and those below, while none came or went: many look between two."""
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
        self.add_at(_index(value), value)

    def add_at(self, index: int, value: float) -> None:
        """Count one value of which the bucket is known (see `placed`)."""
        counts = self.counts
        if index in counts:
            counts[index] += 1
        else:
            counts[index] = 1
            self._order = None
        self._seen = None
        self.count += 1
        self.total += value

    def merge(self, other: Histogram) -> None:
        """Count everything that ``other`` counted, too."""
        for index, count in other.counts.items():
            self.counts[index] = self.counts.get(index, 0) + count
        self._order = self._seen = None
        self.count += other.count
        self.total += other.total

    def take_out(self, other: Histogram) -> None:
        """Forget what ``other`` counted; it must have been merged or added before."""
        for index, count in other.counts.items():
            left = self.counts[index] - count
            if left:
                self.counts[index] = left
            else:
                del self.counts[index]
                self._order = None
        self._seen = None
        self.count -= other.count
        self.total = self.total - other.total if self.count else 0.0

    def quantile(self, q: float) -> float | None:
        """The value below which a share ``q`` (0..1) of the values lies, within 1 %; ``None`` when empty.

        Raises:
            ValueError: ``q`` is outside 0..1.
        """
        return self.quantiles((q,))[0]

    def quantiles(self, shares: Sequence[float]) -> list[float | None]:
        """As `quantile` for each of these ascending shares, in one pass.

        Raises:
            ValueError: one is outside 0..1 or smaller than the one before it.
        """
        least = 0.0
        for q in shares:
            if not least <= q <= 1:
                raise ValueError(f"a quantile is between 0 and 1, and several ascend, not {q!r}")
            least = q
        if not self.count:
            return [None] * len(shares)
        if self._order is None:
            self._order = sorted(self.counts)
        if self._seen is None:
            self._seen = list(accumulate(map(self.counts.__getitem__, self._order)))
        order, seen, last = self._order, self._seen, self.count - 1
        return [_middle(order[bisect_right(seen, q * last)]) for q in shares]

    def mean(self) -> float | None:
        """The average of the values; ``None`` when empty."""
        return self.total / self.count if self.count else None

    def at_or_below(self, bounds: Iterable[float]) -> list[int]:
        """For each bound, how many values are at or below it, within 1 % of the bound (cumulative buckets)."""
        ordered = sorted((_middle(index), count) for index, count in self.counts.items())
        return [sum(count for middle, count in ordered if middle <= bound) for bound in bounds]

    def copy(self) -> Histogram:
        """An independent histogram with the same contents."""
        twin = Histogram()
        twin.merge(self)
        return twin

    @property
    def buckets(self) -> int:
        """Buckets in use: what its memory is proportional to."""
        return len(self.counts)


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
        value = _within(value)
        self.add_at(_index(value), value, now)

    def add_at(self, index: int, value: float, now: float) -> None:
        """Count one value of which the bucket is known (see `placed`)."""
        place, recent = self._forget(now), self._recent
        if not recent or recent[-1][0] != place:
            recent.append((place, Histogram()))
        recent[-1][1].add_at(index, value)
        self._sum.add_at(index, value)

    def quantile(self, q: float, now: float) -> float | None:
        """As `Histogram.quantile`, of what is remembered at ``now``; ``None`` when that is nothing."""
        self._forget(now)
        return self._sum.quantile(q)

    def quantiles(self, shares: Sequence[float], now: float) -> list[float | None]:
        """As `Histogram.quantiles`, of what is remembered at ``now``."""
        self._forget(now)
        return self._sum.quantiles(shares)

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
        if now > self._latest:
            self._latest = now
        place = math.floor(self._latest / self._slice_s)
        while self._recent and self._recent[0][0] <= place - self._slices:
            self._sum.take_out(self._recent.popleft()[1])
        return place


def placed(value: float) -> tuple[int, float]:
    """The bucket of a value and what it counts as there, for several histograms that count the same.

    Raises:
        ValueError: ``value`` is not a number.
    """
    value = _within(value)
    return _index(value), value


def _within(value: float) -> float:
    if 0.0 <= value <= LARGEST:
        return value
    if value != value:
        raise ValueError("not a number cannot be counted")
    return 0.0 if value < 0 else LARGEST


def _index(value: float) -> int:
    if value < SMALLEST:
        return _ZERO
    return math.ceil(math.log(value) * _INVERSE_LOG_GROWTH)


def _middle(index: int) -> float:
    return 0.0 if index == _ZERO else _GROWTH**index * _MIDDLE
