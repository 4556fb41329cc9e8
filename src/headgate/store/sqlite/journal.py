"""Remembered calls, fenced by the run's holder."""

from __future__ import annotations

from headgate.model.step import Step, StepState
from headgate.store.sqlite.operations import Operations
from headgate.store.sqlite.rows import Row, row_of_step
from headgate.store.sqlite.transaction import Transaction


class SqliteJournal:
    """`headgate.store.protocols.Journal`."""

    def __init__(self, writer: Operations) -> None:
        self._writer = writer

    async def begin(self, run_id: str, owner: str, term: int, step: Step) -> bool:
        fence = (run_id, owner, term)
        return await self._fenced(fence, "begin_step", row_of_step(step, StepState.BEGUN))

    async def record(self, run_id: str, owner: str, term: int, step: Step) -> bool:
        fence = (run_id, owner, term)
        return await self._fenced(fence, "record_step", row_of_step(step, StepState.DONE))

    async def forget(self, run_id: str, owner: str, term: int, key: str) -> bool:
        return await self._fenced((run_id, owner, term), "forget_step", (key,))

    async def _fenced(self, fence: tuple[str, str, int], statement: str, values: Row) -> bool:
        def operation(tx: Transaction) -> bool:
            # the statement itself looks at the fence; only where it wrote nothing is it to be found out why
            return tx.changed(statement, *fence, *values) > 0 or tx.row("fenced_run", *fence) is not None

        written: bool = await self._writer.submit(operation)
        return written
