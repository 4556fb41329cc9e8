"""How many waiting runs will start before a given one.

Exact while few are ahead: counted in the index, up to `COUNTED_AT_MOST`. Beyond that an estimate from the counters:
the lane's waiting runs are taken to be spread evenly between its virtual time and the largest start it gave.
Runs of the lanes that go first all count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from headgate.model.run import RunRecord, RunState
from headgate.store.sqlite.transaction import Reading

COUNTED_AT_MOST = 1000


class _Counted(Protocol):
    waiting: int


class QueueOf(Protocol):
    """Where the counters of a scope come from."""

    def __call__(self, workflow: str, tenant: str, lane: str, /) -> _Counted: ...


def waiting_in(queue_of: QueueOf, lanes: Iterable[str]) -> int:
    """Waiting runs of all these lanes; a lane named twice counts once."""
    return sum(queue_of("", "", lane).waiting for lane in dict.fromkeys(lanes))


def position_of(tx: Reading, run: RunRecord, seq: int, queue_of: QueueOf, ahead_of: Sequence[str]) -> int:
    """The position of ``run``; 0 also when it does not wait."""
    if run.state is not RunState.QUEUED:
        return 0
    before = waiting_in(queue_of, (lane for lane in ahead_of if lane != run.lane))
    row = tx.row("count_ahead_in_lane", run.lane, run.virtual_start, run.submitted_ms, seq, COUNTED_AT_MOST)
    counted = 0 if row is None else int(row[0])
    if counted < COUNTED_AT_MOST:
        return before + counted
    return before + max(COUNTED_AT_MOST, _estimate(tx, run, queue_of("", "", run.lane).waiting))


def _estimate(tx: Reading, run: RunRecord, waiting: int) -> int:
    row = tx.row("lane_numbers", run.lane)
    if row is None:
        return waiting - 1
    virtual_time, last_start = row
    span = last_start - virtual_time
    part = 1.0 if span <= 0 else min(1.0, max(0.0, (run.virtual_start - virtual_time) / span))
    return int(part * (waiting - 1))
