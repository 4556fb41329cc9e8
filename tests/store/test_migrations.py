"""Migrations run once each, in order, whole or not at all, also when many open at once."""

from __future__ import annotations

import threading
from pathlib import Path

import apsw
import pytest

from headgate.errors import StoreError
from headgate.store.sqlite.connection import connect_writer, create_file
from headgate.store.sqlite.migrations import Migration, known_migrations, migrate

FIRST = Migration(1, "first", "CREATE TABLE a (x); INSERT INTO a VALUES (1);")
SECOND = Migration(2, "second", "ALTER TABLE a ADD COLUMN y; INSERT INTO a VALUES (2, 3);")
BROKEN = Migration(2, "broken", "CREATE TABLE b (x); INSERT INTO nowhere VALUES (1);")

RELEASED = {
    1: "d91dea2d090f1b4a",
    2: "287265f6fb9658ab",
    3: "389470e2e019e7c6",
    4: "40fcb0087f5f1271",
    5: "c7336e3c0eeb6012",
    6: "634ba4e6567d56ee",
    7: "b69b67eb9ca5a422",
    8: "8a1b714702c80a95",
    9: "1693859519c2638b",
}
"""How the checksum of each released migration begins; a released file never changes."""


def _connect(path: Path) -> apsw.Connection:
    create_file(path)
    return connect_writer(path, synchronous="off")


def test_they_run_once_and_in_order(tmp_path: Path) -> None:
    db = _connect(tmp_path / "a.db")
    assert migrate(db, url="a", known=(FIRST,)) == 1
    assert migrate(db, url="a", known=(FIRST,)) == 0
    assert migrate(db, url="a", known=(FIRST, SECOND)) == 1
    assert db.execute("SELECT * FROM a").fetchall() == [(1, None), (2, 3)]
    assert [row[0] for row in db.execute("SELECT number FROM migrations")] == [1, 2]
    db.close()


def test_a_failing_one_changes_nothing(tmp_path: Path) -> None:
    db = _connect(tmp_path / "a.db")
    migrate(db, url="a", known=(FIRST,))
    with pytest.raises(apsw.SQLError, match="nowhere"):
        migrate(db, url="a", known=(FIRST, BROKEN))
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert tables == {"a", "migrations"}
    assert migrate(db, url="a", known=(FIRST, SECOND)) == 1
    db.close()


def test_a_changed_one_is_refused(tmp_path: Path) -> None:
    db = _connect(tmp_path / "a.db")
    migrate(db, url="a", known=(FIRST,))
    changed = Migration(1, "first", FIRST.sql + " ")
    with pytest.raises(StoreError, match="is not the one this headgate carries"):
        migrate(db, url="a", known=(changed, SECOND))
    db.close()


def test_many_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    counts: list[int] = []
    start = threading.Barrier(6)

    def open_one() -> None:
        start.wait()
        db = _connect(tmp_path / "a.db")
        counts.append(migrate(db, url="a", known=(FIRST, SECOND)))
        db.close()

    threads = [threading.Thread(target=open_one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counts) == [0, 0, 0, 0, 0, 2]


def test_released_files_never_change() -> None:
    known = {migration.number: migration.checksum[:16] for migration in known_migrations()}
    assert known == RELEASED
