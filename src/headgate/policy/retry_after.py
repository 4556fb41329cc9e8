"""What to tell a refused caller about when to come back.

Decides: a moment at which there should be room *for this caller*, not merely some room.

Rule: room in a full scope appears at its drain rate, and others were already told to come back; so every refusal
is given the next free moment after those promised before, spaced by one drain interval. The answer is jittered
upward by at most a quarter, at least a second's half, and the book of promises never reaches further than
``HORIZON_MS``: callers who never come back must not push the others out for ever.

Trade-off: with many callers who do not return, waits are longer than necessary (never shorter).
"""

from __future__ import annotations

from dataclasses import dataclass

HORIZON_MS = 60_000
LEAST_MS = 500
UNKNOWN_MS = 5_000
"""Told while nothing is known about the drain rate."""


@dataclass(frozen=True, slots=True)
class Promises:
    """The latest moment promised to a refused caller of one scope."""

    until_ms: float = 0.0


def promise(before: Promises, *, now_ms: int, rate: float | None, chance: float) -> tuple[Promises, int]:
    """The book after this refusal, and milliseconds to tell.

    ``rate`` is starts per second of the scope (``None`` or 0: unknown), ``chance`` a random number in [0, 1).
    """
    if not rate or rate <= 0:
        return before, round(UNKNOWN_MS * (1 + chance / 4))
    next_ms = min(max(before.until_ms, now_ms) + 1000 / rate, now_ms + HORIZON_MS)
    told = (next_ms - now_ms) * (1 + chance / 4)
    return Promises(next_ms), round(min(max(told, LEAST_MS), HORIZON_MS))
