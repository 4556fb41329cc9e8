"""Counts of good and bad endings over a sliding window, in constant space.

The window is cut into slices; a whole slice is forgotten at a time, so that the window's real length lies between
``window_s`` minus one slice and ``window_s``.
"""

from __future__ import annotations


class OutcomeWindow:
    """How many calls ended, and how many of them badly, in the last ``window_s`` seconds."""

    __slots__ = ("_bad", "_good", "_index", "_slice_s", "_slices", "bad", "good")

    def __init__(self, window_s: float, slices: int = 10) -> None:
        self._slice_s = window_s / slices
        self._slices = slices
        self._good = [0] * slices
        self._bad = [0] * slices
        self._index = 0
        self.good = 0
        """Good endings, as of the last `advance` or `add`."""
        self.bad = 0

    def add(self, good: bool, now: float) -> None:
        """Count one ending at ``now`` (seconds; never going back by more than the window)."""
        index = int(now / self._slice_s)
        if index != self._index:
            self._move(index)
        place = self._index % self._slices
        if good:
            self._good[place] += 1
            self.good += 1
        else:
            self._bad[place] += 1
            self.bad += 1

    def advance(self, now: float) -> None:
        """Forget what is too old at ``now``."""
        index = int(now / self._slice_s)
        if index != self._index:
            self._move(index)

    def bad_share(self, now: float) -> float:
        """Bad endings as a share of all; 0 while there are none."""
        self.advance(now)
        total = self.good + self.bad
        return self.bad / total if total else 0.0

    def clear(self) -> None:
        """Forget everything."""
        self._good = [0] * self._slices
        self._bad = [0] * self._slices
        self.good = self.bad = 0

    def _move(self, index: int) -> None:
        if index < self._index:
            return
        if index - self._index >= self._slices:
            self.clear()
        else:
            for passed in range(self._index + 1, index + 1):
                place = passed % self._slices
                self.good -= self._good[place]
                self.bad -= self._bad[place]
                self._good[place] = self._bad[place] = 0
        self._index = index
