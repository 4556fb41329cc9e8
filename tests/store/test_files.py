"""Which files are opened, how they are made, and what is said about the others."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from headgate.errors import StoreError
from headgate.store.open import open_store
from headgate.store.protocols import RunFilter
from headgate.testing.store_conformance_ground import Ground


def _open_and_fill(path: Path, runs: int = 3) -> None:
    async def main() -> None:
        ground = Ground(lambda: open_store(f"sqlite:///{path}", mode="inline"))
        await ground.enter()
        for _ in range(runs):
            await ground.admit(input='"' + "x" * 500 + '"')
        await ground.leave()

    asyncio.run(main())


def _refusal(url: str | Path) -> str:
    async def main() -> None:
        store = await open_store(f"sqlite:///{url}" if isinstance(url, Path) else url, mode="inline")
        await store.close()

    with pytest.raises(StoreError) as caught:
        asyncio.run(main())
    return str(caught.value)


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def _modes(directory: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()}


@pytest.mark.usefixtures("open_umask")
def test_files_are_their_owners(tmp_path: Path) -> None:
    async def main() -> None:
        ground = Ground(lambda: open_store(f"sqlite:///{tmp_path}/runs.db"))
        await ground.enter()
        await ground.admit()
        modes = _modes(tmp_path)
        assert modes == {"runs.db": 0o600, "runs.db-wal": 0o600, "runs.db-shm": 0o600}
        await ground.leave()

    asyncio.run(main())
    assert [file.name for file in tmp_path.iterdir()] == ["runs.db"], "closing leaves the one file"


def test_a_relative_path_is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        store = await open_store("sqlite:///runs%20here.db", mode="inline")
        await store.close()

    asyncio.run(main())
    assert (tmp_path / "runs here.db").exists()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://localhost/db", "not understood"),
        ("runs.db", "not understood"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite://host/runs.db", "names no file"),
        ("sqlite:///runs.db?mode=ro", "the only option"),
        ("sqlite:///runs.db?synchronous=never", "the only option"),
        ("sqlite:////nowhere/at/all/runs.db", "cannot be opened: No such file"),
    ],
)
def test_urls_that_name_no_store(url: str, words: str) -> None:
    assert words in _refusal(url)


def test_flushing_is_chosen_by_url(tmp_path: Path) -> None:
    async def main() -> None:
        for option, level in (("", 2), ("?synchronous=normal", 1), ("?synchronous=off", 0)):
            store = await open_store(f"sqlite:///{tmp_path}/runs.db{option}", mode="inline")
            writes, _ = store._connections  # type: ignore[attr-defined]  # the protocol has no connections
            assert writes.pragma("synchronous") == level
            await store.close()

    asyncio.run(main())


def test_an_unknown_mode_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="mode"):
        asyncio.run(open_store("sqlite:///runs.db", mode="fast"))  # type: ignore[arg-type]  # the mistake under test


def test_another_programs_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (a)")
    db.close()
    before = path.read_bytes()
    assert "another program" in _refusal(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["other.db"]


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("just some notes, a little longer than a header would be\n" * 40)
    assert "not a SQLite file" in _refusal(path)
    assert path.read_text().startswith("just some notes")


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    _open_and_fill(path)
    db = apsw.Connection(str(path))
    db.execute("INSERT INTO migrations (number, name, checksum) VALUES (99, 'tomorrow', 'x')")
    db.close()
    said = _refusal(path)
    assert "newer headgate" in said
    assert "upgrade" in said


def test_a_changed_migration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    _open_and_fill(path)
    db = apsw.Connection(str(path))
    db.execute("UPDATE migrations SET checksum = 'x' WHERE number = 1")
    db.close()
    assert "is not the one this headgate carries" in _refusal(path)


def test_a_damaged_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    _open_and_fill(path, runs=40)
    content = bytearray(path.read_bytes())
    for page in range(1, len(content) // 4096):
        content[page * 4096 : page * 4096 + 8] = b"\xff" * 8
    path.write_bytes(bytes(content))
    assert "damaged" in _refusal(path)


def test_a_truncated_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    _open_and_fill(path, runs=40)
    with path.open("r+b") as file:
        file.truncate(4096 * 3)
    assert "damaged" in _refusal(path)


def test_a_torn_write_ahead_log_loses_only_what_it_tore(tmp_path: Path) -> None:
    """A log cut off anywhere ends at its last whole commit, as after a power loss."""

    async def main() -> None:
        path = tmp_path / "runs.db"
        ground = Ground(lambda: open_store(f"sqlite:///{path}", mode="inline"))
        await ground.enter()
        for _ in range(10):
            await ground.admit()
        copy = tmp_path / "copy.db"
        log = (tmp_path / "runs.db-wal").read_bytes()
        found = []
        for kept in (0, len(log) // 3, len(log) - 100, len(log)):
            copy.write_bytes(path.read_bytes())
            (tmp_path / "copy.db-wal").write_bytes(log[:kept])
            other = await open_store(f"sqlite:///{copy}", mode="inline")
            runs = await other.runs.page(RunFilter())
            assert len(runs) <= 10
            found.append(len(runs))
            assert (await other.runs.overview()).states["queued"] == len(runs)
            await other.close()
        assert found[-1] == 10
        await ground.leave()

    asyncio.run(main())


@contextmanager
def _as_ordinary_user(folder: Path) -> Iterator[None]:
    """Root may write anywhere, so as root the body runs with the rights of the user ``nobody``."""
    if os.geteuid() != 0:
        yield
        return
    nobody = 65534
    ways = [
        above for above in folder.parents if above.is_relative_to(tempfile.gettempdir()) and above.owner() == "root"
    ]
    before = {way: way.stat().st_mode for way in ways}
    for way in ways:
        way.chmod(before[way] | 0o011)
    for mine in (folder, *folder.iterdir()):
        os.chown(mine, nobody, nobody)
    os.seteuid(nobody)
    try:
        yield
    finally:
        os.seteuid(0)
        for way in ways:
            way.chmod(before[way])


def test_a_read_only_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    _open_and_fill(path)
    with _as_ordinary_user(tmp_path):
        with path.open("r+b"):  # the same user may, while the file is writable
            path.chmod(0o400)
        assert "cannot be opened" in _refusal(path)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:hunter2@localhost/db",
        "sqlite://ann:hunter2@host/runs.db",
        "sqlite:///runs.db?password=hunter2",
    ],
)
def test_what_an_address_holds_is_not_repeated(url: str) -> None:
    assert "hunter2" not in _refusal(url)
