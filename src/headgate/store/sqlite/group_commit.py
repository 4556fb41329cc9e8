"""Many operations, one commit.

Decides: which operations share a transaction, and what happens when one of them fails.

A group of operations runs inside one ``BEGIN IMMEDIATE`` … ``COMMIT``; their results are told only after the
commit, so an answer that was given survives power loss. If one raises, or the commit fails, everything is rolled
back and each operation is repeated in a transaction of its own, so that only the faulty one fails. Operations
must therefore be functions of the transaction alone: they may run twice.

Trade-off: an operation waits for its group (a few milliseconds at most), and one flush of the disk is shared by all
of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import apsw

from headgate.store.sqlite.connection import in_words
from headgate.store.sqlite.numbers import Numbers
from headgate.store.sqlite.transaction import Reading, Transaction

Answer = tuple[Any, Exception | None]
"""(value, None) or (None, error)."""

REMEMBERED_GROUPS = 32
"""For so many groups after another process wrote, the file counts as shared with it."""


class GroupCommit:
    """Carries out groups of write operations. Used by one thread."""

    def __init__(self, db: apsw.Connection, url: str) -> None:
        self._db = db
        self._url = url
        self._numbers = Numbers(Reading(db))
        self._tx = Transaction(db, self._numbers)
        self._shared_for = 0
        self.operations = 0
        self.commits = 0
        self.failures = 0

    @property
    def shared(self) -> bool:
        """Whether another process has written lately, so that it should get its turn between two groups."""
        return self._shared_for > 0

    def __call__(self, group: Sequence[Callable[[Transaction], Any]]) -> list[Answer]:
        """The answers of the operations, in order. Never raises an `Exception`."""
        self.operations += len(group)
        try:
            return self._carry_out(group)
        except Exception as error:  # noqa: BLE001 - even a failed rollback must be told, or its callers wait for ever
            return [self._failed(error) for _ in group]

    def _carry_out(self, group: Sequence[Callable[[Transaction], Any]]) -> list[Answer]:
        try:
            self._begin()
        except apsw.Error as error:
            self._roll_back()
            return [self._failed(error) for _ in group]
        try:
            return self._together(group)
        except Exception as error:  # noqa: BLE001 - whatever it raises is its caller's, once it is known whose
            self._roll_back()
            if len(group) == 1:
                return [self._failed(error)]
        except BaseException:
            self._roll_back()
            raise
        return [self._alone(operation) for operation in group]

    def _together(self, group: Sequence[Callable[[Transaction], Any]]) -> list[Answer]:
        tx = self._tx
        answers: list[Answer] = [(operation(tx), None) for operation in group]
        self._numbers.write(tx)
        self._db.execute("COMMIT")
        self._numbers.trim()
        self.commits += 1
        return answers

    def _alone(self, operation: Callable[[Transaction], Any]) -> Answer:
        try:
            self._begin()
            return self._together((operation,))[0]
        except Exception as error:  # noqa: BLE001 - as above: this operation's own failure
            self._roll_back()
            return self._failed(error)
        except BaseException:
            self._roll_back()
            raise

    def _begin(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._shared_for = REMEMBERED_GROUPS if self._numbers.begin() else max(0, self._shared_for - 1)

    def _roll_back(self) -> None:
        self._numbers.forget()
        if self._db.in_transaction:  # SQLite itself has rolled back after some errors
            self._db.execute("ROLLBACK")

    def _failed(self, error: Exception) -> Answer:
        self.failures += 1
        return None, in_words(error, self._url)


class Reads:
    """Carries out read operations, each on its own. Used by one thread."""

    def __init__(self, db: apsw.Connection, url: str) -> None:
        self._reading = Reading(db)
        self._url = url

    def __call__(self, group: Sequence[Callable[[Reading], Any]]) -> list[Answer]:
        answers: list[Answer] = []
        for operation in group:
            try:
                answers.append((operation(self._reading), None))
            except Exception as error:  # noqa: BLE001 - each operation fails alone, and its caller is told
                answers.append((None, in_words(error, self._url)))
        return answers
