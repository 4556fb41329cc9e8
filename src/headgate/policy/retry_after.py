"""What to tell a refused caller about when to come back.

Decides: a moment at which there should be room *for this caller*, not merely some room.

Rule: room in a full scope appears at its drain rate, and others were already told to come back; so every refusal
is given the next free moment after those promised before, spaced by one drain interval. The book of promises
reaches no further than the time in which the scope drains twice over, nor than ``HORIZON_MS``: callers who never
come back must not push the others out. The answer is jittered: upward by at most a quarter, and at the far end of
the book downward, so that those who share the last moment do not come back together.

Trade-off: with many callers who do not return, waits are longer than necessary; with more callers than the book
has moments, some come back to a scope that is full again.
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


def promise(
    before: Promises, *, now_ms: int, rate: float | None, chance: float, room: float | None = None
) -> tuple[Promises, int]:
    """The book after this refusal, and milliseconds to tell.

    ``rate`` is starts per second of the scope (``None`` or 0: unknown), ``chance`` a random number in [0, 1) and
    ``room`` how many runs the scope holds, where it is a bound on runs.
    """
    if not rate or rate <= 0:
        return before, round(UNKNOWN_MS * (1 + chance / 4))
    horizon_ms = float(HORIZON_MS)
    if room is not None:
        horizon_ms = min(horizon_ms, max(2000 * room / rate, UNKNOWN_MS))
    next_ms = max(before.until_ms, now_ms) + 1000 / rate
    if next_ms <= now_ms + horizon_ms:
        told = (next_ms - now_ms) * (1 + chance / 4)
    else:
        next_ms = now_ms + horizon_ms
        told = horizon_ms * (1 - chance / 2)
    return Promises(next_ms), round(min(max(told, LEAST_MS), HORIZON_MS))
