"""The SQLite store: a file, one connection that writes, one that reads, and the aggregates on top."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

import apsw

from headgate.store.protocols import StoreStatistics
from headgate.store.sqlite.admissions import SqliteAdmissions
from headgate.store.sqlite.approvals import SqliteApprovals
from headgate.store.sqlite.children import SqliteChildren
from headgate.store.sqlite.claims import SqliteClaims
from headgate.store.sqlite.connection import connect_reader, connect_writer, create_file, in_words
from headgate.store.sqlite.controls import SqliteControls
from headgate.store.sqlite.dead_letters import SqliteDeadLetters
from headgate.store.sqlite.group_commit import GroupCommit, Reads
from headgate.store.sqlite.holds import SqliteHolds
from headgate.store.sqlite.journal import SqliteJournal
from headgate.store.sqlite.keys import SqliteKeys
from headgate.store.sqlite.migrations import migrate
from headgate.store.sqlite.operations import InlineOperations, Operations, ThreadOperations
from headgate.store.sqlite.profiles import SqliteProfiles
from headgate.store.sqlite.reports import SqliteReports
from headgate.store.sqlite.runs import SqliteRuns
from headgate.store.sqlite.upkeep import SqliteUpkeep


class SqliteStore:
    """`headgate.store.protocols.Store` on one SQLite file. Made by `open_sqlite`."""

    def __init__(
        self,
        url: str,
        path: Path,
        connections: tuple[apsw.Connection, apsw.Connection],
        group_commit: GroupCommit,
        writer: Operations,
        reader: Operations,
    ) -> None:
        self._url = url
        self._path = path
        self._connections = connections
        self._group_commit = group_commit
        self._writer = writer
        self._reader = reader
        self._closing: asyncio.Lock = asyncio.Lock()
        self._closed = False
        self.admissions = SqliteAdmissions(writer)
        self.runs = SqliteRuns(writer, reader)
        self.claims = SqliteClaims(writer)
        self.journal = SqliteJournal(writer)
        self.upkeep = SqliteUpkeep(writer, reader)
        self.keys = SqliteKeys(writer, reader)
        self.approvals = SqliteApprovals(writer, reader)
        self.controls = SqliteControls(writer, reader)
        self.children = SqliteChildren(writer, reader)
        self.profiles = SqliteProfiles(writer, reader)
        self.dead_letters = SqliteDeadLetters(writer, reader)
        self.holds = SqliteHolds(reader)
        self.reports = SqliteReports(writer, reader)

    async def close(self) -> None:
        async with self._closing:
            if self._closed:
                return
            self._closed = True
            await self._writer.close()
            await self._reader.close()
            writes, reads = self._connections
            reads.close()
            writes.close()  # the last one out moves the write-ahead log into the file

    def statistics(self) -> StoreStatistics:
        done = self._group_commit
        return StoreStatistics(
            self._url,
            done.operations,
            done.commits,
            self._writer.waiting + self._reader.waiting,
            done.failures,
            {
                "file_bytes": float(_size(self._path)),
                "wal_bytes": float(_size(self._path.with_name(self._path.name + "-wal"))),
                "operations_per_commit": done.operations / done.commits if done.commits else 0.0,
            },
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # not there: SQLite removes the log when the last connection closes
        return 0


async def open_sqlite(url: str, path: Path, *, mode: Literal["thread", "inline"], synchronous: str) -> SqliteStore:
    """Open (and, if it is new, make) the store in the file ``path``.

    Raises:
        StoreError: it cannot be opened, is not ours, is damaged, or was written by a newer version.
    """

    def prepare() -> tuple[apsw.Connection, apsw.Connection]:
        try:
            create_file(path)
            writes = connect_writer(path, synchronous=synchronous)
            try:
                migrate(writes, url=url)
                return writes, connect_reader(path)
            except BaseException:
                writes.close()
                raise
        except apsw.Error as error:
            raise in_words(error, url) from error

    writes, reads = prepare() if mode == "inline" else await asyncio.to_thread(prepare)
    group_commit = GroupCommit(writes, url)
    writer: Operations
    reader: Operations
    if mode == "inline":
        writer = InlineOperations(group_commit)
        reader = InlineOperations(Reads(reads, url))
    else:
        writer = ThreadOperations("headgate-writer", group_commit, yield_after=lambda: group_commit.shared)
        reader = ThreadOperations("headgate-reader", Reads(reads, url))
    return SqliteStore(url, path, (writes, reads), group_commit, writer, reader)
