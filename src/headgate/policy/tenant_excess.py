"""Whose overload is it? What one tenant asks for beyond its fair share is refused to that tenant.

Decides: while others are hurt, which part of what a tenant asks for in each lane is refused.

Source: max-min fairness (Bertsekas and Gallager, Data Networks, 1992) for the share; giving room carefully and taking
it back quickly while others are hurt is the usual control of admission by feedback.

Why it is needed: lanes go in strict order. A tenant that asks for fifty times what each other asks for fills the
fleet with its runs of earlier lanes, and the later lanes of all others get nothing, although each of these asks for
less than its share. Fairness inside a lane cannot see this.

Rule: what the fleet starts per second, times ``room``, is shared out so that nobody can get more without somebody who
has less getting less; that gives a level. Who asks for less than the level is not touched. Who asks for more has its
later lanes refused first, so that what remains is the level. ``room`` falls while somebody below the level is hurt
(refused, or expected to wait for more than half of the time that it can afford), and grows while nobody is. While
the room is at its most, nobody was hurt for a while and nothing is refused.

Invariants: nobody below the level is refused anything; a tenant keeps at least the level; a lane is refused only if
all its tenant's lanes after it are refused as a whole; when all ask for no more than can be carried, nothing is
refused; where more than a fifth of the tenants are above the level it is the overload of all, and nothing is
refused here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

LEAST_ROOM, MOST_ROOM = 0.8, 1.25
"""Part of what the fleet carries that is shared out."""
TAKEN_BACK, GIVEN = 0.04, 0.02
"""By how much the room moves in a second."""
HURT = 0.5
"""Part of the wait that a run can afford from which it counts as hurt."""
FEW = 0.2
"""Part of the tenants that may be above the level; with more the overload is that of all. One always may."""


def move(room: float, *, hurt: bool, elapsed_s: float) -> float:
    """The room after a look; ``hurt``: somebody who asks for no more than the fair share was."""
    room += elapsed_s * (-TAKEN_BACK if hurt else GIVEN)
    return min(MOST_ROOM, max(LEAST_ROOM, room))


def level(capacity: float, asked: Mapping[str, float], weights: Mapping[str, float]) -> float | None:
    """How much a tenant of weight 1 may have; ``None``: everybody gets what they ask for.

    ``asked``: cost per second by tenant, 0 or more. ``weights`` of tenants that are not named are 1.
    """
    left, of_weight = capacity, math.fsum(weights.get(tenant, 1.0) for tenant in asked)
    for tenant, cost in sorted(asked.items(), key=lambda one: (one[1] / weights.get(one[0], 1.0), one[0])):
        weight = weights.get(tenant, 1.0)
        if cost * of_weight > left * weight:
            return max(0.0, left / of_weight)
        left, of_weight = left - cost, of_weight - weight
    return None


def above(share: float, asked: Mapping[str, float], weights: Mapping[str, float]) -> frozenset[str]:
    """The tenants that ask for more than ``share`` times their weight; nobody where those are not few."""
    found = frozenset(tenant for tenant, cost in asked.items() if cost > share * weights.get(tenant, 1.0))
    return found if len(found) <= max(min(1, len(asked) - 1), FEW * len(asked)) else frozenset()


def refused_parts(keeps: float, lanes: Sequence[str], asked: Mapping[str, float]) -> dict[str, float]:
    """Which part (0..1) of what one tenant asks for in each lane is refused, so that it keeps ``keeps``.

    ``lanes``: the first first. ``asked``: cost per second by lane.
    """
    parts: dict[str, float] = {}
    left = keeps
    for lane in lanes:
        cost = asked.get(lane, 0.0)
        parts[lane] = 0.0 if cost <= left else 1 - left / cost
        left = max(0.0, left - cost)
    return parts
