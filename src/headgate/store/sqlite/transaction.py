"""What an operation works with: the named statements on one connection, and the numbers of its transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import apsw

from headgate.store.sqlite.rows import Row
from headgate.store.sqlite.statements import STATEMENTS

if TYPE_CHECKING:
    from headgate.store.sqlite.numbers import Numbers


class Reading:
    """Named statements on one connection."""

    __slots__ = ("_execute", "db")

    def __init__(self, db: apsw.Connection) -> None:
        self.db = db
        self._execute: Any = db.execute

    def rows(self, name: str, *values: Any) -> list[Row]:
        """Every row of the statement ``name``."""
        found: list[Row] = self._execute(STATEMENTS[name], values).fetchall()
        return found

    def row(self, name: str, *values: Any) -> Row | None:
        """The first row, if there is one."""
        found: Row | None = self._execute(STATEMENTS[name], values).fetchone()
        return found

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Everything read inside shows one moment."""
        self.db.execute("BEGIN")
        try:
            yield
        finally:
            self.db.execute("COMMIT")


class Transaction(Reading):
    """A `Reading` that may write; ``numbers`` are written back before its commit."""

    __slots__ = ("numbers",)

    def __init__(self, db: apsw.Connection, numbers: Numbers) -> None:
        super().__init__(db)
        self.numbers = numbers

    def run(self, name: str, *values: Any) -> None:
        """Carry out the statement ``name``."""
        self._execute(STATEMENTS[name], values)

    def changed(self, name: str, *values: Any) -> int:
        """Carry out the statement and say how many rows it wrote."""
        self._execute(STATEMENTS[name], values)
        return int(self.db.changes())

    def run_each(self, name: str, values: Iterable[Row]) -> None:
        """Carry out the statement once for each tuple."""
        self.db.executemany(STATEMENTS[name], values)
