"""Doing things more cheaply under pressure, and seeing the same when a run is resumed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from headgate.errors import StoreError
from headgate.guard.ambient import current_resource
from headgate.model.run import RunState
from headgate.runs.context import Run

from .bench import Bench, on_bench, vanish

LADDER = [
    {"at": 0.6, "knobs": {"hits": 5}},
    {"at": 0.75, "models": {"large": "small"}},
    {"at": 0.85, "skip": ["enrich"]},
]
WORKFLOWS: dict[str, Any] = {"job": {"degrade": LADDER}}


def cheaper(bench: Bench) -> None:
    async def job(run: Run) -> Any:
        hits = run.knob("hits", 20)
        await run.call("large", bench.do, f"answer from {hits}")
        extra = run.allows("enrich")
        if extra:
            await run.call("tool", bench.do, "enrich")
        await run.call("other", bench.do, f"post {hits}", effect="once")
        return [hits, extra, run.knob("depth", 3), run.degraded]

    bench.workflow(job)


def test_without_pressure_everything_is_done(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        cheaper(bench)
        await bench.worker()
        ended = await bench.ended(await bench.submit())
        assert json.loads(ended.result or "") == [20, True, 3, []]
        assert not ended.degraded
        assert bench.resources.get("small").statistics().calls == 0

    on_bench(tmp_path, main, workflows=WORKFLOWS)


def test_under_pressure_the_ladder_is_followed_and_told(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        cheaper(bench)
        await bench.worker()
        bench.pressure = 0.9
        ended = await bench.ended(await bench.submit())
        words = ["hits=5", "large -> small", "without enrich"]
        assert json.loads(ended.result or "") == [5, False, 3, words]
        assert ended.degraded
        assert bench.ledger == {"answer from 5": 1, "post 5": 1}
        assert bench.resources.get("small").statistics().calls == 1
        assert [event.fields["what"] for event in bench.told("run_degraded")] == ["hits", "large", "enrich"]
        steps = {step.function.rsplit(".", 1)[-1]: step for step in await bench.store.runs.steps(ended.id)}
        assert (steps["knob"].result, steps["knob"].degraded, steps["knob"].tries) == ("5", "hits=5", 0)

    on_bench(tmp_path, main, workflows=WORKFLOWS)


def test_a_run_admitted_on_the_cheaper_path_has_the_whole_ladder(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        cheaper(bench)
        await bench.worker()
        ended = await bench.ended(await bench.submit(degraded=True))
        assert json.loads(ended.result or "")[:2] == [5, False]
        assert ended.degraded

    on_bench(tmp_path, main, workflows=WORKFLOWS)


def test_a_stand_in_that_answers_later_is_passed_over_whatever_the_pressure(tmp_path: Path) -> None:
    """Else it fills up for as long as runs wait anywhere, while what it stands in for is idle."""

    async def main(bench: Bench) -> None:
        takes_s = {"large": 1.0, "small": 5.0}

        async def answer() -> str:
            name = current_resource() or ""
            return await bench.do(name, takes_s[name])

        async def job(run: Run) -> Any:
            return await run.call("large", answer)

        bench.workflow(job)
        await bench.worker()
        bench.pressure = 1.0
        told = [json.loads((await bench.ended(await bench.submit(number))).result or "") for number in range(4)]
        assert told == ["did small", "did large", "did large", "did large"]
        takes_s["small"] = 0.1
        await bench.passes(120.0)  # what it took is forgotten, and it is tried again
        assert json.loads((await bench.ended(await bench.submit(5))).result or "") == "did small"

    on_bench(tmp_path, main, workflows=WORKFLOWS)


def test_a_resumed_run_sees_the_choices_of_its_first_attempt(tmp_path: Path) -> None:
    """Else its steps would have other arguments, and what must not be repeated would be done again."""

    async def main(bench: Bench) -> None:
        async def job(run: Run) -> Any:
            hits, extra = run.knob("hits", 20), run.allows("enrich")
            await run.call("other", bench.do, f"post {hits}", effect="once")
            await run.call("tool", bench.do, "long", 30.0 if run.attempt == 1 else 0.0, key="long")
            return [hits, extra, run.knob("hits", 20)]

        bench.workflow(job)
        first = await bench.worker("w1")
        bench.pressure = 0.9
        run_id = await bench.submit()
        await bench.passes(1.0)
        vanish(first)
        bench.pressure = 0.0
        await bench.worker("w2")
        ended = await bench.ended(run_id)
        assert json.loads(ended.result or "") == [5, False, 20]  # what comes anew is chosen anew
        assert bench.ledger == {"post 5": 1, "long": 2}
        assert ended.degraded

    on_bench(tmp_path, main, workflows=WORKFLOWS)


def test_a_fallback_of_the_guard_counts_as_degraded(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> Any:
            await run.call("large", bench.do, "answer", 1.0)
            return run.degraded

        bench.workflow(job)
        await bench.worker()
        runs = [await bench.submit(), await bench.submit()]
        ended = [await bench.ended(run_id) for run_id in runs]
        assert sorted(run.degraded for run in ended) == [False, True]
        assert sorted(json.loads(run.result or "") for run in ended) == [[], ["large -> small"]]

    models = {"large": {"concurrency": 1, "queue": {"max_age": 0.5}, "fallback": "small"}, "small": {}}
    on_bench(tmp_path, main, models=models)


def test_a_choice_is_durable_before_any_branch_acts_on_it(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        durable: list[int] = []
        failing = [True]

        async def look(run_id: str, hits: int) -> int:
            steps = await bench.store.runs.steps(run_id)
            durable.append(sum(step.function == "knob" for step in steps))
            return hits

        async def job(run: Run) -> None:
            hits = run.knob("hits", 20)
            branches = [run.call("tool", look, run.id, hits, key=str(number)) for number in range(3)]
            first, *others = await asyncio.gather(*branches, return_exceptions=True)
            assert isinstance(first, StoreError)  # it tried to write the choice; the next branch did
            assert others == [5, 5]

        bench.workflow(job)
        bench.pressure = 0.9
        record = bench.store.journal.record

        async def slow(*args: Any) -> bool:
            await asyncio.sleep(0.01)
            if failing:
                failing.clear()
                raise StoreError("the disk is full")
            return await record(*args)

        bench.store.journal.record = slow  # type: ignore[method-assign,assignment]
        await bench.worker()
        assert (await bench.ended(await bench.submit())).state is RunState.SUCCEEDED
        assert durable == [1, 1]

    on_bench(tmp_path, main, workflows=WORKFLOWS)
