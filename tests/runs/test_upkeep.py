"""What must happen on time happens on time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headgate.errors import StoreError
from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.runs.context import Run
from headgate.runs.upkeep import Upkeep
from headgate.store.protocols import Moved

from .bench import Bench, on_bench


def test_a_run_that_waits_too_long_expires_at_that_moment(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        now_ms = bench.clock.now_ms()
        late = await bench.submit(queue_deadline_ms=now_ms + 10_250)
        useless = await bench.submit(deadline_ms=now_ms + 20_750)
        await bench.passes(10.3)
        run = await bench.get(late)
        assert (run.state, run.reason) == (RunState.EXPIRED, Reason.QUEUE_EXPIRED)
        assert run.finished_ms is not None
        assert run.finished_ms - now_ms <= 10_260
        await bench.passes(10.5)
        run = await bench.get(useless)
        assert (run.state, run.reason) == (RunState.EXPIRED, Reason.DEADLINE_PASSED)
        assert run.finished_ms is not None
        assert run.finished_ms - now_ms <= 20_760
        assert [event.fields["reason"] for event in bench.told("run_expired")] == ["queue_expired", "deadline_passed"]

    on_bench(tmp_path, main)


def test_several_processes_may_keep_house_at_once(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        second = Upkeep(bench.store, bench.settings, clock=bench.clock, bus=bench.bus, rng=bench.rng)
        await second.start()
        for number in range(20):
            await bench.submit(queue_deadline_ms=bench.clock.now_ms() + 100 * number + 50)
        await bench.passes(3.0)
        await second.stop()
        told = [event.fields["run_id"] for event in bench.told("run_expired")]
        assert len(told) == len(set(told)) == 20

    on_bench(tmp_path, main)


def test_runs_that_wake_are_announced_to_the_worker(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> int:
            if run.attempt == 1:
                await run.call("tool", down)
            return run.attempt

        async def down() -> None:
            raise ConnectionResetError("gone")

        bench.workflow(job)
        worker = await bench.worker()
        await bench.upkeep.stop()
        upkeep = Upkeep(
            bench.store,
            bench.settings,
            clock=bench.clock,
            bus=bench.bus,
            rng=bench.rng,
            on_waiting=worker.poke,
        )
        await upkeep.start()
        ended = await bench.ended(await bench.submit())
        assert ended.state is RunState.SUCCEEDED
        woken, claimed = bench.told("run_woken")[0], bench.told("run_claimed")[1]
        assert claimed.at_ms == woken.at_ms  # without it, up to a poll's time (60 s here) would pass
        await upkeep.stop()

    on_bench(tmp_path, main, workers={"poll": 60.0})


def test_old_runs_are_removed_and_dead_letters_stay(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run, what: str) -> None:
            if what == "fail":
                raise ValueError(what)

        bench.workflow(job)
        worker = await bench.worker()
        good, dead = await bench.submit("succeed"), await bench.submit("fail")
        await bench.ended(good)
        await bench.ended(dead)
        await worker.stop()
        await bench.passes(30.0)
        assert await bench.store.runs.get(good) is not None
        await bench.passes(2 * 3600.0)
        assert await bench.store.runs.get(good) is None
        assert (await bench.get(dead)).dead

    on_bench(tmp_path, main, workers={"keep_finished": 60.0})


def test_an_idle_house_looks_once_a_second_and_not_more(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        await bench.passes(5.0)
        before = bench.store.statistics().operations
        await bench.passes(100.0)
        assert 100 <= bench.store.statistics().operations - before <= 600

    on_bench(tmp_path, main)


def test_a_run_that_comes_in_moves_the_next_look_and_costs_none(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        await bench.passes(5.0)
        before = bench.store.statistics().operations
        for _ in range(50):
            run = await bench.get(await bench.submit(deadline_ms=bench.clock.now_ms() + 60_000))
            bench.upkeep.poke(run)
        assert bench.store.statistics().operations - before <= 110  # to store each and to read it
        await bench.passes(0.4)
        soon = await bench.get(await bench.submit(deadline_ms=bench.clock.now_ms() + 100))
        bench.upkeep.poke(soon)
        await bench.passes(0.11)
        assert (await bench.get(soon.id)).state is RunState.EXPIRED

    on_bench(tmp_path, main)


def test_a_poke_while_it_looks_is_not_lost(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        expire, poked = bench.store.upkeep.expire, False

        async def expiring(*, now_ms: int, limit: int) -> list[Moved]:
            nonlocal poked
            moved = await expire(now_ms=now_ms, limit=limit)
            if not poked:
                poked = True
                overdue = await bench.submit(deadline_ms=bench.clock.now_ms())
                bench.upkeep.poke(await bench.get(overdue))
            return moved

        bench.store.upkeep.expire = expiring  # type: ignore[method-assign]
        bench.upkeep.poke()
        await bench.passes(0.01)
        assert poked
        assert len(bench.told("run_expired")) == 1

    on_bench(tmp_path, main)


def test_upkeep_outlives_a_failing_store(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        expire, failures = bench.store.upkeep.expire, [StoreError("locked"), TypeError("a defect"), OSError("gone")]

        async def failing(**asked: int) -> Sequence[Moved]:
            if failures:
                raise failures.pop(0)
            return await expire(**asked)

        bench.store.upkeep.expire = failing  # type: ignore[method-assign,assignment]
        run_id = await bench.submit(queue_deadline_ms=bench.clock.now_ms() + 500)
        await bench.passes(5.0)
        assert not failures
        assert (await bench.get(run_id)).state is RunState.EXPIRED
        assert [event.fields["operation"] for event in bench.told("store_failed")] == ["upkeep"] * 3

    on_bench(tmp_path, main)


def test_questions_of_a_queue_that_is_no_longer_configured_expire(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> None:
            await run.approval("replies", {})

        bench.workflow(job)
        await bench.worker()
        run_id = await bench.submit()
        await bench.passes(5.0)
        await bench.upkeep.stop()
        settings = bench.settings.model_copy(update={"approvals": {}})
        upkeep = Upkeep(bench.store, settings, clock=bench.clock, bus=bench.bus, rng=bench.rng)
        await upkeep.start()
        await bench.passes(700.0)
        (told,) = bench.told("approval_decided")
        assert (told.fields["outcome"], told.fields["run_id"]) == ("expired", run_id)
        await upkeep.stop()

    on_bench(tmp_path, main)
