"""Which lanes may fill a worker's free slots, decided before anybody knows what waits.

Decides: how many runs to ask of each lane in one claim. First what each lane is entitled to, then, for the slots
that this leaves empty, every lane in file order for as many as it has: shares that nobody uses are lent.

Source: largest-remainder apportionment of ``share * slots``; the fractions are handed out over time by smooth
weighted round robin (the carpool rule of Fagin and Williams, 1983: whoever is owed most goes first).

Invariants, for the first part: it never asks for more than the free slots, and never for more than a lane's
entitlement rounded up; a lane below its entitlement is asked again and again until it gets a slot, whatever the
others do, so none starves, even with a single slot. The second part asks every lane for every slot, so no slot
stays empty while something waits.

Preference: the last slots of a claim go first to lanes that are owed a whole slot by now, then to lanes that are a
whole slot below their entitlement, in file order, then to whoever is owed most.

Across many workers each keeps these rules by itself, unless the fleet may run fewer than its workers have slots for.
Then the places are too few for any worker's rounding to be fair, and `fleet` gives them out by what runs everywhere:
first to a lane that waits, has nothing running anywhere and got nothing for `STARVED_S` seconds divided by its share
(at most `STARVED_AT_MOST_S`), then to the lane that is furthest below its share.

Trade-off: a slot that was lent comes back when its run ends; `headgate.policy.preemption` takes it back earlier.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

LEAST_SHARE = 0.01
"""A lane for which the named shares leave nothing is still entitled to so much, else it could starve."""
STARVED_S = 5.0
STARVED_AT_MOST_S = 60.0
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Owed:
    """What each lane is owed in fractions of a slot. Together about zero."""

    slots: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ask:
    """How many to claim of which lane, in order, and what is owed from then on.

    ``quotas`` lists lanes twice: entitlements first, then what they may borrow. Their sum is more than the free
    slots on purpose; the claim is bounded by its total.
    """

    quotas: tuple[tuple[str, int], ...]
    owed: Owed


def split(named: Mapping[str, float | None]) -> dict[str, float]:
    """Every lane's share, together 1. Lanes without a named share (``None``) split what the others leave.

    Raises:
        ValueError: there is no lane.
    """
    if not named:
        raise ValueError("there must be at least one lane")
    left = 1.0 - math.fsum(share for share in named.values() if share is not None)
    unnamed = sum(1 for share in named.values() if share is None)
    each = left / unnamed if unnamed else 0.0
    raw = {lane: max(LEAST_SHARE, each if share is None else share) for lane, share in named.items()}
    total = math.fsum(raw.values())
    return {lane: share / total for lane, share in raw.items()}


def ask(shares: Mapping[str, float], running: Mapping[str, int], owed: Owed, *, slots: int, free: int) -> Ask:
    """What to claim into ``free`` of ``slots`` slots, given how many runs of each lane are running.

    ``shares`` is in file order and sums to 1.
    """
    free = min(free, slots)
    if free <= 0:
        return Ask((), owed)
    short = {lane: max(0.0, share * slots - running.get(lane, 0)) for lane, share in shares.items()}
    # What is running never exceeds slots - free, so the lanes are short of at least `free` slots together; they
    # are short of more when others have borrowed, and then share in proportion what has come back.
    scale = free / max(math.fsum(short.values()), free, _ROUNDING)
    quota = {lane: math.floor(missing * scale + _ROUNDING) for lane, missing in short.items()}
    fraction = {lane: max(0.0, short[lane] * scale - quota[lane]) for lane in shares}
    whole = frozenset(lane for lane, missing in short.items() if missing - quota[lane] >= 1)
    owed = _round(quota, fraction, whole, owed, seats=free - round(math.fsum(quota.values())))
    entitled = tuple((lane, number) for lane, number in quota.items() if number)
    return Ask((*entitled, *((lane, free) for lane in shares)), owed)


@dataclass(frozen=True, slots=True)
class LaneLoad:
    """What the whole fleet does for a lane."""

    share: float
    most: int
    """How many places the lane may take now."""
    running: int
    claimed_ms: int
    """When it got its latest place."""


def fleet(lanes: Mapping[str, LaneLoad], *, whole: int, free: int, now_ms: int) -> tuple[tuple[str, int], ...]:
    """Who gets the ``free`` places of a fleet that may run ``whole`` runs, in order. ``lanes`` are those that wait,
    in file order. As in `Ask`, what a lane cannot use is offered to all of them at the end.
    """

    def starved(load: LaneLoad) -> bool:
        patience_s = min(STARVED_AT_MOST_S, STARVED_S / max(load.share, LEAST_SHARE))
        return load.running == 0 and now_ms - load.claimed_ms >= 1000 * patience_s

    given = dict.fromkeys(lanes, 0)
    order: list[str] = []
    for name, load in sorted(lanes.items(), key=lambda lane: lane[1].claimed_ms):
        if starved(load) and load.most > 0 and len(order) < free:
            order.append(name)
            given[name] = 1
    while len(order) < free:
        open_lanes = [name for name, load in lanes.items() if given[name] < load.most]
        if not open_lanes:
            break
        name = max(open_lanes, key=lambda name: lanes[name].share * whole - lanes[name].running - given[name])
        order.append(name)
        given[name] += 1
    return (*((name, 1) for name in order), *((name, load.most - given[name]) for name, load in lanes.items()))


def _round(
    quota: dict[str, int], fraction: Mapping[str, float], whole: frozenset[str], owed: Owed, *, seats: int
) -> Owed:
    """Give out the last ``seats`` slots and keep the books."""
    balance = {lane: owed.slots.get(lane, 0.0) + part for lane, part in fraction.items()}
    sharing = [lane for lane, part in fraction.items() if part > _ROUNDING]

    def place(lane: str) -> tuple[int, float]:
        if balance[lane] >= 1:
            return 0, -balance[lane]
        return (1, 0.0) if lane in whole else (2, -balance[lane])

    for lane in sorted(sharing, key=place)[: max(0, seats)]:
        quota[lane] += 1
        balance[lane] -= 1.0
    return Owed(balance)
