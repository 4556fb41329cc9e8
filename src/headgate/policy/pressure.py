"""How far the fleet is from keeping its promises, as a number from 0 to 1.

Decides: the pressure that sheds sheddable lanes at intake and moves runs down their degrade ladders.

Inputs: how much of the room in all run queues is taken, the oldest waiting run against its lane's patience, resident
memory against its budget, and the most pressed resource. The level is the largest of them; it rises at once and falls
by at most a tenth of itself per second, so that a ladder driven by it does not flutter.

What is full for one workflow presses on that workflow only: its own queue, and the resources that it calls, which its
ladder looks at. Shedding at intake therefore looks at queues, age and memory only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FALL_PER_S = 0.1
GONE = 0.01
"""What has fallen below this is forgotten."""


@dataclass(frozen=True, slots=True)
class Pressure:
    """Each part in 0..1."""

    at_ms: int = 0
    queue: float = 0.0
    age: float = 0.0
    memory: float = 0.0
    resources: float = 0.0

    @property
    def intake(self) -> float:
        """What intake goes by."""
        return max(self.queue, self.age, self.memory)

    @property
    def level(self) -> float:
        """Everything in one number."""
        return max(self.intake, self.resources)


def part(fills: Sequence[float]) -> float:
    """The largest of some use-by-limit ratios, clamped to 0..1."""
    return min(1.0, max(0.0, *fills)) if fills else 0.0


def follow(before: Pressure, sample: Pressure) -> Pressure:
    """The pressure after a new sample: up at once, down slowly."""
    elapsed_s = max(0.0, (sample.at_ms - before.at_ms) / 1000)
    keep = (1 - FALL_PER_S) ** min(elapsed_s, 600.0)
    return Pressure(
        sample.at_ms,
        max(sample.queue, before.queue * keep),
        max(sample.age, before.age * keep),
        max(sample.memory, before.memory * keep),
        max(sample.resources, before.resources * keep),
    )


def follow_each(before: Mapping[str, float], sample: Mapping[str, float], *, elapsed_s: float) -> dict[str, float]:
    """The same for one number (0..1) each of many; those that have fallen to nothing are left out."""
    keep = (1 - FALL_PER_S) ** min(max(0.0, elapsed_s), 600.0)
    levels = {name: max(part([sample.get(name, 0.0)]), before.get(name, 0.0) * keep) for name in {*before, *sample}}
    return {name: level for name, level in levels.items() if level >= GONE}


def shedding(before: bool, level: float, *, shed_at: float, margin: float = 0.1) -> bool:
    """Whether sheddable lanes are refused: from ``shed_at`` on, until ``margin`` below it."""
    return level >= (shed_at - margin if before else shed_at)
