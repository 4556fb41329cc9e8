"""Sub-runs, as their parents see them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.store.protocols import Ancestor, Child
from headgate.store.sqlite.claims import suspend
from headgate.store.sqlite.operations import Operations
from headgate.store.sqlite.transaction import Reading, Transaction


class SqliteChildren:
    """`headgate.store.child_protocols.Children`."""

    def __init__(self, writer: Operations, reader: Operations) -> None:
        self._writer = writer
        self._reader = reader

    async def of(self, run_id: str) -> list[Child]:
        children: list[Child] = await self._reader.submit(lambda tx: _of(tx, run_id))
        return children

    async def counts(self, run_id: str) -> Mapping[str, int]:
        counts: Mapping[str, int] = await self._reader.submit(lambda tx: dict(tx.rows("count_children", run_id)))
        return counts

    async def used_below(self, run_id: str) -> tuple[int, int]:
        row = await self._reader.submit(lambda tx: tx.row("used_below", run_id))
        return int(row[0] or 0), int(row[1] or 0)

    async def ancestors(self, run_id: str) -> list[Ancestor]:
        found: list[Ancestor] = await self._reader.submit(
            lambda tx: [Ancestor(*row) for row in tx.rows("ancestors_of_run", run_id)]
        )
        return found

    async def wait(
        self,
        run_id: str,
        owner: str,
        term: int,
        *,
        now_ms: int,
        branches: Sequence[Sequence[str]],
        wake_ms: int | None,
        detail: str,
        used_calls: int = 0,
        used_model_tokens: int = 0,
        used_money: float = 0.0,
        used_wall_ms: int = 0,
        cost: float | None = None,
    ) -> bool | None:
        wanted = [tuple(branch) for branch in branches]

        def wait_one(tx: Transaction) -> bool | None:
            row = tx.row("fenced_run", run_id, owner, term)
            if row is None:
                return None
            if not _keep_waits(tx, run_id, wanted):
                return False
            suspend(
                tx, row, now_ms=now_ms, wake_ms=wake_ms, reason=Reason.CHILDREN_WAIT.value, detail=detail,
                attempts=None, used_calls=used_calls, used_model_tokens=used_model_tokens, used_money=used_money,
                used_wall_ms=used_wall_ms, cost=cost,
            )  # fmt: skip
            return True

        waits: bool | None = await self._writer.submit(wait_one)
        return waits


def _keep_waits(tx: Transaction, run_id: str, branches: Sequence[Sequence[str]]) -> bool:
    """Note what the run waits for. False if some branch has nothing left to wait for."""
    every = sorted({child for branch in branches for child in branch})
    unfinished = {child for (child,) in tx.rows("unfinished_of_ids", json.dumps(every))}
    if any(unfinished.isdisjoint(branch) for branch in branches):
        return False
    tx.run("drop_waits_of_parent", run_id)
    tx.run_each(
        "keep_child_wait",
        [
            (child, run_id, number)
            for number, branch in enumerate(branches)
            for child in branch
            if child in unfinished
        ],
    )
    return True


def _of(tx: Reading, run_id: str) -> list[Child]:
    with tx.snapshot():
        rows = tx.rows("children_of_run", run_id)
        below = {}
        if any(spawned for *_, spawned, _, _, _, _, _, _, _, _ in rows):
            below = {top: used for top, *used in tx.rows("usage_below", run_id)}
    children = []
    for child_id, workflow, state, reason, detail, detached, _, *numbers in rows:
        may, used = numbers[:4], numbers[4:]
        ended = RunState(state).terminal
        calls, tokens, money, wall_ms = below.get(child_id, used) if ended else may
        children.append(
            Child(
                child_id,
                workflow,
                RunState(state),
                reason,
                detail,
                detached != 0,
                calls or 0,
                tokens or 0,
                money or 0.0,
                wall_ms or 0,
            )
        )
    return children
