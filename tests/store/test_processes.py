"""Several processes on one file: bounds stay exact, keys stay unique, upkeep happens once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.model.run import RunState
from headgate.store.open import open_store
from headgate.store.protocols import RunFilter
from headgate.testing.store_conformance_ground import LEASE, NOW, Ground

PROGRAM = """
import asyncio, json, sys
from headgate.model.decision import Admission
from headgate.store.open import open_store
from headgate.testing.store_conformance_ground import Ground, bound

number = int(sys.argv[1])

async def fill(ground):
    async def caller():
        answers = [await ground.ask(bounds=(bound(50),)) for _ in range(10)]
        return sum(isinstance(answer, Admission) for answer in answers)
    return sum(await asyncio.gather(*(caller() for _ in range(16))))

async def same_keys(ground):
    answers = await asyncio.gather(*(ground.ask(idempotency_key=f"k{index}") for index in range(40)))
    return {answer.run.idempotency_key: [answer.run.id, answer.created] for answer in answers}

async def work(ground):
    done = []
    while claims := await ground.claim(3, owner=f"w{number}"):
        for claim in claims:
            assert await ground.finish(claim.run)
            done.append(claim.run.id)
    return done

async def perform(path, what):
    ground = Ground(lambda: open_store(f"sqlite:///{path}"))
    ground._random.seed(number)
    await ground.enter()
    try:
        return await globals()[what](ground)
    finally:
        await ground.leave()

print("ready", flush=True)
for line in sys.stdin:
    print(json.dumps(asyncio.run(perform(*json.loads(line)))), flush=True)
"""


class Fleet:
    """Four processes that do the same thing at once, on one file."""

    def __init__(self) -> None:
        self._processes = [
            subprocess.Popen(  # noqa: S603 - our own interpreter and program
                [sys.executable, "-c", PROGRAM, str(number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(4)
        ]

    def wait(self) -> None:
        assert [self._read(process) for process in self._processes] == ["ready\n"] * 4

    def together(self, path: Path, what: str) -> list[Any]:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(json.dumps([str(path), what]) + "\n")
            process.stdin.flush()
        return [json.loads(self._read(process)) for process in self._processes]

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()

    @staticmethod
    def _read(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline()


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    processes = Fleet()
    try:
        processes.wait()
        yield processes
    finally:
        processes.end()


@pytest.mark.process
def test_a_bound_is_exact_over_processes(fleet: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    assert sum(fleet.together(path, "fill")) == 50

    async def main() -> None:
        ground = Ground(lambda: open_store(f"sqlite:///{path}", mode="inline"))
        await ground.enter()
        runs = await ground.store.runs.page(RunFilter(limit=100))
        assert len(runs) == 50
        assert sorted(run.virtual_start for run in runs) == list(range(50))
        await ground.check_counters()
        await ground.leave()

    asyncio.run(main())


@pytest.mark.process
def test_a_key_is_one_run_over_processes(fleet: Fleet, tmp_path: Path) -> None:
    ids: dict[str, set[str]] = {}
    created: Counter[str] = Counter()
    for answer in fleet.together(tmp_path / "runs.db", "same_keys"):
        for key, (run_id, is_new) in answer.items():
            ids.setdefault(key, set()).add(run_id)
            created[key] += is_new
    assert len(ids) == 40
    assert all(len(found) == 1 for found in ids.values())
    assert set(created.values()) == {1}


@pytest.mark.process
def test_a_run_is_claimed_once_over_processes(fleet: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    async def fill() -> list[str]:
        ground = Ground(lambda: open_store(f"sqlite:///{path}"))
        await ground.enter()
        runs = await asyncio.gather(*(ground.admit() for _ in range(300)))
        await ground.leave()
        return [run.id for run in runs]

    ids = asyncio.run(fill())
    done = [run_id for part in fleet.together(path, "work") for run_id in part]
    assert sorted(done) == sorted(ids)

    async def look() -> None:
        ground = Ground(lambda: open_store(f"sqlite:///{path}", mode="inline"))
        await ground.enter()
        overview = await ground.store.runs.overview()
        assert (overview.states, overview.dead) == ({"queued": 0, "running": 0, "suspended": 0}, 0)
        assert len(await ground.store.runs.page(RunFilter(states=(RunState.SUCCEEDED,), limit=1000))) == 300
        assert await ground.store.upkeep.rescue(now_ms=NOW + LEASE, max_crashes=3, limit=10) == []
        await ground.leave()

    asyncio.run(look())


def test_another_connections_writes_are_seen_at_once(tmp_path: Path) -> None:
    """Counters kept in memory are forgotten as soon as another process has written."""

    async def main() -> None:
        grounds = [Ground(lambda: open_store(f"sqlite:///{tmp_path}/runs.db", mode="inline")) for _ in range(2)]
        for number, ground in enumerate(grounds):
            ground._random.seed(number)
            await ground.enter()
        for index in range(6):
            await grounds[index % 2].admit(tenant=f"t{index % 3}")
        await grounds[0].claim(1)
        await grounds[1].claim(1)
        for ground in grounds:
            await ground.check_counters()
        late = await grounds[0].admit(tenant="late")
        later = await grounds[1].admit(tenant="late")
        assert later.virtual_start == late.virtual_start + 1
        for ground in grounds:
            await ground.leave()

    asyncio.run(main())
