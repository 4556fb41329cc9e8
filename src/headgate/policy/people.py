"""Do people keep up with the questions that runs put to them?

Decides: which share of the new runs that will ask a queue of people is refused at the door. Source: proportional
shedding between two marks, as random early detection does for packets (Floyd and Jacobson, 1993).

Rule: nothing is refused while the queue is less than half full, or not filling. Above that, while more is asked than
answered, the share rises in proportion to how full it is, up to that of the runs that will ask, which nobody can tell
from the others at the door: of a workflow of whose runs two in five ask, a full queue refuses two in five. Filling is
judged over the last minute, so that one question more is no alarm after a quiet hour.

Invariants: the share is within 0 and 1, and never falls as the queue gets fuller while it fills.

Trade-off: runs that were admitted before and have not asked yet are not seen; a queue may fill up with their
questions, and asking is then refused to them.
"""

from __future__ import annotations

from dataclasses import dataclass

WINDOW_MS = 60_000
LIKELY_AT_LEAST = 0.1
"""Runs whose questions were refused do not end well and teach nothing, so a learned part may be too small."""
HALF = 0.5
"""Below this part of the depth nothing is refused."""
_MARK_MS = 5_000


@dataclass(frozen=True, slots=True)
class Trend:
    """What was seen of one queue of people."""

    waiting: int = 0
    oldest_ms: int | None = None
    """When the oldest waiting question was asked."""
    at_ms: int = 0
    marks: tuple[tuple[int, int], ...] = ()
    """(moment, questions that waited), one every few seconds of the last minute, oldest first."""


def follow(before: Trend, *, waiting: int, oldest_ms: int | None, now_ms: int) -> Trend:
    """The trend after one more look; looks come about once a second."""
    marks = before.marks
    if not marks or now_ms - marks[-1][0] >= _MARK_MS:
        marks = (*marks, (now_ms, waiting))
    while len(marks) > 1 and marks[1][0] <= now_ms - WINDOW_MS:
        marks = marks[1:]
    return Trend(waiting, oldest_ms, now_ms, marks)


def refused_share(trend: Trend, *, depth: int, asks: float = 1.0) -> float:
    """The share (0..1) of new runs that are not taken in, for a queue that takes ``depth`` ≥ 1 questions, of which a
    run asks ``asks`` ≥ 0 on average."""
    likely = min(1.0, max(LIKELY_AT_LEAST, asks))
    if trend.waiting >= depth:
        return likely
    filling = bool(trend.marks) and trend.waiting > trend.marks[0][1]
    fill = trend.waiting / depth
    return likely * (fill - HALF) / (1 - HALF) if filling and fill > HALF else 0.0


def answers_per_s(trend: Trend) -> float | None:
    """About how many questions are answered in a second, from how long the oldest has waited; ``None``: unknown."""
    if trend.oldest_ms is None or not trend.waiting or trend.at_ms <= trend.oldest_ms:
        return None
    return 1000 * trend.waiting / (trend.at_ms - trend.oldest_ms)
