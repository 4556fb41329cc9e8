"""What a worker charges tenants: the time in calls, also of calls under way, and of tries that failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw

from headgate.runs.context import Run

from .bench import Bench, on_bench


def _virtual(folder: Path) -> dict[str, float]:
    db = apsw.Connection(str(folder / "runs.db"), flags=apsw.SQLITE_OPEN_READWRITE)
    found = dict(db.execute("SELECT tenant, max(virtual) FROM tenant_flows GROUP BY tenant"))
    db.close()
    return found


def test_a_run_is_charged_what_it_takes(tmp_path: Path) -> None:
    async def main(bench: Bench) -> dict[str, Any]:
        async def job(run: Run, plan: Any) -> None:
            await run.call("tool", bench.do, "one", 30.0)

        bench.workflow(job)
        run_id = await bench.submit()
        await bench.worker()
        seen = {"at once": 0.0, "half way": 0.0}
        await bench.passes(1)
        seen["at once"] = _virtual(tmp_path)["t"]
        await bench.passes(15)
        seen["half way"] = _virtual(tmp_path)["t"]
        seen["run"] = (await bench.ended(run_id)).spent
        seen["end"] = _virtual(tmp_path)["t"]
        return seen

    seen = on_bench(tmp_path, main, workers={"lease": 15.0})
    assert seen["at once"] == 1.0, "the estimate"
    assert 9.0 < seen["half way"] <= 16.0, "at the latest heartbeat"
    assert abs(seen["run"] - 30.0) < 0.1
    assert abs(seen["end"] - 30.0) < 0.1


def test_waiting_in_line_costs_nothing_and_parallel_calls_add_up(tmp_path: Path) -> None:
    async def main(bench: Bench) -> list[float]:
        async def job(run: Run, plan: Any) -> None:
            await run.call("publish", bench.do, "one", 5.0)

        bench.workflow(job)
        runs = [await bench.submit(tenant=tenant) for tenant in ("a", "b", "c")]
        await bench.worker()
        return [(await bench.ended(run_id)).spent for run_id in runs]

    assert [round(cost, 1) for cost in on_bench(tmp_path, main)] == [5.0, 5.0, 5.0]


def test_a_run_without_calls_is_charged_its_slot_by_its_factor(tmp_path: Path) -> None:
    async def main(bench: Bench) -> float:
        async def job(run: Run, plan: Any) -> None:
            await bench.passes(4.0)

        bench.workflow(job)
        run_id = await bench.submit(cost=3.0)
        await bench.worker()
        return (await bench.ended(run_id)).spent

    assert round(on_bench(tmp_path, main, workflows={"job": {"cost": 3.0}}), 1) == 12.0


def test_a_run_put_back_keeps_its_cost(tmp_path: Path) -> None:
    async def main(bench: Bench) -> list[float]:
        async def job(run: Run, plan: Any) -> None:
            for name in ("one", "two"):
                await run.call("tool", bench.do, name, 4.0)

        bench.workflow(job)
        run_id = await bench.submit()
        first = await bench.worker()
        await bench.passes(2)
        await first.drain(6.0)
        after = (await bench.get(run_id)).spent
        await bench.worker("w2")
        return [after, (await bench.ended(run_id)).spent]

    after, end = on_bench(tmp_path, main)
    assert abs(after - 4.0) < 0.1
    assert abs(end - 8.0) < 0.2
