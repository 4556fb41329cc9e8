"""What to tell a refused caller about when to come back, and whether that was true.

Decides: a moment at which there should be room *for this caller*, not merely some room.

Source: pacing by appointment; the audit by asking oneself is the recipe of a discrete-event study of run-level
admission.

Rule: room in a full scope appears at its drain rate, and others were already told to come back; so every refusal
is given the next free moment after those promised before, spaced by one drain interval. A caller who came too late
for its deadline is told at least the time by which its forecast is over. What is told is multiplied by the scope's
``multiplier``. The book of promises reaches no further than the time in which the scope drains twice over, nor than
``HORIZON_MS``: callers who never come back must not push the others out. The answer is jittered: upward by at most a
quarter, and at the far end of the book downward, so that those who share the last moment do not come back together.

Audit: when a promised moment comes, the same request is judged again, without storing anything. If it would have
been refused, the multiplier of its scope grows by 12 %, otherwise it shrinks by 3 %: it settles where four in five
and more are kept.

Trade-off: with many callers who do not return, waits are longer than necessary; with more callers than the book
has moments, some come back to a scope that is full again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

HORIZON_MS = 60_000
FAR_HORIZON_MS = 3_600_000
"""For callers who are told by how much they are too late: that may be long, and a shorter wait would be untrue."""
LEAST_MS = 500
UNKNOWN_MS = 5_000
"""Told while nothing is known about the drain rate."""
BROKEN_GROWS = 1.12
KEPT_SHRINKS = 0.97
LEAST_MULTIPLIER, MOST_MULTIPLIER = 0.5, 8.0
AUDITS_REMEMBERED = 200.0


@dataclass(frozen=True, slots=True)
class Promises:
    """The latest moment promised to a refused caller of one scope, and how such promises turned out."""

    until_ms: float = 0.0
    multiplier: float = 1.0


@dataclass(frozen=True, slots=True)
class Honesty:
    """How many of the latest promises would have been kept."""

    audited: float = 0.0
    kept: float = 0.0

    @property
    def share(self) -> float | None:
        """0 to 1; ``None`` before the first audit."""
        return self.kept / self.audited if self.audited else None

    def heard(self, kept: bool) -> Honesty:
        """After one more audit; old ones fade."""
        fade = min(1.0, AUDITS_REMEMBERED / (self.audited + 1))
        return Honesty((self.audited + 1) * fade, (self.kept + kept) * fade)


def promise(
    before: Promises,
    *,
    now_ms: int,
    rate: float | None,
    chance: float,
    room: float | None = None,
    over_ms: float | None = None,
) -> tuple[Promises, int]:
    """The book after this refusal, and milliseconds to tell.

    ``rate`` is starts per second of the scope (``None`` or 0: unknown), ``chance`` a random number in [0, 1),
    ``room`` how many runs the scope holds, where it is a bound on runs, and ``over_ms`` by how much the caller's
    forecast passes its deadline, where that is why it was refused.
    """
    if over_ms is not None:
        return _too_late(before, now_ms=now_ms, rate=rate, chance=chance, over_ms=over_ms)
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
    told = min(max(told, LEAST_MS), HORIZON_MS) * max(1.0, before.multiplier)
    return replace(before, until_ms=next_ms), round(min(told, FAR_HORIZON_MS))


def _too_late(
    before: Promises, *, now_ms: int, rate: float | None, chance: float, over_ms: float
) -> tuple[Promises, int]:
    own_ms = max(LEAST_MS, over_ms * before.multiplier)
    next_ms = now_ms + own_ms
    if rate and rate > 0:
        # Those refused with it come back as well: one interval each, for at most as long again as it waits itself.
        next_ms = max(next_ms, min(before.until_ms + 1000 / rate, now_ms + 2 * own_ms))
    told = (next_ms - now_ms) * (1 + chance / 4)
    return replace(before, until_ms=next_ms), round(min(max(told, LEAST_MS), FAR_HORIZON_MS))


def audited(before: Promises, *, kept: bool) -> Promises:
    """The book once it is known whether a promise would have been kept."""
    moved = before.multiplier * (KEPT_SHRINKS if kept else BROKEN_GROWS)
    return replace(before, multiplier=min(MOST_MULTIPLIER, max(LEAST_MULTIPLIER, moved)))
