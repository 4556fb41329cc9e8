"""How many slots lower lanes may borrow while higher ones are pressed.

Decides: of the slots that a lane would be lent, the part it may take, from 1 (all of them) to 0 (its own share only).

Source: priority load shedding with staggered thresholds, lowest class first; backlash (the play of a gear) as
hysteresis, so that a level that trembles moves nothing.

Inputs: the lanes in file order, how pressed each is by its own line (0..1), the resources' and the memory's pressure
(0..1), and which lanes have runs that wait or run.

Invariants: a lane's own line never holds it back, nor do the resources' pressure while no higher lane has anything to
do; the highest lane is never held back; a lane is left no less than any lower one under the same pressure; what a
lane is entitled to is never touched, and one slot is always left, so that none starves.

Trade-off: slots stay empty although something waits, to keep resources free for what is more important.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BEGINS = 0.7
ENDS = 1.0
"""Between these levels what is lent falls from all to nothing, one lane after the other."""
PLAY = 0.1
"""The level has to fall by so much before anything is lent again."""
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Strain:
    """What presses, each 0..1."""

    resources: float = 0.0
    memory: float = 0.0


def levels(
    lanes: Sequence[str], line: Mapping[str, float], occupied: frozenset[str], strain: Strain
) -> dict[str, float]:
    """How far each lane is to make way: by memory, by the lines of higher lanes, and by resources while one of those
    has anything to do."""
    found, higher_line, higher_busy = {}, 0.0, False
    for lane in lanes:
        found[lane] = max(strain.memory, higher_line, strain.resources if higher_busy else 0.0)
        higher_line = max(higher_line, line.get(lane, 0.0))
        higher_busy = higher_busy or lane in occupied
    return found


def follow(before: float, now: float) -> float:
    """The level that counts after one more look: up at once, down only by what a fall exceeds the play."""
    return min(max(before, now), now + PLAY)


def lent(lanes: Sequence[str], level: Mapping[str, float], *, begins_at: float = BEGINS) -> dict[str, float]:
    """The part of what a lane would be lent that it may take. ``begins_at``: 0 to less than 1."""
    width = (ENDS - begins_at) / max(1, len(lanes) - 1)
    parts = {}
    for place, lane in enumerate(reversed(lanes)):
        begins = begins_at + place * width
        highest = place == len(lanes) - 1
        left = 1.0 if highest else 1 - (level.get(lane, 0.0) - begins) / width
        parts[lane] = min(1.0, left) if left > _ROUNDING else 0.0
    return parts


def most(share: float, part: float) -> float:
    """The part of all slots that a lane of that share may have."""
    own = min(1.0, max(0.0, share))
    return own + part * (1.0 - own)
