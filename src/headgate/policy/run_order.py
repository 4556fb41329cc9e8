"""The order of runs inside one tenant and user of a lane.

Decides: the number by which a waiting run is sorted, and whether the lane serves its newest runs first now.

Rules: ``fifo`` and ``newest`` sort by when the run came in, ``deadline`` by its deadline. A run without a deadline
counts as one whose deadline is `NO_DEADLINE_MS` after it came in, so that it is not passed over for ever. ``newest``
turns the order round only while the lane is overloaded, that is, while its oldest run has waited longer than half of
the lane's patience (``max_wait``): then the oldest would be late anyway, and the newest can still be in time.

Source: adaptive LIFO (Facebook, "Fail at Scale", ACM Queue 2015); earliest deadline first (Liu and Layland, 1973).
"""

from __future__ import annotations

from enum import StrEnum

NO_DEADLINE_MS = 86_400_000


class RunOrder(StrEnum):
    """Which of a user's runs is next."""

    FIFO = "fifo"
    DEADLINE = "deadline"
    NEWEST = "newest"


def sorted_by(order: RunOrder, *, submitted_ms: int, deadline_ms: int | None) -> int:
    """The number by which a run is sorted, in milliseconds since the epoch."""
    if order is not RunOrder.DEADLINE:
        return submitted_ms
    return submitted_ms + NO_DEADLINE_MS if deadline_ms is None else deadline_ms


def newest_after_ms(order: RunOrder, max_wait_s: float | None) -> int | None:
    """From which age of its oldest run a lane serves its newest first; ``None``: never."""
    return None if order is not RunOrder.NEWEST or max_wait_s is None else round(500 * max_wait_s)


def overloaded(oldest_ms: int | None, newest_after: int, *, now_ms: int) -> bool:
    """Whether a lane whose oldest run came in at ``oldest_ms`` serves its newest first now."""
    return oldest_ms is not None and now_ms - oldest_ms > newest_after
