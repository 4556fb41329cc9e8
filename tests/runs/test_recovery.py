"""Workers vanish, stand still, are fenced off, drain: nothing is lost, nothing finished is repeated."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from headgate.guard.ambient import current
from headgate.model.ids import uuid7
from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.model.step import StepState
from headgate.runs.context import Run
from headgate.runs.worker import Worker

from .bench import Bench, on_bench, vanish


def still(worker: Worker) -> None:
    """The worker's heartbeats do not get through any more; its workflows go on."""
    worker._loops[1].cancel()


class Refused(Exception):
    status_code = 422


class Broken(Exception):
    status_code = 500


def test_a_vanished_workers_run_continues_elsewhere_without_repeating_what_is_done(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        keys: list[str | None] = []

        async def note() -> str:
            keys.append(current().idempotency_key)
            return await bench.do("second", 30.0 if len(keys) == 1 else 0.0)

        async def job(run: Run) -> list[Any]:
            return [await run.call("tool", bench.do, "first"), await run.call("tool", note), run.attempt]

        bench.workflow(job)
        first = await bench.worker("w1")
        run_id = await bench.submit()
        await bench.passes(1.0)
        vanish(first)
        await bench.worker("w2")
        ended = await bench.ended(run_id)
        assert json.loads(ended.result or "") == ["did first", "did second", 2]
        assert (ended.state, ended.crashes, ended.term) == (RunState.SUCCEEDED, 1, 2)
        assert bench.ledger == {"first": 1, "second": 2}  # it was in flight: idempotent calls may repeat …
        assert keys[0] == keys[1] is not None  # … under the same key
        assert ended.used_calls == 2  # the call that vanished with its worker left no trace
        assert 15.0 <= bench.clock.monotonic() <= 20.0

    on_bench(tmp_path, main)


def test_a_run_that_takes_its_worker_down_three_times_is_a_dead_letter(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> None:
            await asyncio.sleep(1000.0)

        bench.workflow(job)
        run_id = await bench.submit()
        for number in range(3):
            worker = await bench.worker(f"w{number}")
            while (await bench.get(run_id)).term == number:
                await bench.passes(0.5)
            vanish(worker)
        ended = await bench.ended(run_id)
        assert (ended.state, ended.reason, ended.crashes) == (RunState.FAILED, Reason.CRASH_LOOP, 3)
        assert ended.dead
        assert [event.fields["outcome"] for event in bench.told("run_rescued")] == ["queued", "queued", "failed"]

    on_bench(tmp_path, main)


def test_a_worker_that_is_cut_off_begins_no_call_and_writes_nothing(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> int:
            for number in range(6):
                await run.call("tool", bench.do, f"{run.attempt}/{number}", 3.1)
            return run.attempt

        bench.workflow(job)
        first = await bench.worker("w1")
        run_id = await bench.submit()
        await bench.passes(0.1)
        still(first)
        second = await bench.worker("w2")
        ended = await bench.ended(run_id)
        assert json.loads(ended.result or "") == 2
        # The lease of 15 s is relied on for 12 s: the fifth call would have begun at 12.4 s.
        mine = sorted(what for what in bench.ledger if what.startswith("1/"))
        assert mine == ["1/0", "1/1", "1/2", "1/3"]
        await bench.passes(30.0)
        assert second.statistics().finished == {"succeeded": 1}
        assert first.statistics().finished == {}
        assert first.statistics().running == 1
        await first._carrier.keeper.beat()
        await bench.passes(0.1)
        assert (first.statistics().running, first.statistics().lost) == (0, 1)
        assert (await bench.get(run_id)) == ended

    on_bench(tmp_path, main)


def test_a_late_end_is_fenced_off(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> int:
            await asyncio.sleep(25.0 if run.attempt == 1 else 20.0)
            return run.attempt

        bench.workflow(job)
        first = await bench.worker("w1")
        run_id = await bench.submit()
        await bench.passes(0.1)
        still(first)
        await bench.worker("w2")
        ended = await bench.ended(run_id)
        assert json.loads(ended.result or "") == 2
        assert first.statistics().lost == 1
        assert [event.fields["owner"] for event in bench.told("lease_lost")] == ["w1"]
        assert len(bench.told("run_finished")) == 1

    on_bench(tmp_path, main)


def test_a_worker_goes_on_when_its_heartbeats_get_through_again(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> int:
            for number in range(6):
                await run.call("tool", bench.do, str(number), 3.1)
            return run.attempt

        bench.workflow(job)
        worker = await bench.worker()
        run_id = await bench.submit()
        await bench.upkeep.stop()  # nobody rescues it meanwhile
        await bench.passes(0.1)
        still(worker)
        await bench.passes(40.0)
        assert bench.ledger.total() == 4
        assert worker.statistics().heartbeat_age_s > 35.0
        await worker._carrier.keeper.beat()
        ended = await bench.ended(run_id)
        assert (json.loads(ended.result or ""), ended.crashes) == (1, 0)
        assert bench.ledger.total() == 6

    on_bench(tmp_path, main)


def test_a_once_step_that_vanished_with_its_worker_is_not_repeated(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> Any:
            before = await run.call("tool", bench.do, "before", effect="once")
            return [before, await run.call("tool", bench.do, "post", 30.0, effect="once")]

        bench.workflow(job)
        first = await bench.worker("w1")
        run_id = await bench.submit()
        await bench.passes(1.0)
        assert [step.state for step in await bench.store.runs.steps(run_id)] == [StepState.DONE, StepState.BEGUN]
        vanish(first)
        await bench.worker("w2")
        ended = await bench.ended(run_id)
        assert (ended.state, ended.reason) == (RunState.FAILED, Reason.UNKNOWN_OUTCOME)
        assert "is not repeated" in (ended.detail or "")
        assert bench.ledger == {"before": 1, "post": 1}

        for assume, posts in (("done", 1), ("not_done", 2)):
            replayed = await bench.ended(await replay(bench, run_id, assume))
            assert replayed.state is RunState.SUCCEEDED
            assert bench.ledger == {"before": 1, "post": posts}
            assert json.loads(replayed.result or "")[0] == "did before"

    on_bench(tmp_path, main)


async def replay(bench: Bench, run_id: str, assume: str) -> str:
    source = await bench.get(run_id)
    new = uuid7(bench.clock.now_ms(), bench.rng.getrandbits)
    return await bench.submit(id=new, origin_id=source.origin_id, replay_of=run_id, assume=assume)


def test_how_a_once_call_failed_says_whether_it_took_effect(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def post(how: str) -> None:
            bench.ledger[how] += 1
            if how == "refused":
                raise Refused("no such address")
            raise Broken("somewhere on the way")

        async def job(run: Run, how: str) -> None:
            await run.call("tool", post, how, effect="once")

        bench.workflow(job)
        await bench.worker()
        refused = await bench.ended(await bench.submit("refused"))
        assert (refused.state, refused.reason) == (RunState.FAILED, Reason.CALLER_ERROR)
        assert await bench.store.runs.steps(refused.id) == []
        broken = await bench.ended(await bench.submit("broken"))
        assert (broken.state, broken.reason) == (RunState.FAILED, Reason.UNKNOWN_OUTCOME)
        assert [step.state for step in await bench.store.runs.steps(broken.id)] == [StepState.BEGUN]
        assert bench.ledger == {"refused": 1, "broken": 1}

    on_bench(tmp_path, main)


def test_a_once_call_that_never_began_is_tried_again(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run, what: str) -> Any:
            return await run.call("tool", bench.do, what, 40.0, effect="once")

        bench.workflow(job)
        await bench.worker()
        first, second = await bench.submit("a"), await bench.submit("b")  # the slot is taken, the wait is 5 s
        assert (await bench.ended(first)).state is RunState.SUCCEEDED
        ended = await bench.ended(second)
        assert ended.state is RunState.SUCCEEDED
        assert (ended.attempts, ended.term > 1) == (0, True)  # a wait for room is no failed attempt
        assert bench.ledger == {"a": 1, "b": 1}

    tool = {"concurrency": 1, "queue": {"depth": 5, "max_age": 5.0}}
    on_bench(tmp_path, main, tools={"tool": tool}, workflows={"job": {"attempts": 30}})


def test_draining_lets_calls_finish_and_the_run_continues_elsewhere(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> list[Any]:
            parts = await asyncio.gather(*(run.call("tool", bench.do, f"part {n}", 2.0 + n) for n in range(3)))
            return [*parts, await run.call("tool", bench.do, "last"), run.attempt]

        bench.workflow(job)
        first = await bench.worker("w1")
        run_id = await bench.submit()
        await bench.passes(1.0)
        drained = await first.drain(20.0)
        assert (drained.finished, drained.released) == (0, 1)
        assert 2.9 < drained.ran_s < 3.5  # the slowest part, not more
        waiting = await bench.get(run_id)
        assert (waiting.state, waiting.crashes, waiting.used_calls) == (RunState.QUEUED, 0, 3)
        await bench.submit()
        await bench.passes(1.0)
        assert first.statistics().claimed == 1  # nothing new
        await bench.worker("w2")
        ended = await bench.ended(run_id)
        assert json.loads(ended.result or "") == ["did part 0", "did part 1", "did part 2", "did last", 2]
        assert bench.ledger["part 0"] == bench.ledger["part 1"] == bench.ledger["part 2"] == 2  # two runs, once each

    on_bench(tmp_path, main)


def test_what_reaches_no_step_in_time_is_cancelled_and_put_back(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run, takes_s: float) -> int:
            await asyncio.sleep(takes_s if run.attempt == 1 else 0.0)
            return run.attempt

        bench.workflow(job)
        first = await bench.worker("w1")
        ends, stays = await bench.submit(3.0), await bench.submit(100.0)
        await bench.passes(1.0)
        drained = await first.drain(5.0)
        assert (drained.finished, drained.released) == (1, 1)
        assert 4.9 < drained.ran_s < 6.0
        assert json.loads((await bench.get(ends)).result or "") == 1
        await bench.worker("w2")
        again = await bench.ended(stays)
        assert (json.loads(again.result or ""), again.crashes) == (2, 0)

    on_bench(tmp_path, main)


def test_a_stopped_worker_puts_its_runs_back_at_once(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> None:
            await run.call("tool", bench.do, "long", 100.0)

        bench.workflow(job)
        worker = await bench.worker()
        run_id = await bench.submit()
        await bench.passes(1.0)
        await worker.stop()
        await worker.stop()
        run = await bench.get(run_id)
        assert (run.state, run.reason, run.crashes) == (RunState.QUEUED, Reason.DRAINING, 0)
        assert bench.clock.monotonic() < 1.5

    on_bench(tmp_path, main)


def test_two_workers_share_the_work_and_each_run_is_done_once(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run, number: int) -> None:
            await run.call("tool", bench.do, str(number), 0.5)

        bench.workflow(job)
        first, second = await bench.worker("w1"), await bench.worker("w2")
        runs = [await bench.submit(number) for number in range(60)]
        for run_id in runs:
            assert (await bench.ended(run_id)).state is RunState.SUCCEEDED
        assert set(bench.ledger.values()) == {1}
        done = [worker.statistics().finished["succeeded"] for worker in (first, second)]
        assert sum(done) == 60
        assert min(done) > 5

    on_bench(tmp_path, main, tools={"tool": {"concurrency": 100}})


def test_replays_of_a_dead_letter_keep_its_idempotency_keys(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        keys: list[str | None] = []

        async def note() -> None:
            keys.append(current().idempotency_key)
            if len(keys) == 1:
                raise TypeError("a bug")

        async def job(run: Run) -> None:
            await run.call("tool", note)

        bench.workflow(job)
        await bench.worker()
        dead = await bench.ended(await bench.submit())
        assert (dead.state, dead.reason) == (RunState.FAILED, Reason.CALLER_ERROR)
        replayed = await bench.ended(await replay(bench, dead.id, "not_done"))
        assert replayed.state is RunState.SUCCEEDED
        assert len(keys) == 2
        assert keys[0] == keys[1]

    on_bench(tmp_path, main)


def test_a_store_that_fails_is_told_and_leaving_stays_possible(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> None:
            await asyncio.sleep(1.0)

        bench.workflow(job)
        worker = await bench.worker()
        await bench.submit()
        await bench.passes(0.5)
        await bench.upkeep.stop()
        await bench.store.close()
        await bench.passes(10.0)
        assert worker.statistics().unwritten == 1
        assert worker.statistics().heartbeat_age_s > 9.0
        began = bench.clock.monotonic()
        await worker.stop()
        assert bench.clock.monotonic() - began < 40.0
        assert {event.fields["operation"] for event in bench.told("store_failed")} >= {"claim", "finish", "extend"}
        assert bench.told("run_finished") == []

    on_bench(tmp_path, main)
