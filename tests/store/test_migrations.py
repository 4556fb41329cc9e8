"""Migrations run once each, in order, whole or not at all, also when many open at once."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import apsw
import pytest

from headgate.errors import StoreError
from headgate.model.run import RunState
from headgate.store.open import open_store
from headgate.store.protocols import RunEnd, RunFilter
from headgate.store.sqlite.connection import connect_writer, create_file
from headgate.store.sqlite.migrations import Migration, known_migrations, migrate
from headgate.testing.store_conformance_ground import LEASE, NOW, Ground

from .flow_counts import check_flows

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
    10: "a06f25ced3b42406",
    11: "2ffd2c9395f5b913",
    12: "5a255f8e87fc0b89",
    13: "266b2dbd0e378f65",
    14: "52539cc738e893a7",
    15: "7cb3ae8fa7d73909",
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


def test_what_waits_keeps_its_turn_when_flows_come(tmp_path: Path) -> None:
    """A store from before flows: its waiting runs are found, in the old order, and its counts are right."""
    path = tmp_path / "runs.db"
    db = _connect(path)
    flows = next(migration.number for migration in known_migrations() if migration.name == "flows")
    before = tuple(migration for migration in known_migrations() if migration.number < flows)
    migrate(db, url="a", known=before)
    # (tenant, user, workflow, virtual start, available, state): a has 0, 1, 2 and b stands at 1; one is running
    rows = [
        ("a", None, "triage", 0.0, NOW, "running"),
        ("a", "ann", "triage", 1.0, NOW, "queued"),
        ("a", None, "report", 2.0, NOW, "queued"),
        ("b", None, "triage", 1.0, NOW, "queued"),
        ("b", None, "triage", 2.0, NOW + 500, "queued"),
    ]
    for seq, (tenant, user, workflow, start, available, state) in enumerate(rows, start=1):
        db.execute(
            "INSERT INTO runs (seq, id, origin_id, workflow, tenant, user, lane, state, input, input_bytes, cost, "
            "virtual_start, submitted_ms, available_ms, body_hash, term, owner, lease_until_ms, due_ms) "
            "VALUES (?, ?, ?, ?, ?, ?, 'standard', ?, '{}', 2, 1.0, ?, ?, ?, '', ?, ?, ?, ?)",
            (seq, f"run-{seq}", f"run-{seq}", workflow, tenant, user, state, start, NOW, available,
             *((1, "w1", NOW + LEASE, NOW + LEASE) if state == "running" else (0, None, None, None))),
        )  # fmt: skip
    for scope, waiting, running in (
        (("triage", "", ""), 3, 1), (("report", "", ""), 1, 0), (("", "", "standard"), 4, 1),
        (("triage", "a", ""), 1, 1), (("report", "a", ""), 1, 0), (("triage", "b", ""), 2, 0),
    ):  # fmt: skip
        db.execute(
            "INSERT INTO queues VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, 1)",
            (*scope, waiting, 2 * waiting, waiting, running),
        )
    db.execute("INSERT INTO lanes VALUES ('standard', 0.0, 2.0)")
    db.execute("INSERT INTO tenants VALUES ('standard', 'a', 3.0), ('standard', 'b', 3.0), ('standard', 'gone', 9.0)")
    db.close()

    async def main() -> None:
        ground = Ground(lambda: open_store(f"sqlite:///{path}", mode="inline"))
        await ground.enter()
        check_flows(path)
        both = ("triage", "report")
        (late,) = [run for run in await ground.store.runs.page(RunFilter()) if run.id == "run-5"]
        assert await ground.store.runs.position(late, ahead_of=()) == 3
        claims = await ground.claim(9, workflows=both)
        assert [claim.run.id for claim in claims][:3] == ["run-2", "run-4", "run-3"]
        assert [claim.run.id for claim in await ground.claim(now_ms=NOW + 500, workflows=both)] == ["run-5"]
        assert await ground.store.claims.finish(
            [RunEnd("run-1", "w1", 1, RunState.SUCCEEDED, "succeeded", NOW, cost=6.0)]
        ) == [True]
        check_flows(path)
        assert (await ground.admit(tenant="a")).virtual_start == 8.0  # 1 and its two, and 5 more than it was charged
        assert (await ground.admit(tenant="gone")).virtual_start == 9.0
        await ground.leave()

    asyncio.run(main())
