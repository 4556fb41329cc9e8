"""A pause that stops running runs at their next step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.policy.pause import NOTHING_HELD, HeldBack
from headgate.runs.attempt import Stop

from .bench import Bench, on_bench

STEP_S = 4.0
STOPPED = {
    "lane": HeldBack(lanes={"background": 0.0}, stopping=frozenset({"lane:background"})),
    "workflow": HeldBack(workflows=frozenset({"job"}), stopping=frozenset({"workflow:job"})),
    "tenant": HeldBack(tenants=frozenset({"acme"}), stopping=frozenset({"tenant:acme"})),
}


def work(place: Bench) -> None:
    async def job(run: Any, name: str) -> str:
        for number in range(3):
            effect = "once" if number == 1 else "idempotent"
            await run.call("tool", place.do, f"{name}/{number}", STEP_S, effect=effect)
        return name

    place.workflow(job)


@pytest.mark.parametrize("what", STOPPED)
def test_running_runs_stop_at_their_next_step_and_go_on_after_the_pause(tmp_path: Path, what: str) -> None:
    async def main(place: Bench) -> None:
        work(place)
        worker = await place.worker()
        run_id = await place.submit("one", lane="background", tenant="acme")
        await place.passes(1.0)
        worker._held_back = lambda: STOPPED[what]
        worker.poke()
        await place.passes(STEP_S)
        run = await place.get(run_id)
        assert (run.state, run.reason) == (RunState.QUEUED, Reason.PAUSED)
        assert (run.attempts, run.crashes, run.preemptions) == (0, 0, 0)
        await place.passes(60)
        assert (await place.get(run_id)).state is RunState.QUEUED
        worker._held_back = lambda: NOTHING_HELD
        worker.poke()
        assert (await place.ended(run_id)).state is RunState.SUCCEEDED
        assert place.ledger == {"one/0": 1, "one/1": 1, "one/2": 1}

    on_bench(tmp_path, main)


def test_others_go_on_and_a_pause_that_ends_in_time_stops_nobody(tmp_path: Path) -> None:
    async def main(place: Bench) -> None:
        work(place)
        worker = await place.worker()
        paused = await place.submit("paused", lane="background", tenant="acme")
        other = await place.submit("other", lane="critical", tenant="acme")
        await place.passes(1.0)
        worker._held_back = lambda: STOPPED["lane"]
        worker.poke()
        await place.passes(0.5)
        stopping = {one.run.id: one.stop for one in worker._carrier.running}
        assert stopping == {paused: Stop.STEP, other: None}
        worker._held_back = lambda: NOTHING_HELD
        worker.poke()
        for run_id in (paused, other):
            run = await place.ended(run_id)
            assert (run.state, run.term) == (RunState.SUCCEEDED, 1)

    on_bench(tmp_path, main)


def test_a_pause_without_the_wish_lets_running_runs_go_on(tmp_path: Path) -> None:
    async def main(place: Bench) -> None:
        work(place)
        worker = await place.worker()
        run_id = await place.submit("one", lane="background", tenant="acme")
        await place.passes(1.0)
        worker._held_back = lambda: HeldBack(lanes={"background": 0.0})
        worker.poke()
        run = await place.ended(run_id)
        assert (run.state, run.term) == (RunState.SUCCEEDED, 1)

    on_bench(tmp_path, main)


def test_a_drain_is_not_undone_by_the_end_of_the_pause(tmp_path: Path) -> None:
    async def main(place: Bench) -> None:
        work(place)
        worker = await place.worker()
        await place.submit("one", lane="background", tenant="acme")
        await place.passes(1.0)
        worker._held_back = lambda: STOPPED["lane"]
        worker.poke()
        await place.passes(0.5)
        worker._held_back = lambda: NOTHING_HELD
        drained = await worker.drain(10.0)
        assert (drained.finished, drained.released) == (0, 1)

    on_bench(tmp_path, main)
