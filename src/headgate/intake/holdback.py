"""Which part of the slots each lane may have while others are pressed: what is looked at, and how often.

The rule is `headgate.policy.holdback`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from headgate.config.settings import GateSettings
from headgate.policy.holdback import Strain, follow, lent, levels, most
from headgate.policy.lane_shares import split
from headgate.policy.pause import HeldBack


class Holdback:
    """Of one process."""

    def __init__(self) -> None:
        self._levels: dict[str, float] = {}
        self.lent: Mapping[str, float] = {}
        """Lane → part of what it would be lent that it may take; lanes that may take all are left out."""
        self._most: Mapping[str, float] = {}

    def look(
        self, settings: GateSettings, *, line: Mapping[str, float], occupied: frozenset[str], strain: Strain
    ) -> None:
        """Take in how things stand; about once a second. ``line``: how pressed each lane is by its own runs, 0..1."""
        if settings.holdback is None:
            self.lent, self._most = {}, {}
            return
        shares = split({name: lane.share for name, lane in settings.lanes.items()})
        apart = settings.background_lanes
        found: dict[str, float] = {}
        for group in ([name for name in settings.lanes if name not in apart], list(apart)):
            for lane, level in levels(group, line, occupied, strain).items():
                self._levels[lane] = follow(self._levels.get(lane, 0.0), level)
            if len(group) > 1:
                parts = lent(group, self._levels, begins_at=settings.holdback)
                found |= {lane: part for lane, part in parts.items() if part < 1}
        self.lent = found
        sums = {lane: math.fsum(shares[one] for one in settings.sharing(lane)) for lane in found}
        self._most = {lane: most(shares[lane] / sums[lane], part) for lane, part in found.items()}

    def beside(self, by_hand: HeldBack) -> HeldBack:
        """What rules and operators hold back, and this."""
        if not self._most:
            return by_hand
        lanes = dict(by_hand.lanes)
        for lane, part in self._most.items():
            lanes[lane] = min(part, lanes.get(lane, 1.0))
        return replace(by_hand, lanes=lanes)
