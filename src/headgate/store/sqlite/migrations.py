"""Numbered migrations: each once, in order, in one transaction, with a checksum of what was carried out.

Refused: a store with a migration this version does not know (written by a newer one), and one whose known
migration had another text. Safe when several processes open a new file at once: they take turns.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import apsw

from headgate.errors import StoreError
from headgate.store.sqlite.connection import APPLICATION_ID

_FILE = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the layout's history. Its file never changes once it was released."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def known_migrations() -> tuple[Migration, ...]:
    """Those of this version, in order.

    Raises:
        ValueError: their numbers are not 1, 2, 3, …
    """
    found = []
    for file in files(__package__).joinpath("migrations").iterdir():
        match = _FILE.match(file.name)
        if match:
            found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError("migrations must be numbered 1, 2, 3, … without gaps")
    return tuple(found)


def migrate(db: apsw.Connection, *, url: str, known: tuple[Migration, ...] | None = None) -> int:
    """Bring the store to this version's layout; returns how many migrations were carried out.

    Raises:
        StoreError: the store was written by a newer version, or its history is not ours.
    """
    migrations = known_migrations() if known is None else known
    if _missing(db, migrations, url) == ():
        return 0
    db.execute("BEGIN IMMEDIATE")
    try:
        missing = _missing(db, migrations, url)
        for migration in missing:
            db.execute(migration.sql)
            db.execute(
                "INSERT INTO migrations (number, name, checksum) VALUES (?, ?, ?)",
                (migration.number, migration.name, migration.checksum),
            )
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return len(missing)


def _missing(db: apsw.Connection, migrations: tuple[Migration, ...], url: str) -> tuple[Migration, ...]:
    there = db.execute("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'migrations'").get
    if not there:
        if not db.in_transaction:
            return migrations
        db.pragma("application_id", APPLICATION_ID)
        db.execute("CREATE TABLE migrations (number INTEGER PRIMARY KEY, name TEXT, checksum TEXT) STRICT")
    done: list[Any] = db.execute("SELECT number, name, checksum FROM migrations ORDER BY number").fetchall()
    for number, name, checksum in done:
        if number > len(migrations):
            raise StoreError(
                f"the store {url} was written by a newer headgate (migration {number}, {name}; this one knows "
                f"{len(migrations)}); upgrade headgate, or open another store"
            )
        if migrations[number - 1].checksum != checksum:
            raise StoreError(
                f"the store {url}: migration {number} ({name}) is not the one this headgate carries; its history "
                "was changed, so it is not touched"
            )
    return migrations[len(done) :]
