"""Remembered calls, fenced by the run's holder."""

from __future__ import annotations

from collections.abc import Callable

from headgate.model.step import Step, StepState
from headgate.store.sqlite.operations import Operations
from headgate.store.sqlite.rows import row_of_step
from headgate.store.sqlite.transaction import Transaction


class SqliteJournal:
    """`headgate.store.protocols.Journal`."""

    def __init__(self, writer: Operations) -> None:
        self._writer = writer

    async def begin(self, run_id: str, owner: str, term: int, step: Step) -> bool:
        return await self._fenced(
            run_id, owner, term, lambda tx, seq: tx.run("keep_begun_step", *row_of_step(seq, step, StepState.BEGUN))
        )

    async def record(self, run_id: str, owner: str, term: int, step: Step) -> bool:
        return await self._fenced(
            run_id, owner, term, lambda tx, seq: tx.run("keep_done_step", *row_of_step(seq, step, StepState.DONE))
        )

    async def forget(self, run_id: str, owner: str, term: int, key: str) -> bool:
        return await self._fenced(run_id, owner, term, lambda tx, seq: tx.run("forget_begun_step", seq, key))

    async def _fenced(self, run_id: str, owner: str, term: int, write: Callable[[Transaction, int], None]) -> bool:
        def operation(tx: Transaction) -> bool:
            row = tx.row("fenced_run", run_id, owner, term)
            if row is None:
                return False
            write(tx, row[0])
            return True

        written: bool = await self._writer.submit(operation)
        return written
