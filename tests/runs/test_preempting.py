"""Running runs make room for waiting runs of higher lanes, and lose nothing by it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from headgate.model.reason import Reason
from headgate.model.resource_report import ResourceReport
from headgate.model.run import RunState
from headgate.model.step import Effect
from headgate.policy.eta import WORKERS
from headgate.runs.attempt import Stop

from .bench import Bench, on_bench

STEP_S = 4.0
ONE_SLOT: dict[str, Any] = {"workers": {"slots": 1}}


def work(place: Bench, *, steps: int = 5, effect: Effect = Effect.IDEMPOTENT) -> None:
    """The workflow makes ``steps`` calls, named by its input, of `STEP_S` each."""

    async def job(run: Any, name: str) -> str:
        for number in range(steps):
            await run.call("tool", place.do, f"{name}/{number}", STEP_S, effect=effect.value)
        return name

    place.workflow(job)


async def first_start(place: Bench, run_id: str) -> float:
    """How long the run waited, in seconds."""
    run = await place.ended(run_id)
    assert run.started_ms is not None
    return (run.started_ms - run.submitted_ms) / 1000


def test_a_lower_run_makes_room_at_its_next_step_and_goes_on_later(tmp_path: Path) -> None:
    async def main(place: Bench) -> None:
        work(place)
        await place.worker()
        low = await place.submit("low", lane="background")
        await place.passes(STEP_S + 0.5)
        high = await place.submit("high", lane="critical")
        assert await first_start(place, high) <= STEP_S
        run = await place.ended(low)
        assert run.state is RunState.SUCCEEDED
        assert (run.preemptions, run.attempts, run.crashes, run.term) == (1, 0, 0, 2)
        assert all(times == 1 for times in place.ledger.values())
        (told,) = place.told("run_preempted")
        assert (told.fields["lane"], told.fields["for_lane"], told.fields["count"]) == ("background", "critical", 1)
        assert [event.fields["reason"] for event in place.told("run_released")] == [Reason.PREEMPTED]

    on_bench(tmp_path, main, **ONE_SLOT)


def test_without_preemption_it_waits_for_the_whole_run(tmp_path: Path) -> None:
    async def main(place: Bench) -> None:
        work(place)
        await place.worker()
        await place.submit("low", lane="background")
        await place.passes(STEP_S + 0.5)
        high = await place.submit("high", lane="critical")
        assert await first_start(place, high) > 3 * STEP_S
        assert not place.told("run_preempted")

    on_bench(tmp_path, main, **ONE_SLOT, preemption=None)


def test_a_run_inside_a_once_call_is_not_asked(tmp_path: Path) -> None:
    async def main(place: Bench) -> None:
        async def job(run: Any, name: str) -> str:
            await run.call("tool", place.do, f"{name}/once", 30.0, effect="once")
            await run.call("tool", place.do, f"{name}/after", 30.0)
            return name

        place.workflow(job)
        await place.worker()
        await place.submit("low", lane="background")
        await place.passes(0.5)
        await place.submit("high", lane="critical")
        await place.passes(25)
        assert not place.told("run_preempted")
        await place.passes(8)
        assert place.told("run_preempted")
        assert place.ledger["low/once"] == 1

    on_bench(tmp_path, main, **ONE_SLOT)


def test_lanes_that_are_not_preemptible_and_equal_lanes_are_left_alone(tmp_path: Path) -> None:
    async def main(place: Bench) -> None:
        work(place)
        await place.worker()
        for lane in ("interactive", "interactive"):
            await place.submit(f"{lane}", lane=lane)
        await place.passes(1)
        waiting = await place.submit("critical", lane="critical")
        assert (await place.ended(waiting)).state is RunState.SUCCEEDED
        assert not place.told("run_preempted")

    lanes = {"critical": {}, "interactive": {"preemptible": False}}
    on_bench(tmp_path, main, **ONE_SLOT, lanes=lanes)


def test_the_request_is_withdrawn_when_nobody_waits_any_more(tmp_path: Path) -> None:
    async def main(place: Bench) -> None:
        work(place)
        await place.worker()
        low = await place.submit("low", lane="background")
        await place.passes(0.5)
        high = await place.submit("high", lane="critical")
        await place.passes(2)
        assert len(place.told("run_preempted")) == 1
        await place.store.runs.cancel(high, tenant=None, now_ms=place.clock.now_ms(), detail="gone")
        run = await place.ended(low)
        assert (run.state, run.preemptions, run.term) == (RunState.SUCCEEDED, 0, 1)

    on_bench(tmp_path, main, **ONE_SLOT)


def test_a_run_that_comes_to_no_step_is_given_up_on(tmp_path: Path) -> None:
    async def main(place: Bench) -> None:
        async def job(run: Any, name: str) -> str:
            await run.call("tool", place.do, name, 300.0 if name == "long" else 1.0)
            return name

        place.workflow(job)
        await place.worker()
        long = await place.submit("long", lane="background")
        await place.passes(0.5)
        await place.submit("high", lane="critical")
        run = await place.ended(long)
        assert (run.state, run.preemptions, run.term) == (RunState.SUCCEEDED, 0, 1)
        asked = [event.at_ms for event in place.told("run_preempted")]
        assert all(later - earlier >= 60_000 for earlier, later in pairwise(asked))

    on_bench(tmp_path, main, **ONE_SLOT, tools={"tool": {"timeout": 600.0}})


def test_a_run_makes_room_three_times_at_most(tmp_path: Path) -> None:
    async def main(place: Bench) -> None:
        work(place, steps=60)
        await place.worker()
        low = await place.submit("low", lane="background")

        async def short(run: Any, name: str) -> str:
            return str(await run.call("tool", place.do, name, 1.0))

        place.registry.register("short", short)
        for number in range(7):
            await place.passes(70)
            await place.submit(f"high{number}", lane="critical", workflow="short")
        run = await place.ended(low, within_s=2000)
        assert (run.state, run.preemptions) == (RunState.SUCCEEDED, 3)
        assert all(times == 1 for times in place.ledger.values())

    on_bench(tmp_path, main, **ONE_SLOT, workflows={"job": {}, "short": {}})


def test_one_at_a_time_and_the_slot_goes_to_who_waited(tmp_path: Path) -> None:
    async def main(place: Bench) -> None:
        work(place)
        worker = await place.worker()
        for number in range(8):
            await place.submit(f"low{number}", lane="background")
        await place.passes(1)
        highs = [await place.submit(f"high{number}", lane="critical") for number in range(2)]
        await place.passes(1.6)
        stopping = [one for one in worker._carrier.running if one.stop is Stop.STEP]
        assert len(stopping) == 1
        waits = [await first_start(place, high) for high in highs]
        assert min(waits) <= STEP_S
        assert max(waits) <= 2 * STEP_S + 2
        for event in place.told("run_released"):
            assert event.fields["reason"] == Reason.PREEMPTED

    on_bench(tmp_path, main, workers={"slots": 4}, lanes={"critical": {"share": 0.5}, "background": {"share": 0.5}})


def test_draining_is_not_undone_by_a_withdrawal(tmp_path: Path) -> None:
    async def main(place: Bench) -> None:
        work(place)
        worker = await place.worker()
        low = await place.submit("low", lane="background")
        await place.passes(0.5)
        high = await place.submit("high", lane="critical")
        await place.passes(2)
        await place.store.runs.cancel(high, tenant=None, now_ms=place.clock.now_ms(), detail="gone")
        drained = await worker.drain(10.0)
        assert (drained.finished, drained.released) == (0, 1)
        assert (await place.get(low)).state is RunState.QUEUED

    on_bench(tmp_path, main, **ONE_SLOT)


FULL_HOUSE: dict[str, Any] = {
    "workers": {"slots": 4},
    "lanes": {"critical": {"share": 0.5}, "background": {"share": 0.5}},
}


async def _asked_after(place: Bench) -> float:
    """A critical run comes: seconds until somebody is asked to make room for it."""
    await place.submit("high", lane="critical")
    for _ in range(40):
        if told := place.told("run_preempted"):
            return float(told[0].fields["waited_ms"]) / 1000
        await place.passes(0.1)
    raise AssertionError("nobody was asked")


def test_nobody_is_waited_for_when_all_workers_are_full(tmp_path: Path) -> None:
    async def main(place: Bench) -> None:
        work(place)
        for name in ("w1", "w2"):
            await place.worker(name)
        for number in range(12):
            await place.submit(f"low{number}", lane="background")
        await place.passes(2.5)
        assert await _asked_after(place) <= 0.5

    on_bench(tmp_path, main, **FULL_HOUSE)


def test_a_worker_with_a_free_slot_may_take_the_run_first(tmp_path: Path) -> None:
    async def main(place: Bench) -> None:
        work(place)
        await place.worker("w1")
        for number in range(4):
            await place.submit(f"low{number}", lane="background")
        await place.passes(2.0)
        await place.store.reports.put(
            "w2", [ResourceReport(WORKERS, 4, 4, 3, 0, 0, 0.0)],
            now_ms=place.clock.now_ms(), until_ms=place.clock.now_ms() + 60_000,
        )  # fmt: skip
        await place.passes(1.0)
        assert await _asked_after(place) >= 1.25

    on_bench(tmp_path, main, **FULL_HOUSE)


def test_a_request_that_was_withdrawn_in_time_does_not_count(tmp_path: Path) -> None:
    async def main(place: Bench) -> None:
        work(place, steps=2)
        await place.worker()
        low = await place.submit("low", lane="background")
        await place.passes(0.5)
        high = await place.submit("high", lane="critical")
        await place.passes(1.0)
        await place.store.runs.cancel(high, tenant=None, now_ms=place.clock.now_ms(), detail="gone")
        await place.passes(0.5)
        higher = await place.submit("higher", lane="critical")
        assert await first_start(place, higher) <= STEP_S
        assert len(place.told("run_preempted")) == 2
        assert (await place.ended(low)).preemptions == 1

    on_bench(tmp_path, main, **ONE_SLOT)
