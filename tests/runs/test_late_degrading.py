"""Degrading by a run's own slack, by the pressure of single resources, and what results say of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from headgate.errors import ApprovalDenied
from headgate.model.degradation import degradations_of
from headgate.model.run import RunRecord, RunState
from headgate.runs.context import Run

from .bench import Bench, on_bench, vanish

LADDER = [
    {"at": 0.6, "knobs": {"hits": 5}},
    {"at": 0.75, "models": {"large": "small"}},
    {"at": 0.85, "skip": ["enrich"], "require_approval": {"publish": "replies"}},
]


def workflows(**more: Any) -> dict[str, Any]:
    return {"job": {"degrade": LADDER, **more}}


async def told(bench: Bench, ended: RunRecord) -> list[dict[str, Any]]:
    return [one.view() for one in degradations_of(ended, await bench.store.runs.steps(ended.id))]


def two_calls(bench: Bench, takes_s: float) -> None:
    async def job(run: Run) -> list[str]:
        for number in range(2):
            await run.call("large", bench.do, f"answer {number}", takes_s)
        return run.degraded

    bench.workflow(job)


async def learned(bench: Bench) -> None:
    """So that what a run still needs is known."""
    for _ in range(8):
        await bench.ended(await bench.submit())


def test_a_run_that_gets_late_takes_rung_after_rung(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        two_calls(bench, 5.0)
        await bench.worker()
        await learned(bench)
        late = await bench.ended(await bench.submit(deadline_ms=bench.clock.now_ms() + 18_000))
        assert late.state is RunState.SUCCEEDED
        assert json.loads(late.result or "") == ["large -> small"]  # the knob at the first call
        assert await told(bench, late) == [{"what": "large", "from": "large", "to": "small", "why": "slack"}]
        calm = await bench.ended(await bench.submit(deadline_ms=bench.clock.now_ms() + 60_000))
        assert json.loads(calm.result or "") == []
        assert not calm.degraded

    on_bench(tmp_path, main, workflows=workflows())


def test_the_slack_can_be_left_out(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        two_calls(bench, 5.0)
        await bench.worker()
        await learned(bench)
        late = await bench.ended(await bench.submit(deadline_ms=bench.clock.now_ms() + 18_000))
        assert json.loads(late.result or "") == []

    on_bench(tmp_path, main, workflows=workflows(degrade_slack=None))


def test_a_long_line_at_the_resource_counts(tmp_path: Path) -> None:
    """Nothing is known of the workflow; what waits before the call is enough."""

    async def main(bench: Bench) -> None:
        async def job(run: Run) -> list[str]:
            await run.call("large", bench.do, f"answer {run.id}", 4.0)
            return run.degraded

        bench.workflow(job)
        await bench.worker()
        await bench.ended(await bench.submit())
        busy = [await bench.submit() for _ in range(8)]
        await bench.passes(0.5)
        runs = [await bench.submit(deadline_ms=bench.clock.now_ms() + 1000 * seconds) for seconds in (60, 600)]
        soon, later = [json.loads((await bench.ended(one)).result or "") for one in runs]
        assert (soon, later) == ([], [])  # one rung only, and that one is a knob
        await asyncio.gather(*(bench.ended(one) for one in busy))

    models = {"large": {"concurrency": 1, "queue": {"max_age": 600.0}}, "small": {}}
    on_bench(tmp_path, main, workflows=workflows(), models=models)


def test_a_sick_resource_moves_only_the_ladders_of_those_who_use_it(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> list[str]:
            await run.call("tool", bench.do, f"search {run.id}")
            await run.call("large", bench.do, f"answer {run.id}")
            run.knob("hits", 20)
            return run.degraded

        bench.workflow(job)
        await bench.worker()
        holders = [asyncio.create_task(bench.resources.get("other").call(bench.do, "hold", 30.0)) for _ in range(2)]
        await bench.passes(1.0)
        assert bench.resources.get("other").statistics().pressure >= 0.9
        assert json.loads((await bench.ended(await bench.submit())).result or "") == []
        await asyncio.gather(*holders)

    async def sick(bench: Bench) -> None:
        async def job(run: Run) -> list[str]:
            await run.call("large", bench.do, f"answer {run.id}")
            run.knob("hits", 20)
            return run.degraded

        bench.workflow(job)
        await bench.worker()
        holders = [asyncio.create_task(bench.resources.get("large").call(bench.do, "hold", 30.0)) for _ in range(2)]
        await bench.passes(1.0)
        ended = await bench.ended(await bench.submit())
        assert json.loads(ended.result or "") == ["large -> small", "hits=5"]
        assert {one["why"] for one in await told(bench, ended)} == {"shed"}
        await asyncio.gather(*holders)

    narrow = {"concurrency": 1, "queue": {"depth": 1, "max_age": 600.0}}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    on_bench(tmp_path / "a", main, workflows=workflows(), tools={"tool": {}, "other": narrow})
    on_bench(tmp_path / "b", sick, workflows=workflows(), models={"large": narrow, "small": {}})


def test_what_was_degraded_is_told_with_its_reason(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> Any:
            run.knob("hits", 20)
            run.allows("enrich")
            await run.call("large", bench.do, "answer")
            return run.degradations

        bench.workflow(job)
        await bench.worker()
        expected: list[dict[str, Any]] = [
            {"what": "hits", "from": 20, "to": 5},
            {"what": "enrich", "from": True, "to": False},
            {"what": "large", "from": "large", "to": "small"},
        ]
        admitted = await bench.ended(await bench.submit(degraded=True))
        cheaper = [{**one, "why": "cheaper_path"} for one in expected]
        whole = {"what": "run", "from": "full", "to": "cheaper path", "why": "cheaper_path"}
        assert json.loads(admitted.result or "") == cheaper
        assert await told(bench, admitted) == [whole, *cheaper]
        bench.pressure = 0.9
        pressed = await bench.ended(await bench.submit())
        assert await told(bench, pressed) == [{**one, "why": "shed"} for one in expected]

    on_bench(tmp_path, main, workflows=workflows())


def test_a_fallback_is_told_too(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        two_calls(bench, 1.0)
        await bench.worker()
        runs = [await bench.submit(), await bench.submit()]
        ended = [await bench.ended(run_id) for run_id in runs]
        found = [one for run in ended for one in await told(bench, run)]
        assert found
        assert all(one == {"what": "large", "from": "large", "to": "small", "why": "fallback"} for one in found)

    models = {"large": {"concurrency": 1, "queue": {"max_age": 0.5}, "fallback": "small"}, "small": {}}
    on_bench(tmp_path, main, models=models)


def publishing(bench: Bench) -> None:
    async def job(run: Run) -> Any:
        try:
            asked = await run.confirm("publish", {"text": "hello"})
        except ApprovalDenied:
            return "denied"
        await run.call("other", bench.do, "publish", effect="once")
        return asked

    bench.workflow(job)


def test_above_its_rung_people_are_asked_first(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        publishing(bench)
        first = await bench.worker()
        assert (await bench.ended(await bench.submit())).result == "null"
        bench.pressure = 0.9
        asked, denied = await bench.submit(), await bench.submit()
        await bench.passes(1.0)
        assert bench.ledger["publish"] == 1
        vanish(first)
        bench.pressure = 0.0  # whoever was asked is waited for, also when there is no need to ask any more
        await bench.worker("w2")
        for approval in await bench.store.approvals.waiting(queue="replies", tenant=None, limit=10):
            await bench.store.approvals.decide(
                approval.id, tenant=None, approved=approval.run_id == asked, by="ada", note=None,
                now_ms=bench.clock.now_ms(),
            )  # fmt: skip
        for worker in bench.workers:
            worker.poke()
        ended = await bench.ended(asked)
        assert json.loads(ended.result or "") == {"approved_by": "ada", "note": None}
        assert (await bench.ended(denied)).result == '"denied"'
        assert bench.ledger["publish"] == 2
        assert await told(bench, ended) == [{"what": "publish", "from": None, "to": "replies", "why": "shed"}]

    on_bench(tmp_path, main, workflows=workflows())


@pytest.mark.parametrize(("share", "least", "most"), [(None, 0, 20), (0.33, 28, 30)])
def test_in_a_surge_the_slack_acts_before_the_pressure(
    tmp_path: Path, share: float | None, least: int, most: int
) -> None:
    """Twice what the large model carries; its line is long before it is full. At stake: runs that end in time."""

    async def main(bench: Bench) -> None:
        async def job(run: Run) -> None:
            for number in range(4):
                await run.call("large", bench.do, f"answer {run.id} {number}", 2.0)

        bench.workflow(job)
        await bench.worker()
        runs = []
        for _ in range(30):
            runs.append(await bench.submit(deadline_ms=bench.clock.now_ms() + 30_000))
            await bench.passes(1.0)
        ended = [await bench.ended(run_id) for run_id in runs]
        assert least <= sum(run.state is RunState.SUCCEEDED for run in ended) <= most

    wide = {"concurrency": 4, "queue": {"depth": 500, "max_age": 60.0}, "retry": {"attempts": 1}}
    ladder = [{"at": 0.9, "models": {"large": "small"}}]
    settings: dict[str, Any] = {"degrade": ladder, "degrade_slack": share, "attempts": 1}
    on_bench(
        tmp_path, main, workflows={"job": settings}, models={"large": wide, "small": wide}, workers={"slots": 200}
    )
