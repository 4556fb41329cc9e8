"""Refusing at the door what the fleet cannot carry now, the least important first.

Two rules. From ``shed_at`` on, everything in sheddable lanes is refused, until the pressure is a tenth below it.
And while the time to drain a lane or the memory is past its target, a growing share of all that is offered is
refused, lane by lane and cohort by cohort (`headgate.policy.shedding`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import exp

from headgate.config.settings import GateSettings
from headgate.policy import shedding
from headgate.policy.shedding import Cursor

REMEMBERED_S = 60.0
"""How long what was offered counts."""


@dataclass(frozen=True, slots=True)
class Overload:
    """How far the fleet is past its targets; 1 is at one of them."""

    value: float = 0.0
    why: str = "nothing is past its target"
    lane: str | None = None
    """The most important lane that is past its target; ``None``: the whole fleet is. No lane before it is refused:
    that would give its places to lesser ones."""


@dataclass(slots=True)
class Shedder:
    """The cursor of this process."""

    settings: GateSettings
    cursor: Cursor = field(default_factory=Cursor)
    overload: Overload = field(default_factory=Overload)
    parts: Mapping[str, float] = field(default_factory=dict)
    """Lane → part of it that is refused."""
    _offered: dict[str, float] = field(default_factory=dict)
    _key: bytes = b""

    def __post_init__(self) -> None:
        # Of the store without its folder: a process that reaches it by another path must turn away the same tenants.
        name = self.settings.store.partition("?")[0].rpartition("/")[2]
        self._key = hashlib.sha256(name.encode()).digest()

    @property
    def order(self) -> list[str]:
        """Lanes as they are refused: the sheddable ones first, then from the last to the first."""
        lanes = self.settings.lanes
        from_the_last = list(reversed(lanes))
        return sorted(from_the_last, key=lambda name: not lanes[name].sheddable)

    def offer(self, lane: str, cost: float) -> None:
        """Somebody asks to come in."""
        self._offered[lane] = self._offered.get(lane, 0.0) + cost

    def look(self, overload: Overload, *, now_ms: int) -> None:
        """Move the cursor; looks come about once a second."""
        self.overload = overload
        moved = shedding.move(self.cursor, overload.value, now_ms=now_ms)
        if moved is not self.cursor:
            elapsed_s = min((now_ms - self.cursor.moved_ms) / 1000, 10 * REMEMBERED_S)
            keep = exp(-elapsed_s / REMEMBERED_S)
            self.cursor = shedding.bounded(moved, self._reached(overload.lane), self._offered)
            self.parts = shedding.refused_parts(self.cursor.share, self.order, self._offered) if moved.share else {}
            self._offered = {lane: cost * keep for lane, cost in self._offered.items()}

    def _reached(self, lane: str | None) -> list[str]:
        """The lanes that may be refused because of an overload there."""
        order = self.order
        return order if lane is None or lane not in order else order[: order.index(lane) + 1]

    def refuses(self, lane: str, tenant: str, *, now_ms: int) -> bool:
        """Whether the cursor stands above this tenant in this lane."""
        part = self.parts.get(lane, 0.0)
        return part > 0 and shedding.refuses(part, shedding.cohort(tenant, key=self._key, now_ms=now_ms))


def overload(
    *, drains_s: Mapping[str, float], patience_s: Mapping[str, float], memory: float, shed_at: float
) -> Overload:
    """What is furthest past its target: the time to drain a lane against ``shed_at`` of the longest wait that it
    allows, or resident memory against ``shed_at`` of its budget. ``drains_s`` is in the order of the lanes."""
    found, first = Overload(lane=""), ""
    for lane, drain_s in drains_s.items():
        target_s = shed_at * patience_s[lane]
        value = drain_s / target_s
        first = first or (lane if value > 1 else "")
        if value > found.value:
            why = f"lane:{lane} takes {drain_s:.0f} s to drain, its target is {target_s:.0f} s"
            found = Overload(value, why, lane)
    if memory / shed_at > found.value:
        return Overload(memory / shed_at, f"memory is {memory:.0%} of its budget, its target is {shed_at:.0%}")
    return replace(found, lane=first or found.lane)
