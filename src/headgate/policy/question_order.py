"""In which order are people shown what waits for them, and who gives way when the queue is full?

Decides: the order of a queue of people; which waiting question gives its place to a new one.

Source: earliest deadline first (Liu and Layland, 1973) within fixed priorities. In an overload that order spends
its time on what is just too late (the domino effect; Buttazzo, 1997), therefore what can hardly be answered in time
is put behind all others.

Rule: questions of the lane that is listed first in the file come first. Within a lane, first what is needed first:
by the moment at which its run's deadline passes or the question expires, whichever is earlier; then the older one.
Questions with less time left than three in four answers take come last, in the same order; those with none left are
not shown. When the queue is full, a question takes the place of one of a later lane: of the latest lane, the one
that is needed last, because nobody is likely to be at it yet. Without one of a later lane there is no room.

Invariants: the order is total; no question gives way to one of the same or a later lane.

Trade-off: what comes in earlier lanes holds up later ones for as long as it comes. Somebody who has begun to think
about a question is not known here: it may give way, and its id is then not found any more.
"""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """Where a question stands; the smaller the earlier."""

    late: bool
    """Whether it can hardly be answered in time."""
    rank: int
    """Of its lane; 0 is the lane that is listed first."""
    needed_ms: int
    """After this moment nobody needs the answer."""
    asked_ms: int


def place(*, rank: int, asked_ms: int, expires_ms: int, deadline_ms: int | None, now_ms: int, takes_ms: int) -> Place:
    """The place of a question, when an answer mostly takes ``takes_ms`` ≥ 0."""
    needed_ms = expires_ms if deadline_ms is None else min(expires_ms, deadline_ms)
    return Place(needed_ms < now_ms + takes_ms, rank, needed_ms, asked_ms)


def gives_way(last: Place, new: Place) -> bool:
    """Whether the question of a full queue that is needed last in its latest lane gives its place to a new one."""
    return last.rank > new.rank
