"""Looks for better settings step by step, with few plays, and believes only what holds on seeds it has not seen.

Coordinate search: from the best known place, single steps are tried a handful at a time. Successive halving (Jamieson
and Talwalkar, 2016) saves plays: all of a handful are played with the first search seed, the better half of those
that gained with the next, and so on; the winner must have gained over all search seeds. At the end the best place is
compared with the beginning on check seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean, stdev

from headgate.config.document import Path
from headgate.lab.search.space import Move

Changes = Mapping[Path, str]
Judge = Callable[[Sequence[Changes], int], list[float | None]]
"""The worth of each of these changes with one seed; ``None`` for one that makes no valid configuration."""

HANDFUL = 4
LEAST_GAIN = 0.005
"""Of worth, which is about one: half a point of goodput."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to."""

    changes: Changes
    """Empty if nothing better was found."""
    looked_better: float
    """Gain on the search seeds of the best place that was found."""
    gains: tuple[float, ...]
    """Its gain by check seed; empty if there was nothing to check."""
    plays: int
    steps: tuple[Move, ...]
    """That were looked at, each from the best place of then."""
    steps_left: bool
    """Whether there were more, but not enough plays to look at them."""

    @property
    def tried(self) -> int:
        """How many steps were looked at."""
        return len(self.steps)

    @property
    def gain(self) -> float:
        """Mean over the check seeds."""
        return fmean(self.gains) if self.gains else 0.0

    @property
    def error(self) -> float:
        """Standard error of that mean."""
        return standard_error(self.gains)


class Hunt:
    """One search. ``plays`` bounds it: one play is one judgement with one seed, times ``each``."""

    def __init__(
        self,
        judge: Judge,
        steps: Callable[[Changes], Sequence[Move]],
        *,
        search_seeds: Sequence[int],
        check_seeds: Sequence[int],
        plays: int,
        each: int = 1,
    ) -> None:
        """``steps`` gives the possible steps from a place; ``each``: scenarios that a judgement plays."""
        self._judge = judge
        self._steps = steps
        self._search_seeds = search_seeds
        self._check_seeds = check_seeds
        self._left = plays
        self._each = each
        self._used = 0
        self._tried: set[frozenset[tuple[Path, str]]] = {frozenset()}
        self._moves: list[Move] = []

    def go(self) -> Found:
        """Search until plays or steps run out."""
        reserve = 2 * len(self._check_seeds) * self._each
        self._left -= reserve
        best: Changes = {}
        worth = [self._worth([best], seed)[0] or 0.0 for seed in self._search_seeds]
        begun = fmean(worth)
        while handful := self._handful(best):
            places = [{**best, move.path: move.value} for move in handful]
            winner = self._halved(places, worth)
            if winner is not None:
                best, worth = winner
        looked_better = fmean(worth) - begun
        steps, more = tuple(self._moves), next(self._untried(best), None) is not None
        if not best:
            return Found({}, 0.0, (), self._used, steps, more)
        self._left += reserve
        gains = []
        for seed in self._check_seeds:
            before, after = self._worth([{}, best], seed)
            gains.append((after or 0.0) - (before or 0.0))
        holds = holds_up(gains)
        return Found(best if holds else {}, looked_better, tuple(gains), self._used, steps, more)

    def _handful(self, best: Changes) -> list[Move]:
        """The next steps from here that were not tried; none when the plays do not suffice for a whole round."""
        room = self._left // self._each
        most = max((count for count in range(HANDFUL + 1) if self._round(count) <= room), default=0)
        found = list(islice(self._untried(best), most))
        self._tried |= {_place(best, move) for move in found}
        self._moves += found
        return found

    def _untried(self, best: Changes) -> Iterator[Move]:
        by_place = {_place(best, move): move for move in self._steps(best)}
        return (move for place, move in by_place.items() if place not in self._tried)

    def _round(self, count: int) -> int:
        """Judgements that a round with so many places takes at most."""
        total = 0
        for _ in self._search_seeds:
            total, count = total + count, (count + 1) // 2
        return total

    def _halved(self, places: list[dict[Path, str]], worth: list[float]) -> tuple[Changes, list[float]] | None:
        """The place that gained over all search seeds, with its worth by seed."""
        results: list[tuple[dict[Path, str], list[float]]] = [(place, []) for place in places]
        for turn, seed in enumerate(self._search_seeds):
            told = self._worth([place for place, _ in results], seed) if results else []
            results = [
                (place, [*seen, one]) for (place, seen), one in zip(results, told, strict=True) if one is not None
            ]
            results.sort(key=lambda one: -fmean(one[1]))
            results = [one for one in results if fmean(one[1]) > fmean(worth[: turn + 1])]
            results = results[: (len(results) + 1) // 2]
        if results and fmean(results[0][1]) - fmean(worth) >= LEAST_GAIN:
            return results[0]
        return None

    def _worth(self, places: Sequence[Changes], seed: int) -> list[float | None]:
        told = self._judge(places, seed)
        played = sum(one is not None for one in told) * self._each
        self._used += played
        self._left -= played
        return told


def _place(best: Changes, move: Move) -> frozenset[tuple[Path, str]]:
    return frozenset({**best, move.path: move.value}.items())


def standard_error(gains: Sequence[float]) -> float:
    """Of the mean of ``gains``; 0 of fewer than two."""
    return stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else 0.0


def holds_up(gains: Sequence[float]) -> bool:
    """Whether a gain is worth a change and more than chance: above `LEAST_GAIN` and one standard error."""
    if not gains:
        return False
    return fmean(gains) >= LEAST_GAIN and fmean(gains) > standard_error(gains)


def worth_of(measures: Mapping[str, float], first_lane: str) -> float:
    """What a search makes large: goodput, less half of every point by which the first lane is below 99 % on time,
    accepted runs that are late above 3 %, and wasted work above 5 %."""
    shortfall = max(0.0, 0.99 - _number(measures.get(f"{first_lane}-on-time", 1.0), 1.0))
    late = max(0.0, _number(measures.get("accepted-late", 0.0), 0.0) - 0.03)
    wasted = max(0.0, _number(measures.get("wasted-work", 0.0), 0.0) - 0.05)
    return _number(measures.get("goodput", 0.0), 0.0) - 0.5 * (shortfall + late + wasted)


def _number(value: float, instead: float) -> float:
    return value if math.isfinite(value) else instead
