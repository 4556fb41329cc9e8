"""What operators set by hand, and the record of it."""

from __future__ import annotations

import dataclasses

from headgate.model.control import Control, ControlChange, ControlKind
from headgate.store.sqlite.operations import Operations
from headgate.store.sqlite.rows import Row
from headgate.store.sqlite.transaction import Reading, Transaction

KEEP_RECORD_MS = 90 * 86400 * 1000
RECORD_AT_MOST = 10_000


class SqliteControls:
    """`headgate.store.protocols.Controls`."""

    def __init__(self, writer: Operations, reader: Operations) -> None:
        self._writer = writer
        self._reader = reader

    async def put(self, control: Control) -> Control | None:
        def keep(tx: Transaction) -> Control | None:
            before = _found(tx, control.target, control.kind, control.set_ms)
            tx.run("keep_control", *dataclasses.astuple(control))
            change = ControlChange(
                control.set_ms,
                control.target,
                control.kind,
                control.set_by,
                control.reason,
                None if before is None else before.words,
                control.words,
                control.until_ms,
            )
            _record(tx, change)
            return before

        replaced: Control | None = await self._writer.submit(keep)
        return replaced

    async def drop(self, target: str, kind: ControlKind, *, by: str, reason: str, now_ms: int) -> Control | None:
        def end(tx: Transaction) -> Control | None:
            before = _found(tx, target, kind, now_ms)
            tx.run("drop_control", target, kind.value)
            if before is not None:
                _record(tx, ControlChange(now_ms, target, kind, by, reason, before.words, None, None))
            return before

        ended: Control | None = await self._writer.submit(end)
        return ended

    async def all(self, *, now_ms: int) -> list[Control]:
        def read(tx: Reading) -> list[Control]:
            return [_control(row) for row in tx.rows("controls_in_force", now_ms)]

        controls: list[Control] = await self._reader.submit(read)
        return controls

    async def tenants(self, first: str, *, limit: int = 1000) -> list[str]:
        def read(tx: Reading) -> list[str]:
            return [tenant for (tenant,) in tx.rows("tenants_seen", first, max(0, limit))]

        seen: list[str] = await self._reader.submit(read)
        return seen

    async def changes(self, *, target: str | None = None, limit: int = 100) -> list[ControlChange]:
        def read(tx: Reading) -> list[ControlChange]:
            rows = tx.rows("control_changes", target, max(0, limit))
            return [ControlChange(at_ms, of, ControlKind(kind), *rest) for at_ms, of, kind, *rest in rows]

        told: list[ControlChange] = await self._reader.submit(read)
        return told


def _control(row: Row) -> Control:
    target, kind, *rest = row
    return dataclasses.replace(Control(target, ControlKind(kind), *rest), stops_running=bool(rest[-1]))


def _found(tx: Transaction, target: str, kind: ControlKind, now_ms: int) -> Control | None:
    """What is in force for a target; whatever has ended is cleared away first."""
    tx.run("drop_controls_that_ended", now_ms)
    row = tx.row("control_of", target, kind.value)
    return None if row is None else _control(row)


def _record(tx: Transaction, change: ControlChange) -> None:
    tx.run("keep_control_change", *dataclasses.astuple(change))
    tx.run("prune_control_changes", change.at_ms - KEEP_RECORD_MS, RECORD_AT_MOST)
