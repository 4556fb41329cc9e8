"""Questions of earlier lanes are answered first, and find room in a full queue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.runs.approvals import rank_of
from headgate.runs.context import Run

from .bench import Bench, on_bench


def _asking(bench: Bench) -> None:
    async def job(run: Run, name: str) -> Any:
        return [name, await run.approval("replies", name)]

    bench.workflow(job)


async def _answer_first(bench: Bench) -> str:
    first, *_ = await bench.store.approvals.waiting(
        queue="replies", tenant=None, limit=1, now_ms=bench.clock.now_ms()
    )
    await bench.store.approvals.decide(
        first.id, tenant=None, approved=True, by="ann", note=None, now_ms=bench.clock.now_ms()
    )
    for worker in bench.workers:
        worker.poke()
    return first.run_id


def test_a_question_gives_way_and_its_run_asks_again(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        _asking(bench)
        await bench.worker()
        early, *_, late = bench.settings.lanes
        lower = [await bench.submit(f"lower {nth}", lane=late) for nth in range(2)]
        await bench.passes(1.0)
        upper = await bench.submit("upper", lane=early)
        await bench.passes(1.0)
        waiting = await bench.store.approvals.waiting(queue="replies", tenant=None, limit=9)
        assert [one.run_id for one in waiting] == [upper, lower[0]]
        assert [one.lane for one in waiting] == [early, late]
        gone = await bench.get(lower[1])
        assert (gone.state, gone.reason) == (RunState.SUSPENDED, Reason.RETRY_WAIT)
        (told,) = bench.told("approval_displaced")
        assert (told.fields["run_id"], told.fields["lane"], told.fields["for_lane"]) == (lower[1], late, early)
        assert (told.fields["queue"], told.fields["queue_limit"]) == ("replies", 2)
        assert 900 <= told.fields["queued_ms"] <= 1_100
        assert told.fields["approval_id"] == bench.told("approval_asked")[1].fields["approval_id"]
        assert await _answer_first(bench) == upper
        assert (await bench.ended(upper)).state is RunState.SUCCEEDED
        await bench.passes(30.0)
        assert {await _answer_first(bench), await _answer_first(bench)} == set(lower)
        for nth, run_id in enumerate(lower):
            ended = await bench.ended(run_id)
            assert json.loads(ended.result or "") == [f"lower {nth}", {"approved_by": "ann", "note": None}]

    on_bench(tmp_path, main)


def test_who_gives_way_again_and_again_is_back_within_seconds(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        _asking(bench)
        await bench.worker()
        early, *_, late = bench.settings.lanes
        lower = await bench.submit("lower", lane=late)
        for nth in range(8):
            await bench.passes(8.0)
            assert (await bench.get(lower)).reason == Reason.APPROVAL_WAIT, "back in the free queue"
            upper = [await bench.submit(f"upper {nth}", lane=early) for _ in range(2)]
            await bench.passes(60.0)  # it finds the queue full many times
            gone = await bench.get(lower)
            assert (gone.state, gone.reason) == (RunState.SUSPENDED, Reason.RETRY_WAIT)
            assert {await _answer_first(bench), await _answer_first(bench)} == set(upper)
        await bench.passes(8.0)
        assert await _answer_first(bench) == lower
        assert (await bench.ended(lower)).state is RunState.SUCCEEDED

    on_bench(tmp_path, main)


def test_a_lane_that_the_file_does_not_list_comes_last(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        lanes = list(bench.settings.lanes)
        assert [rank_of(lane, bench.settings) for lane in (*lanes, "gone")] == list(range(len(lanes) + 1))

    on_bench(tmp_path, main)
