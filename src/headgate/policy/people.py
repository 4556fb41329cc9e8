"""Do people keep up with the questions that runs put to them, and would the question of a new run be answered in
time?

Decides: the pace of a queue of people; which share of the new runs that will ask is refused at the door for want of
room, and whether one is refused because its question would probably be answered too late.

Source: proportional shedding between two marks, as random early detection does for packets (Floyd and Jacobson,
1993), for the room; for the time, the operational laws of queues (Denning and Buzen, 1978): a wait is what stands
before, by the rate that is left to it.

Rule: nothing is refused for want of room while the queue is less than half full, or not filling; what would give
way to the new run's question is not counted. Above that, while more is asked than answered, the share rises in
proportion to how full it is, up to that of the runs that will ask, which nobody can tell from the others at the
door. Filling is judged over the last minute, so that one question more is no alarm after a quiet hour.

One answer takes a person as long as lies between two answers of the same person, or between a question and its
answer, whichever is less; the median of the latest forty counts. The pace is as many people as gave those, at that
time each. While questions wait and nobody answers, it falls. A question waits for those before it in the list, for
those that runs before it will ask, and for those of earlier lanes that come meanwhile. Where at least every second
run asks, and the question would come too late, the run would probably fail, and is refused.

Invariants: the share is within 0 and 1, and never falls as the queue gets fuller while it fills; the pace is finite
and positive; a wait is never shorter than one answer takes, and never falls as more stands before it.

Trade-off: of a workflow whose runs seldom ask nothing is refused for want of time, because most of what was refused
would have needed nobody; those that ask while people are behind may end without an answer. How long a flood of
earlier lanes will last is not known: it is taken to go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

ANSWERS_REMEMBERED = 40
"""The latest answers of a queue that its pace is told from."""
ENOUGH = 3
"""Answers from which on there is a pace."""
PROBABLY = 0.5
"""From this chance to ask on, what is not answered in time is refused."""
SILENCES = 3.0
"""A pace of one answer in a second is believed through three seconds of silence, and so on."""
LEFT_AT_LEAST = 0.1
"""Part of the pace that is taken to be left by earlier lanes, however much they ask."""
WINDOW_MS = 60_000
LIKELY_AT_LEAST = 0.1
"""Runs whose questions were refused do not end well and teach nothing, so a learned part may be too small."""
HALF = 0.5
"""Below this part of the depth nothing is refused for want of room."""
_MARK_MS = 5_000


class Answered(NamedTuple):
    """One answer that somebody gave."""

    asked_ms: int
    decided_ms: int
    by: str


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a queue of people answers."""

    people: int
    """Who answered lately."""
    takes_s: float
    """What one answer takes a person: half took less."""
    mostly_s: float
    """Three in four took no longer."""

    @property
    def per_s(self) -> float:
        """Answers in a second while there are enough questions."""
        return self.people / self.takes_s


def pace(answers: Sequence[Answered]) -> Pace | None:
    """The pace from the latest answers, in any order; ``None``: too few are known."""
    latest = sorted(answers, key=lambda one: one.decided_ms)[-ANSWERS_REMEMBERED:]
    if len(latest) < ENOUGH:
        return None
    before: dict[str, int] = {}
    took_ms = []
    for one in latest:
        took_ms.append(max(1, one.decided_ms - max(one.asked_ms, before.get(one.by, one.asked_ms))))
        before[one.by] = one.decided_ms
    took_ms.sort()
    count = len(took_ms)
    return Pace(len(before), took_ms[count // 2] / 1000, took_ms[min(count - 1, 3 * count // 4)] / 1000)


def slowed(known: Pace, *, silent_s: float) -> float:
    """Answers in a second, when questions have waited for ``silent_s`` ≥ 0 without one."""
    return min(known.per_s, SILENCES / silent_s) if silent_s > 0 else known.per_s


def wait_s(known: Pace, *, per_s: float, before: float, comes_per_s: float = 0.0) -> float:
    """Seconds until a question is answered that has so many ``before`` it, while ``comes_per_s`` more of earlier
    lanes are put in a second and ``per_s`` > 0 are answered."""
    left = max(per_s - comes_per_s, LEFT_AT_LEAST * per_s)
    return max(0.0, before - known.people + 1) / left + known.takes_s


def would_fail(*, asks: float, wait_s: float, longest_s: float) -> bool:
    """Whether a run that asks ``asks`` ≥ 0 times on average would probably fail, if its answer comes after ``wait_s``
    and may come after ``longest_s`` at the latest."""
    return likely(asks) >= PROBABLY and wait_s > longest_s


@dataclass(frozen=True, slots=True)
class Trend:
    """What was seen of one queue, without the questions that would give way."""

    waiting: int = 0
    marks: tuple[tuple[int, int], ...] = ()
    """(moment, questions that waited), one every few seconds of the last minute, oldest first."""


def follow(before: Trend, *, waiting: int, now_ms: int) -> Trend:
    """The trend after one more look; looks come about once a second."""
    marks = before.marks
    if not marks or now_ms - marks[-1][0] >= _MARK_MS:
        marks = (*marks, (now_ms, waiting))
    while len(marks) > 1 and marks[1][0] <= now_ms - WINDOW_MS:
        marks = marks[1:]
    return Trend(waiting, marks)


def likely(asks: float) -> float:
    """The chance (0..1) that a run asks, if such runs ask ``asks`` ≥ 0 times on average."""
    return min(1.0, max(LIKELY_AT_LEAST, asks))


def short_of_room(trend: Trend, *, depth: int) -> float:
    """How short (0..1) of room a queue is that takes ``depth`` ≥ 1 questions."""
    if trend.waiting >= depth:
        return 1.0
    filling = bool(trend.marks) and trend.waiting > trend.marks[0][1]
    fill = trend.waiting / depth
    return (fill - HALF) / (1 - HALF) if filling and fill > HALF else 0.0
