"""A row that cannot be read back ends as a dead letter; nothing else stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest

from headgate.errors import StoreError
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.model.run import RunState
from headgate.store.open import open_store
from headgate.store.protocols import RunFilter
from headgate.testing.store_conformance_ground import LEASE, NOW, Ground, a_step

BAD = "CAST(x'41ff42' AS TEXT)"
"""Text that is not UTF-8."""


def _damage(path: Path, column: str, *ids: str) -> None:
    """Write such text into a column of these runs."""
    db = apsw.Connection(str(path / "runs.db"))
    for run_id in ids:
        db.execute(f"UPDATE runs SET {column} = {BAD} WHERE id = ?", (run_id,))  # noqa: S608 - names from this file
    db.close()


def _on(path: Path, main: Any) -> None:
    async def enter(_clock: LoopClock) -> None:
        ground = Ground(lambda: open_store(f"sqlite:///{path}/runs.db", mode="inline"))
        await ground.enter()
        await main(ground)
        await ground.leave()

    run_virtual(enter)


@pytest.mark.parametrize("column", ["user", "input", "tenant", "origin_id"])
def test_a_claim_steps_over_it(tmp_path: Path, column: str) -> None:
    async def main(ground: Ground) -> None:
        runs = [await ground.admit() for _ in range(5)]
        _damage(tmp_path, column, runs[0].id, runs[2].id)
        claims = await ground.claim(2)
        claims += await ground.claim(2)
        assert [claim.run.id for claim in claims] == [runs[i].id for i in (1, 3, 4)]
        for damaged in (runs[0], runs[2]):
            ended = await ground.get(damaged)
            assert (ended.state, ended.reason) == (RunState.FAILED, "undecodable")
            assert ended.detail is not None
            assert "cannot be read back" in ended.detail
        dead = await ground.store.runs.page(RunFilter(states=(RunState.FAILED,)))
        assert [run.id for run in dead] == [runs[2].id, runs[0].id]
        overview = await ground.store.runs.overview()
        assert (overview.states["queued"], overview.states["running"], overview.dead) == (0, 3, 2)

    _on(tmp_path, main)


def test_a_damaged_workflow_is_nobodys_work(tmp_path: Path) -> None:
    async def main(ground: Ground) -> None:
        runs = [await ground.admit() for _ in range(3)]
        _damage(tmp_path, "workflow", runs[1].id)
        assert [claim.run.id for claim in await ground.claim()] == [runs[0].id, runs[2].id]
        assert (await ground.get(runs[1])).workflow == "A\ufffdB", "it stays in line until it is due, and can be seen"

    _on(tmp_path, main)


def test_a_damaged_step_damages_its_run(tmp_path: Path) -> None:
    async def main(ground: Ground) -> None:
        run = await ground.started()
        await ground.store.journal.record(run.id, "w1", 1, a_step())
        await ground.store.claims.release(run.id, "w1", 1, now_ms=NOW, reason="interrupted")
        other = await ground.admit()
        db = apsw.Connection(str(tmp_path / "runs.db"))
        db.execute("UPDATE steps SET effect = 'sideways'")
        db.close()
        assert [claim.run.id for claim in await ground.claim()] == [other.id]
        assert (await ground.get(run)).reason == "undecodable"
        await ground.check_counters()

    _on(tmp_path, main)


def test_upkeep_steps_over_it(tmp_path: Path) -> None:
    async def main(ground: Ground) -> None:
        late = [await ground.admit(queue_deadline_ms=NOW + 5, workflow="w") for _ in range(3)]
        held = [await ground.started() for _ in range(2)]
        _damage(tmp_path, "lane", late[1].id, held[0].id)
        moved = await ground.store.upkeep.expire(now_ms=NOW + 5, limit=10)
        assert [one.run_id for one in moved] == [late[0].id, late[2].id]
        moved = await ground.store.upkeep.rescue(now_ms=NOW + LEASE, max_crashes=3, limit=10)
        assert [one.run_id for one in moved] == [held[1].id]
        for damaged in (late[1], held[0]):
            assert (await ground.get(damaged)).reason == "undecodable"
        assert await ground.store.upkeep.next_due_ms() is None
        overview = await ground.store.runs.overview()
        assert (overview.states["queued"], overview.states["running"], overview.dead) == (1, 0, 4)

    _on(tmp_path, main)


def test_the_counters_stay_exact_when_expiry_meets_damage_half_way(tmp_path: Path) -> None:
    async def main(ground: Ground) -> None:
        waiting = await ground.started(deadline_ms=NOW + 5)
        assert await ground.suspend(waiting, wake_ms=None)
        late = [await ground.admit(queue_deadline_ms=NOW + 5) for _ in range(3)]
        _damage(tmp_path, "lane", waiting.id)
        moved = await ground.store.upkeep.expire(now_ms=NOW + 5, limit=10)
        assert [one.run_id for one in moved] == [run.id for run in late]
        overview = await ground.store.runs.overview()
        assert (overview.states["queued"], overview.states["suspended"], overview.dead) == (0, 0, 4)
        assert [queue.depth for queue in overview.queues if queue.lane == "standard"] == [0]

    _on(tmp_path, main)


def test_a_whole_lane_of_damage_is_cleared_in_the_end(tmp_path: Path) -> None:
    async def main(ground: Ground) -> None:
        _damage(tmp_path, "user", *[(await ground.admit()).id for _ in range(20)])
        good = await ground.admit()
        claimed: list[str] = []
        for _ in range(10):
            claimed += [claim.run.id for claim in await ground.claim(2)]
        assert claimed == [good.id]
        assert (await ground.store.runs.overview()).dead == 20

    _on(tmp_path, main)


def test_a_known_key_of_a_damaged_run_says_so(tmp_path: Path) -> None:
    async def main(ground: Ground) -> None:
        _damage(tmp_path, "user", (await ground.admit(idempotency_key="k")).id)
        with pytest.raises(StoreError, match="cannot be read back"):
            await ground.ask(idempotency_key="k")
        await ground.admit()

    _on(tmp_path, main)
