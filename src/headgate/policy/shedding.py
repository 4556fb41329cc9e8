"""Whom to refuse when the fleet cannot keep what it promises: a cursor over lanes and cohorts of tenants.

Decides: the share of what is offered that is refused, and from it, for a lane and a tenant, whether this run is.

Source: DAGOR (Zhou and others, 2018) and its successors: a cursor over (priority, cohort of users), moved by the
measured overload, up fast and down slowly. Cohorts rather than chance, so that a refused tenant stays refused for a
while, and its work is not scattered; they change with the hour, so that it is not always the same ones.

Inputs: the overload ``u`` (the time to drain what waits, or the memory, over its target; 1 is at the target), and
what was offered lately by lane.

Rule, every `EVERY_S`: above 1 the share rises by 5 % times ``u - 1`` (at most 4 times), below 0.9 it falls by 1 % to
5 %, the faster the further below. It stays where it is while ``u`` is on its way back already: what waits follows the
share with a delay, and without this the two would swing around each other.

An overload of one lane refuses nothing in lanes before it: those would be refused for the sake of lesser work.

Invariants: the share is 0 to 0.95. A lane is refused, in part or as a whole, only if every lane before it in the
order of refusal is refused as a whole; so the most important lane is never refused while a lesser one is taken in.

Trade-off: every process follows its own cursor by the same queues; two of them may stand apart by a step or two.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

EVERY_S = 5.0
"""Between two moves."""
MOST = 0.95
COHORTS = 100
HOUR_MS = 3_600_000
_RISE, _RISE_TIMES = 0.05, 4.0
_FALL, _FALL_TIMES = 0.01, 5.0
_CALM = 0.9
_DUST = 1e-12
"""A part of what is offered that is left over by rounding alone; it must not refuse a lane that offers nothing."""
_MOVING = 0.01
"""A change of the overload between two moves that counts as one."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where it stands."""

    share: float = 0.0
    """Part of what is offered that is refused, 0..0.95."""
    overload: float = 0.0
    """At the last move."""
    moved_ms: int = 0


def move(before: Cursor, overload: float, *, now_ms: int) -> Cursor:
    """The cursor after a look at the overload (≥ 0); it moves every `EVERY_S` at most."""
    if now_ms - before.moved_ms < 1000 * EVERY_S:
        return before
    share, trend = before.share, overload - before.overload
    if overload > 1 and trend > -_MOVING:
        share += _RISE * min(_RISE_TIMES, overload - 1)
    elif overload < _CALM and trend < _MOVING:
        below = (_CALM - overload) / _CALM
        share -= _FALL * (1 + (_FALL_TIMES - 1) * below)
    return Cursor(min(MOST, max(0.0, share)), overload, now_ms)


def refused_parts(share: float, order: Sequence[str], offered: Mapping[str, float]) -> dict[str, float]:
    """Which part (0..1) of each lane is refused, so that together they are ``share`` of what is offered.

    ``order``: all lanes, those that are refused first first. ``offered``: the cost of what came lately, by lane.
    """
    total = math.fsum(offered.get(lane, 0.0) for lane in order)
    parts: dict[str, float] = {}
    left = share * total if total > 0 else share
    for lane in order:
        size = offered.get(lane, 0.0)
        if left <= _DUST * total:
            parts[lane] = 0.0
        elif size <= left:
            parts[lane] = 1.0 if total > 0 else left
        else:
            parts[lane] = left / size
        left -= size if total > 0 else left
    return parts


def bounded(cursor: Cursor, reached: Sequence[str], offered: Mapping[str, float]) -> Cursor:
    """The cursor with a share no larger than what is offered in the lanes that may be refused at all. Without this
    it would go on rising while they are refused already, and take as long to come back."""
    total = math.fsum(offered.values())
    most = math.fsum(offered.get(lane, 0.0) for lane in reached) / total if total > 0 else 1.0
    return replace(cursor, share=min(cursor.share, most))


def cohort(tenant: str, *, key: bytes, now_ms: int) -> int:
    """The cohort (0..99) of a tenant in this hour. ``key`` (at most 64 bytes) is the same in the whole fleet; without
    it a tenant could choose a name that is seldom refused."""
    text = f"{now_ms // HOUR_MS}/{tenant}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, key=key).digest()) % COHORTS


def refuses(part: float, of_cohort: int) -> bool:
    """Whether a tenant of this cohort is refused in a lane of which this part (0..1) is."""
    return of_cohort < part * COHORTS
