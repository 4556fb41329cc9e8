"""A store, a machine or a clock that stood still is not a crash of everything that ran; a crash still is one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from headgate.errors import StoreError
from headgate.model.run import RunState
from headgate.runs.context import Run
from headgate.runs.upkeep import Upkeep

from .bench import Bench, on_bench, vanish


class Writes:
    """Holds up every write of a bench's store, as another process with the file's lock does."""

    def __init__(self, bench: Bench) -> None:
        self._writer: Any = bench.store._writer  # type: ignore[attr-defined]
        self._submit = self._writer.submit
        self._held_up: list[tuple[Any, asyncio.Future[Any]]] = []

    def stand_still(self) -> None:
        self._writer.submit = self._later

    def fail(self) -> None:
        async def locked(_operation: Any) -> None:
            raise StoreError("database is locked")

        self._writer.submit = locked

    def go_on(self) -> None:
        self._writer.submit = self._submit
        for operation, future in self._held_up:
            self._submit(operation).add_done_callback(
                lambda done, future=future: future.cancelled() or future.set_result(done.result())
            )
        self._held_up.clear()

    def _later(self, operation: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._held_up.append((operation, future))
        return future


async def two_processes(bench: Bench, main: Callable[[str, str], Coroutine[Any, Any, None]]) -> None:
    """Two workers with a run each, and two upkeeps."""

    async def job(run: Run) -> int:
        await asyncio.sleep(90.0)
        return run.attempt

    bench.workflow(job)
    other = Upkeep(bench.store, bench.settings, clock=bench.clock, bus=bench.bus, rng=bench.rng)
    await bench.worker("w1")
    first = await bench.submit()
    await bench.passes(1.7)
    await bench.worker("w2")
    await other.start()
    second = await bench.submit()
    await bench.passes(1.7)
    try:
        await main(first, second)
    finally:
        await other.stop()


@pytest.mark.parametrize("how", ["stand_still", "fail"])
@pytest.mark.parametrize("seconds", [2.0, 7.4, 7.6, 9.9, 14.0, 15.0, 18.0, 40.0])
def test_a_store_that_stood_still_is_no_crash(tmp_path: Path, how: str, seconds: float) -> None:
    async def main(bench: Bench) -> None:
        async def stall(*run_ids: str) -> None:
            writes = Writes(bench)
            getattr(writes, how)()
            await bench.passes(seconds)
            writes.go_on()
            for run_id in run_ids:
                ended = await bench.ended(run_id)
                assert (ended.state, ended.crashes, ended.term) == (RunState.SUCCEEDED, 0, 1)
            assert bench.told("run_rescued") == bench.told("lease_lost") == []

        await two_processes(bench, stall)

    on_bench(tmp_path, main)


def test_leases_are_certain_again_as_soon_as_the_store_goes_on(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> None:
            await asyncio.sleep(20.0)
            await run.call("tool", bench.do, "post")

        bench.workflow(job)
        await bench.worker()
        await bench.submit()
        writes = Writes(bench)
        await bench.passes(1.0)
        writes.stand_still()
        await bench.passes(30.0)
        assert not bench.ledger  # whether the lease is still held cannot be known
        writes.go_on()
        await bench.passes(0.1)
        assert bench.ledger == {"post": 1}

    on_bench(tmp_path, main)


def test_a_worker_that_vanished_meanwhile_is_noticed_one_lease_after(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def stall(*run_ids: str) -> None:
            writes = Writes(bench)
            writes.stand_still()
            await bench.passes(1.0)
            vanish(bench.workers[0])
            await bench.passes(19.0)
            writes.go_on()
            went_on_ms = bench.clock.now_ms()
            await bench.passes(16.5)
            (rescued,) = bench.told("run_rescued")
            assert rescued.at_ms - went_on_ms <= 16_000
            alone = await bench.get(run_ids[1])
            assert (alone.state, alone.crashes) == (RunState.RUNNING, 0)

        await two_processes(bench, stall)

    on_bench(tmp_path, main)


def test_a_crash_is_noticed_when_the_lease_is_over(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def crash(*run_ids: str) -> None:
            vanish(bench.workers[0])
            vanished_ms = bench.clock.now_ms()
            await bench.passes(15.1)
            (rescued,) = bench.told("run_rescued")
            assert rescued.at_ms - vanished_ms <= 15_010
            assert rescued.fields["run_id"] == run_ids[0]

        await two_processes(bench, crash)

    on_bench(tmp_path, main)


def test_what_a_former_process_left_is_rescued_at_once(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> int:
            await asyncio.sleep(90.0)
            return run.attempt

        bench.workflow(job)
        await bench.worker()
        run_id = await bench.submit()
        await bench.passes(1.0)
        vanish(bench.workers[0])
        await bench.upkeep.stop()
        await bench.passes(3600.0)
        assert (await bench.get(run_id)).state is RunState.RUNNING
        await bench.upkeep.start()
        await bench.passes(0.1)
        assert (await bench.get(run_id)).crashes == 1

    on_bench(tmp_path, main)


def test_a_clock_set_forward_is_no_crash(tmp_path: Path) -> None:
    """As it is after a suspended machine wakes up."""

    async def main(bench: Bench) -> None:
        async def set_forward(*run_ids: str) -> None:
            bench.clock._epoch_ms += 3_600_000
            for run_id in run_ids:
                ended = await bench.ended(run_id)
                assert (ended.state, ended.crashes, ended.term) == (RunState.SUCCEEDED, 0, 1)

        await two_processes(bench, set_forward)

    on_bench(tmp_path, main)
