"""How many waiting runs will start before a given one, as far as known now.

Told by the virtual start that each run was given when it came in: where its tenant would stand if no estimate were
corrected, each tenant kept to ``fifo``, and nobody else came. While few are ahead they are counted in the index, up
to `COUNTED_AT_MOST`. Beyond that it is an estimate from the counters:
the lane's waiting runs are taken to be spread evenly between its virtual time and the largest start it gave.
Runs of the lanes that go first all count.

Counting a thousand entries for each of thousands of admissions a second would cost more than the admissions. So the
virtual start of the run at that place, the lane's *horizon*, is remembered until a run leaves the lane: what comes in
beyond it has at least so many ahead of it and is estimated without counting.
"""

from __future__ import annotations

from collections.abc import Sequence

from headgate.model.run import RunRecord, RunState
from headgate.store.sqlite.numbers import LaneTime, Queue
from headgate.store.sqlite.transaction import Reading, Transaction

COUNTED_AT_MOST = 1000
NOT_YET = 2**62
"""The number of a run that is not stored yet: it comes after all others."""


def position_in(tx: Transaction, run: RunRecord, seq: int, ahead_of: Sequence[str]) -> int:
    """The position of ``run`` inside a write transaction; 0 also when it does not wait."""
    if run.state is not RunState.QUEUED:
        return 0
    numbers = tx.numbers
    before = sum(numbers.queue("", "", lane).waiting for lane in dict.fromkeys(ahead_of) if lane != run.lane)
    return before + count_before(tx, run.lane, run.virtual_start, seq)


def count_before(tx: Transaction, lane: str, virtual_start: float, seq: int = NOT_YET) -> int:
    """How many waiting runs of its lane go before a run at this place, which need not be stored yet."""
    numbers = tx.numbers
    queue = numbers.queue("", "", lane)
    if queue.waiting > COUNTED_AT_MOST:
        if queue.horizon is None:
            row = tx.row("start_of_nth_in_lane", lane, COUNTED_AT_MOST)
            queue.horizon = None if row is None else row[0]
        if queue.horizon is not None and virtual_start > queue.horizon:
            return _estimate(virtual_start, queue.waiting, numbers.lane(lane))
    counted = _count(tx, lane, virtual_start, seq)
    if counted < COUNTED_AT_MOST:
        return counted
    return _estimate(virtual_start, queue.waiting, numbers.lane(lane))


def position_now(tx: Reading, run: RunRecord, seq: int, ahead_of: Sequence[str]) -> int:
    """The same from a snapshot that is only read."""
    if run.state is not RunState.QUEUED:
        return 0
    before = sum(_queue(tx, lane).waiting for lane in dict.fromkeys(ahead_of) if lane != run.lane)
    counted = _count(tx, run.lane, run.virtual_start, seq)
    if counted < COUNTED_AT_MOST:
        return before + counted
    row = tx.row("lane_numbers", run.lane)
    return before + _estimate(
        run.virtual_start, _queue(tx, run.lane).waiting, LaneTime() if row is None else LaneTime(*row)
    )


def _queue(tx: Reading, lane: str) -> Queue:
    row = tx.row("queue_numbers", "", "", lane)
    return Queue() if row is None else Queue(*row)


def _count(tx: Reading, lane: str, virtual_start: float, seq: int) -> int:
    row = tx.row("count_ahead_in_lane", lane, virtual_start, seq, COUNTED_AT_MOST)
    return 0 if row is None else int(row[0])


def _estimate(virtual_start: float, waiting: int, time: LaneTime) -> int:
    span = time.last_start - time.virtual_time
    part = 1.0 if span <= 0 else min(1.0, max(0.0, (virtual_start - time.virtual_time) / span))
    return max(COUNTED_AT_MOST, int(part * (waiting - 1)))
