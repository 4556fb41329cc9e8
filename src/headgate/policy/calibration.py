"""How wrong were the forecasts lately, and what follows for the next one.

Decides: from the past errors of forecasts of the same kind, by how much to stretch the next forecast so that half of
the runs are earlier than the p50 told and nine of ten are earlier than the p90.

Source: calibration by the median of one's own log errors (a discrete-event study of run-level admission); the level
of the p90 moves with its own misses as in adaptive conformal inference (Gibbs and Candès, 2021).

Rule: an error is ``ln((actual + pad) / (expected + pad))``. The last ``WINDOW`` of a kind are remembered, and until
there are many, a few assumed ones beside them. The p50 is the expected time stretched by their median, the p90 by
the quantile at ``level``: 0.9, higher when more than a tenth of the latest promises were broken and lower when
fewer were. A kind with fewer than ``ENOUGH`` errors is judged by a wider one. What other lanes teach about waits only
makes them longer: early in a flood the first to end are those of the first lanes, whose waits turned out short
because later lanes gave way, and later lanes would be promised the same.

Invariants: a p90 is never before its p50; no error counts for more than a factor of ``ERROR_AT_MOST``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

WINDOW = 100
ENOUGH = 8
PAD_S = 0.1
"""Keeps errors of very short waits from counting as large."""
ERROR_AT_MOST = 50.0
ASSUMED = (-0.3, 0.0, 0.0, 0.7)
"""Log errors assumed before any was seen."""
ASSUMED_UNTIL = 24
"""With so many errors seen, none is assumed any more."""
LEAST_LEVEL, MOST_LEVEL = 0.8, 0.98
STRETCH_AT_MOST = 4.0
"""A p50 is stretched or shrunk by at most so much: beyond that the forecast itself is wrong."""


@dataclass(frozen=True, slots=True)
class Spread:
    """What a forecast is stretched by."""

    p50: float = 1.0
    p90: float = 2.0

    def times_s(self, expected_s: float) -> tuple[float, float]:
        """The p50 and p90 of an expected time in seconds."""
        padded = expected_s + PAD_S
        p50 = max(0.0, padded * self.p50 - PAD_S)
        return p50, max(p50, padded * self.p90 - PAD_S)

    def never_shorter(self) -> Spread:
        """The same without making any time shorter than expected."""
        return Spread(max(1.0, self.p50), max(1.0, self.p90))


ASSUMED_SPREAD = Spread()
"""While nothing is known."""


def error(expected_s: float, actual_s: float) -> float:
    """The log error of one forecast; above 0 when it took longer than expected."""
    most = log(ERROR_AT_MOST)
    return max(-most, min(most, log((max(0.0, actual_s) + PAD_S) / (max(0.0, expected_s) + PAD_S))))


def spread(errors: Sequence[float], kept: Sequence[float] = ()) -> Spread:
    """The spread of these past errors; ``kept`` tells of the latest p90 promises which were kept (1) or not (0)."""
    assumed = ASSUMED if len(errors) < ASSUMED_UNTIL else ()
    known = sorted((*errors, *assumed))
    most = log(STRETCH_AT_MOST)
    p50 = max(-most, min(most, quantile(known, 0.5)))
    return Spread(exp(p50), exp(max(p50, quantile(known, level(kept)))))


def level(kept: Sequence[float]) -> float:
    """Which quantile of the errors is told as p90, given which of the latest promises were kept."""
    if not kept:
        return 0.9
    # Few outcomes say little: they count as if beside ten that came out as promised.
    share = (math.fsum(kept) + 9.0) / (len(kept) + 10.0)
    return min(MOST_LEVEL, max(LEAST_LEVEL, 0.9 + (0.9 - share)))


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the sorted values lie, interpolated.

    Raises:
        ValueError: there is no value.
    """
    if not ordered:
        raise ValueError("a quantile needs a value")
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
