"""Calls that are put off: made later, exactly once, by a run that remembers the rest."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from headgate.guard.ambient import current
from headgate.model.run import RunRecord, RunState
from headgate.runs.context import Run
from headgate.runs.postponing import Postponed
from headgate.store.protocols import RunEnd, RunFilter

from .bench import Bench, on_bench, vanish

LADDER = [{"at": 0.6, "postpone": ["other"]}]
WORKFLOWS: dict[str, Any] = {"job": {"degrade": LADDER}}


def selling(bench: Bench, effect: Any = "idempotent", takes_s: float = 0.0) -> list[str]:
    """Reads, writes to the customer file, which may wait, and sends a letter."""
    keys: list[str] = []

    async def write(what: str) -> str:
        keys.append(current().idempotency_key or "")
        return await bench.do(what, takes_s)

    async def job(run: Run) -> Any:
        found = await run.call("tool", bench.do, f"read {run.input}")
        noted = await run.call("other", write, f"note {run.input}", effect=effect, postponable=True)
        await run.call("tool", bench.do, f"letter {run.input}", effect="once")
        return [found, bool(noted), isinstance(noted, Postponed)]

    bench.workflow(job)
    return keys


async def all_runs(bench: Bench) -> list[RunRecord]:
    return await bench.store.runs.page(RunFilter(limit=1000))


async def follower(bench: Bench, run_id: str) -> RunRecord:
    (found,) = [run for run in await all_runs(bench) if run.replay_of == run_id]
    return await bench.ended(found.id)


def test_a_postponed_call_is_made_later_and_the_rest_is_not_repeated(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        keys = selling(bench, "once")
        await bench.worker()
        bench.pressure = 0.9
        ended = await bench.ended(await bench.submit("a"))
        assert json.loads(ended.result or "") == ["did read a", False, True]
        assert ended.degraded
        later = await follower(bench, ended.id)
        assert (later.state, later.lane, later.origin_id) == (RunState.SUCCEEDED, "background", ended.origin_id)
        assert later.result == ended.result  # what follows the call has seen the same
        assert later.deadline_ms == (ended.finished_ms or 0) + 86_400_000
        assert bench.ledger == {"read a": 1, "letter a": 1, "note a": 1}
        assert len(keys) == 1
        assert len(await all_runs(bench)) == 2  # and nothing follows the follow-up, whatever the pressure
        steps = await bench.store.runs.steps(ended.id)
        (put_off,) = [step for step in steps if step.degraded is not None]
        assert json.loads(put_off.degradation or "") == {"what": "other", "from": "now", "to": "later", "why": "shed"}

    on_bench(tmp_path, main, workflows=WORKFLOWS)


def test_below_the_rung_nothing_is_put_off(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        selling(bench)
        await bench.worker()
        ended = await bench.ended(await bench.submit("a"))
        assert json.loads(ended.result or "") == ["did read a", True, False]
        assert len(await all_runs(bench)) == 1

    on_bench(tmp_path, main, workflows=WORKFLOWS)


def test_only_what_the_workflow_allows_is_put_off(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> Any:
            plain = await run.call("other", bench.do, "plain")
            named = await run.call("tool", bench.do, "named", postponable="crm")
            return [plain, bool(named)]

        bench.workflow(job)
        await bench.worker()
        bench.pressure = 0.9
        ended = await bench.ended(await bench.submit())
        assert json.loads(ended.result or "") == ["did plain", False]
        await follower(bench, ended.id)
        assert bench.ledger == {"plain": 1, "named": 1}

    ladder = [{"at": 0.6, "postpone": ["other", "crm"]}]
    on_bench(tmp_path, main, workflows={"job": {"degrade": ladder}})


def test_a_run_that_fails_is_followed_once_its_replay_succeeds(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        healthy: list[bool] = []

        async def job(run: Run) -> str:
            noted = await run.call("other", bench.do, "note", postponable=True)
            if not healthy:
                raise ValueError("broken")
            return str(noted)

        bench.workflow(job)
        await bench.worker()
        bench.pressure = 0.9
        dead = await bench.ended(await bench.submit())
        assert dead.state is RunState.FAILED
        assert len(await all_runs(bench)) == 1
        healthy.append(True)
        bench.pressure = 0.0
        again = await bench.ended(await bench.submit(replay_of=dead.id, origin_id=dead.origin_id))
        assert again.state is RunState.SUCCEEDED
        await follower(bench, again.id)
        assert bench.ledger == {"note": 1}

    on_bench(tmp_path, main, workflows={"job": {"degrade": LADDER, "attempts": 1}})


def test_a_follow_up_that_failed_is_replayed_as_one(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        keys: list[str] = []
        healthy: list[bool] = []

        async def write() -> str:
            keys.append(current().idempotency_key or "")
            if not healthy:
                raise ValueError("broken")
            return await bench.do("note")

        async def job(run: Run) -> bool:
            return bool(await run.call("other", write, postponable=True))

        bench.workflow(job)
        await bench.worker()
        bench.pressure = 0.9
        ended = await bench.ended(await bench.submit())
        dead = await follower(bench, ended.id)
        assert dead.state is RunState.FAILED
        healthy.append(True)
        again = await bench.ended(await bench.submit(replay_of=dead.id, origin_id=dead.origin_id))
        assert again.state is RunState.SUCCEEDED
        assert bench.ledger == {"note": 1}
        assert len(set(keys)) == 1  # the callee knows it for the same call
        assert len(await all_runs(bench)) == 3

    on_bench(tmp_path, main, workflows={"job": {"degrade": LADDER, "attempts": 1}})


@pytest.mark.parametrize("seed", range(12))
def test_crashes_leave_exactly_one_follow_up(tmp_path: Path, seed: int) -> None:
    """Workers vanish at any moment, also between the end of a run and that of its follow-up."""

    async def main(bench: Bench) -> None:
        rng = Random(seed)
        selling(bench, takes_s=0.7)
        bench.pressure = 0.9
        worker = await bench.worker("w0")
        runs = [await bench.submit(str(number)) for number in range(3)]
        for crash in range(2):
            await bench.passes(rng.uniform(0.0, 1.2))
            vanish(worker)
            worker = await bench.worker(f"w{crash + 1}")
        ended = [await bench.ended(run_id) for run_id in runs]
        assert {run.state for run in ended} == {RunState.SUCCEEDED}
        for run in ended:
            assert (await follower(bench, run.id)).state is RunState.SUCCEEDED
        assert len(await all_runs(bench)) == 6
        for number in range(3):
            assert bench.ledger[f"letter {number}"] == 1
            assert bench.ledger[f"note {number}"] >= 1

    on_bench(tmp_path, main, workflows=WORKFLOWS, workers={"lease": 2.0, "max_crashes": 10})


def test_an_end_that_is_written_twice_has_one_follow_up(tmp_path: Path) -> None:
    """The answer of the store was lost, and the worker says it again."""

    async def main(bench: Bench) -> None:
        selling(bench)
        bench.pressure = 0.9
        finish, told = bench.store.claims.finish, []

        async def twice(ends: list[RunEnd]) -> list[bool]:
            told.extend(await finish(ends))
            return [not again for again in await finish(ends)]

        bench.store.claims.finish = twice  # type: ignore[method-assign, assignment]
        await bench.worker()
        ended = await bench.ended(await bench.submit("a"))
        await follower(bench, ended.id)
        assert told == [True, True]
        assert len(await all_runs(bench)) == 2

    on_bench(tmp_path, main, workflows=WORKFLOWS)
