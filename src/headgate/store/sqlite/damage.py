"""Rows that cannot be read back: found one by one, ended, and stepped over.

A single damaged row must not stop the loop that meets it: the run ends as ``failed`` with the reason
``undecodable``, which makes it a dead letter like any other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from headgate.errors import StoreError
from headgate.model.run import RunRecord
from headgate.store.sqlite import family, holds
from headgate.store.sqlite.numbers import recount
from headgate.store.sqlite.rows import RAW_RUN_COLUMNS, UNREADABLE, run_of, run_of_raw, step_of
from headgate.store.sqlite.transaction import Reading, Transaction

T = TypeVar("T")


def read_each(tx: Transaction, seqs: Iterable[int], read: Callable[[int], T], *, now_ms: int) -> list[T]:
    """What ``read`` makes of each run; those it cannot read are ended."""
    found = []
    ended = False
    for seq in seqs:
        try:
            found.append(read(seq))
        except UNREADABLE as error:
            tx.run("end_undecodable_run", seq, f"its row cannot be read back: {error}"[:500], now_ms)
            holds.settle(tx, (seq,), now_ms=now_ms)
            with suppress(*UNREADABLE):  # whom it belongs to may be what is damaged
                family.ended_seq(tx, seq, now_ms=now_ms)
            ended = True
    if ended:
        # Which counters the damaged row belonged to may be part of what is damaged.
        recount(tx)
    return found


def end_undecodable(tx: Transaction, seqs: Iterable[int], *, now_ms: int) -> None:
    """End those of the runs whose row or steps cannot be read."""

    def read(seq: int) -> None:
        run = tx.row("run_by_seq", seq)
        if run is not None:
            run_of(run)
        for row in tx.rows("steps_of_run", seq):
            step_of(row)

    read_each(tx, seqs, read, now_ms=now_ms)


def run_by_id(tx: Reading, run_id: str) -> RunRecord | None:
    """The run, with replacement characters where its text is damaged.

    Raises:
        StoreError: not even that is possible.
    """
    try:
        row = tx.row("run_by_id", run_id)
        return None if row is None else run_of(row)
    except UNREADABLE:
        return _raw_run(tx, run_id)


def runs_by_ids(tx: Reading, ids: str) -> list[RunRecord]:
    """The runs of a JSON list of ids, newest first, as `run_by_id` reads them."""
    try:
        return [run_of(row) for row in tx.rows("runs_of_ids", ids)]
    except UNREADABLE:
        found = [_raw_run(tx, run_id) for run_id in json.loads(ids)]
        return [run for run in found if run is not None]


def _raw_run(tx: Reading, run_id: str) -> RunRecord | None:
    row = tx.db.execute(f"SELECT {RAW_RUN_COLUMNS} FROM runs WHERE id = ?", (run_id,)).fetchone()  # noqa: S608 - a list of our own columns
    try:
        return None if row is None else run_of_raw(row)
    except UNREADABLE as error:
        raise StoreError(f"run {run_id} cannot be read back: {error}") from error
