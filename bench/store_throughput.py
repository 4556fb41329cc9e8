"""How fast the SQLite store is, beside what SQLite itself allows in the same run.

    python bench/store_throughput.py [--runs 20000] [--directory DIR]

Prints operations per second for: one caller admitting one run after the other; 200 concurrent callers; claiming and
finishing in batches; the whole way of a run (admit, claim, finish). The last is set in relation to the bare minimum:
insert, claim, complete of the same rows through apsw, in batches of the same size, with the same durability.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import apsw

from headgate.model.run import RunState
from headgate.store.open import open_store
from headgate.store.protocols import ClaimRequest, DepthBound, RunEnd, RunOffer, Store
from headgate.testing.store_conformance_ground import LEASE, NOW, Ground

BATCH = 200
BOUNDS = (
    DepthBound("workflow:triage", workflow="triage", depth=10_000_000, bytes=1 << 40),
    DepthBound("tenant:acme", workflow="triage", tenant="acme", depth=10_000_000),
    DepthBound("lane:standard", lane="standard", depth=10_000_000),
)


def raw_loop(path: Path, runs: int) -> float:
    """Insert, claim and complete ``runs`` rows in batches; returns runs per second."""
    db = apsw.Connection(str(path))
    db.execute("PRAGMA journal_mode = wal")
    db.execute("PRAGMA synchronous = full")
    db.execute("CREATE TABLE jobs (seq INTEGER PRIMARY KEY, id TEXT UNIQUE, state TEXT, owner TEXT, input TEXT)")
    db.execute("CREATE INDEX waiting ON jobs (seq) WHERE state = 'queued'")
    began = time.perf_counter()
    for first in range(0, runs, BATCH):
        db.execute("BEGIN IMMEDIATE")
        for number in range(first, first + BATCH):
            db.execute("INSERT INTO jobs (id, state, input) VALUES (?, 'queued', ?)", (f"{number:036}", '{"a":1}'))
        db.execute("COMMIT")
    for _ in range(0, runs, BATCH):
        db.execute("BEGIN IMMEDIATE")
        rows = db.execute(
            "UPDATE jobs SET state = 'running', owner = 'w1' WHERE seq IN "
            "(SELECT seq FROM jobs WHERE state = 'queued' ORDER BY seq LIMIT ?) RETURNING seq",
            (BATCH,),
        ).fetchall()
        db.execute("COMMIT")
        db.execute("BEGIN IMMEDIATE")
        for (seq,) in rows:
            db.execute("UPDATE jobs SET state = 'succeeded' WHERE seq = ? AND owner = 'w1'", (seq,))
        db.execute("COMMIT")
    seconds = time.perf_counter() - began
    done = db.execute("SELECT count(*) FROM jobs WHERE state = 'succeeded'").get
    assert done == runs, done
    db.close()
    return runs / seconds


async def admit_all(store: Store, offers: Iterator[RunOffer], callers: int) -> None:
    async def caller() -> None:
        for offer in offers:
            await store.admissions.admit(offer)

    await asyncio.gather(*(caller() for _ in range(callers)))


async def claim_and_finish_all(store: Store) -> int:
    done = 0
    request = ClaimRequest("w1", NOW, NOW + LEASE, (("standard", BATCH),), ("triage",))
    while claims := await store.claims.claim(request):
        ends = [
            RunEnd(claim.run.id, "w1", claim.run.term, RunState.SUCCEEDED, "succeeded", NOW, result="null")
            for claim in claims
        ]
        assert all(await store.claims.finish(ends))
        done += len(ends)
    return done


async def measure(directory: Path, runs: int) -> dict[str, float]:
    store = await open_store(f"sqlite:///{directory}/store.db")
    ground = Ground(lambda: open_store(""))
    found: dict[str, float] = {}
    few = runs // 20
    offers = [ground.offer(bounds=BOUNDS, queue_deadline_ms=NOW + 600_000) for _ in range(runs + few)]

    began = time.perf_counter()
    await admit_all(store, iter(offers[:few]), callers=1)
    found["admit, one caller"] = few / (time.perf_counter() - began)
    assert await claim_and_finish_all(store) == few

    before = store.statistics()
    cpu, began = time.process_time(), time.perf_counter()
    await admit_all(store, iter(offers[few:]), callers=200)
    admitted = time.perf_counter()
    found["admit, 200 callers"] = runs / (admitted - began)
    after = store.statistics()
    found["operations per commit, 200 callers"] = (after.operations - before.operations) / (
        after.commits - before.commits
    )
    assert await claim_and_finish_all(store) == runs
    ended = time.perf_counter()
    found["claim and finish, batches of 200"] = runs / (ended - admitted)
    found["admit, claim and finish"] = runs / (ended - began)
    found["CPU per run, µs"] = (time.process_time() - cpu) / runs * 1e6
    await store.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20_000, help="a multiple of 200")
    parser.add_argument("--directory", type=Path, default=None, help="on the disk to measure")
    arguments = parser.parse_args()
    runs = max(BATCH, arguments.runs // BATCH * BATCH)
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        print(f"Python {platform.python_version()}, SQLite {apsw.sqlite_lib_version()}, {os.cpu_count()} CPUs")
        raw = raw_loop(Path(directory) / "raw.db", runs)
        found = asyncio.run(measure(Path(directory), runs))
    for name, value in found.items():
        print(f"{name:<38}{value:>12,.1f}")
    print(f"{'raw insert, claim, complete':<38}{raw:>12,.1f}")
    print(f"{'ratio of the store to it':<38}{found['admit, claim and finish'] / raw:>12.3f}")


if __name__ == "__main__":
    main()
