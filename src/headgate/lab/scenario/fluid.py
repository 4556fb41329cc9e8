"""Work as a fluid: how much of it fits into what there is, in every stretch of time.

An amount of work may be done at any moment of its window, at any speed, in any order. Of one thing that there is only
so much of, amounts fit exactly if in every stretch of time the work that must be done inside it is no more than what
there is in that stretch. What fits in this sense is a polymatroid, so that taking amounts greedily in an order of
worth is not a heuristic: it is the best there is (Edmonds, 1970).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

BIN_S = 10.0
BINS_AT_MOST = 360
"""What is counted takes time with the cube of their number."""


@dataclass(frozen=True, slots=True)
class Amount:
    """One run, or runs of one lane that begin together and are of similar size."""

    lane: str
    rank: int
    first: int
    last: int
    """Bins that it may use, both included."""
    runs: int
    work: float
    """Of all of them together."""
    value: float


Use = Callable[[int], float]
Capacity = Callable[[float, float], float]


@dataclass(frozen=True, slots=True)
class Limit:
    """Something that there is only so much of."""

    name: str
    uses: Use
    """Of the n-th wish."""
    room: list[float]
    """By bin."""
    at_once: float = 0.0
    """What any stretch of time may hold beyond its room: an allowance saved up before."""


class Bins(NamedTuple):
    """Into which time is cut."""

    number: int
    width_s: float


def cut_into_bins(most_s: float) -> Bins:
    """Bins over so many seconds: `BIN_S` wide, or wider where they would be more than `BINS_AT_MOST`."""
    width_s = max(BIN_S, most_s / BINS_AT_MOST)
    return Bins(math.ceil(most_s / width_s) + 1, width_s)


def limit_of(name: str, uses: Use, capacity: Capacity, bins: Bins, at_once: float = 0.0) -> Limit:
    """Something with this capacity between two moments (seconds), cut into bins."""
    width_s = bins.width_s
    room = [capacity(place * width_s, (place + 1) * width_s) for place in range(bins.number)]
    return Limit(name, uses, room, at_once)


def mixture(one: Limit, other: Limit, weight: float) -> Limit:
    """Both together; ``weight`` is what a share of all of ``one`` counts against a share of all of ``other``."""
    first, second = weight / max(1e-9, sum(one.room)), 1 / max(1e-9, sum(other.room))
    return Limit(
        f"{one.name} + {other.name} ({weight:g}:1)",
        lambda index: first * one.uses(index) + second * other.uses(index),
        [first * a + second * b for a, b in zip(one.room, other.room, strict=True)],
        first * one.at_once + second * other.at_once,
    )


def steady(per_s: float) -> Capacity:
    """So much every second."""
    return lambda since, until: per_s * (until - since)


def scaled(capacity: Capacity, times: float) -> Capacity:
    """So many times as much."""
    return lambda since, until: times * capacity(since, until)


def sum_of(capacities: Sequence[Capacity]) -> Capacity:
    """All together."""
    return lambda since, until: sum(one(since, until) for one in capacities)


def fitted(amounts: Sequence[Amount], limit: Limit, order: Callable[[Amount], object]) -> list[tuple[Amount, float]]:
    """Each amount with the part of it that fits, taken in order; those that do not fit at all are left out."""
    bins = len(limit.room)
    total = [0.0]
    for one in limit.room:
        total.append(total[-1] + one)
    # left[s][t]: work that may still be put into windows inside bins s..t
    left = [
        [total[t + 1] - total[s] + limit.at_once if t >= s else math.inf for t in range(bins)] for s in range(bins)
    ]
    found: list[tuple[Amount, float]] = []
    full: set[tuple[int, int]] = set()
    for amount in sorted(amounts, key=order):  # type: ignore[arg-type]
        if amount.work <= 0:
            found.append((amount, 1.0))
            continue
        if (amount.first, amount.last) in full:
            continue
        fits = min(min(left[s][amount.last :]) for s in range(amount.first + 1))
        taken = max(0.0, min(amount.work, fits))
        if taken < amount.work:
            full.add((amount.first, amount.last))
        found.append((amount, taken / amount.work))
        for s in range(amount.first + 1 if taken else 0):
            row = left[s]
            row[amount.last :] = [one - taken for one in row[amount.last :]]
    return found
