"""The whole, as a user holds it: library calls, durable runs, and the way out."""

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest

from headgate import (
    Gate,
    GateSettings,
    HeadgateError,
    InvalidRequest,
    Overloaded,
    Rejected,
    Run,
    RunState,
    UnknownResource,
)
from headgate.config.limit_settings import LimitRule
from headgate.config.settings import ResourceSettings, RunQueueSettings, WaitQueueSettings, WorkflowSettings
from headgate.config.units import Concurrency
from headgate.lab.virtual_time import LoopClock, run_virtual


def settings(folder: Path, **fields: Any) -> GateSettings:
    return GateSettings(
        store=f"sqlite:///{folder}/runs.db",
        tools={
            "api": ResourceSettings(
                concurrency=Concurrency(1, 1), queue=WaitQueueSettings(depth=1, max_age=1.0), breaker=None
            )
        },
        workflows={"echo": WorkflowSettings(queue=RunQueueSettings(depth=5)), "slow": WorkflowSettings()},
        **fields,
    )


def gate_at(folder: Path, clock: LoopClock, **fields: Any) -> Gate:
    gate = Gate(settings(folder, **fields), clock=clock, rng=Random(1), store_mode="inline")

    @gate.workflow("echo")
    async def echo(run: Run, value: Any) -> Any:
        return await run.call("api", lambda: value)

    @gate.workflow("slow")
    async def slow(run: Run, seconds: float) -> str:
        await run.call("api", asyncio.sleep, seconds)
        await run.call("api", asyncio.sleep, seconds)
        return "rested"

    return gate


def test_a_run_goes_in_and_its_result_comes_out(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> Any:
        async with gate_at(tmp_path, clock) as gate:
            admitted = await gate.submit("echo", {"words": ["a", 1, None]}, tenant="acme")
            return await gate.result(admitted.run.id, timeout_s=60)

    assert run_virtual(main) == {"words": ["a", 1, None]}


def test_a_refusal_is_raised_with_everything_to_act_on(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> Rejected:
        gate = gate_at(tmp_path, clock)
        await gate.start(workers=False)
        try:
            for n in range(5):
                await gate.submit("echo", n)
            with pytest.raises(Rejected) as caught:
                await gate.submit("echo", 6)
        finally:
            await gate.close()
        return caught.value

    refusal = run_virtual(main)
    assert (refusal.reason, refusal.scope, refusal.limit, refusal.used) == ("queue_full", "workflow:echo", 5, 5)
    assert refusal.retry_after_s
    assert '"executed": false' in refusal.as_tool_result()


def test_a_second_drain_waits_for_the_first(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        async with gate_at(tmp_path, clock) as gate:
            await gate.submit("slow", 10)
            await asyncio.sleep(1.0)
            first = asyncio.create_task(gate.drain(timeout_s=30))
            await asyncio.sleep(1.0)
            assert gate.draining
            await gate.drain()
            assert clock.monotonic() >= 10.0  # the call that was under way has ended
            assert gate.worker is not None
            assert gate.worker.statistics().running == 0
            await first
            assert clock.monotonic() < 11.0

    run_virtual(main)


def test_draining_puts_back_what_did_not_end_and_the_next_start_goes_on(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> tuple[RunState, int, str, float]:
        first = gate_at(tmp_path, clock)
        await first.start()
        run_id = (await first.submit("slow", 10)).run.id
        await asyncio.sleep(1)
        await first.drain(timeout_s=30)
        left = await first.store.runs.get(run_id)
        assert left is not None
        steps = len(await first.store.runs.steps(run_id))
        await first.close()
        begin = clock.monotonic()
        async with gate_at(tmp_path, clock) as second:
            result = await second.result(run_id, timeout_s=60)
            return left.state, steps, result, clock.monotonic() - begin

    state, steps, result, took_s = run_virtual(main)
    assert (state, steps, result) == (RunState.QUEUED, 1, "rested")
    assert 10 <= took_s < 12  # only the second step was carried out again


def test_a_running_run_is_cancelled_at_once_by_its_own_process(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> tuple[RunState, float]:
        async with gate_at(tmp_path, clock) as gate:
            run_id = (await gate.submit("slow", 100)).run.id
            await asyncio.sleep(1)
            begin = clock.monotonic()
            assert await gate.cancel(run_id, detail="not wanted") is not None
            ended = await gate.ended(run_id, timeout_s=60)
            assert ended.detail == "not wanted"
            return ended.state, clock.monotonic() - begin

    state, took_s = run_virtual(main)
    assert state is RunState.CANCELLED
    assert took_s < 1


def test_waiting_for_a_run_that_ended_otherwise_says_how(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        async with gate_at(tmp_path, clock) as gate:
            run_id = (await gate.submit("slow", 100, deadline_s=5)).run.id
            with pytest.raises(HeadgateError, match="deadline_passed"):
                await gate.result(run_id, timeout_s=60)
            with pytest.raises(HeadgateError, match="there is no run"):
                await gate.result("00000000-0000-7000-8000-000000000000")
            with pytest.raises(TimeoutError):
                await gate.result((await gate.submit("slow", 1000)).run.id, timeout_s=3)

    run_virtual(main)


def test_opening_from_many_places_opens_once(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> bool:
        gate = gate_at(tmp_path, clock)
        await asyncio.gather(*(gate.open() for _ in range(10)))
        store = gate.store
        await gate.open()
        same = gate.store is store
        await gate.close()
        await gate.close()
        return same

    assert run_virtual(main)


def test_a_closed_gate_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(HeadgateError, match="not open"):
        _ = Gate(settings(tmp_path)).store


def test_the_library_needs_neither_store_nor_loop(tmp_path: Path) -> None:
    gate = Gate(settings(tmp_path))
    api = gate.resource("api")

    @api.guard
    def double(number: int) -> int:
        return 2 * number

    assert double(21) == 42
    assert api.call_sync(lambda: "plain") == "plain"
    with api.slot(), pytest.raises(Overloaded) as caught, api.with_options(max_wait=0).slot():
        pytest.fail("the second slot of one must not be given")
    assert caught.value.scope == "resource:api"
    with pytest.raises(UnknownResource, match="api"):
        gate.resource("apl")
    assert list(tmp_path.iterdir()) == []


def test_capacity_tells_the_truth_about_what_is_held(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> dict[str, Any]:
        async with gate_at(tmp_path, clock) as gate:
            for seconds in (50, 60):
                await gate.submit("slow", seconds)
            await asyncio.sleep(3)
            return gate.capacity()

    report = run_virtual(main)
    (api,) = report["resources"]
    assert (api["concurrency"]["limit"], api["concurrency"]["inflight"]) == (1, 1)
    assert report["runs"]["running"] + report["runs"]["suspended"] == 2
    assert report["state"] == "serving"
    assert [lane["name"] for lane in report["lanes"]] == ["critical", "interactive", "standard", "background"]


def test_a_gate_can_be_used_again(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> list[Any]:
        gate = gate_at(tmp_path, clock)
        results = []
        for n in range(2):
            async with gate:
                assert not gate.draining
                assert gate.capacity()["state"] == "serving"
                results.append(await gate.result((await gate.submit("echo", n)).run.id, timeout_s=60))
            assert gate.worker is None
        return results

    assert run_virtual(main) == [0, 1]


def test_a_gate_that_could_not_look_at_its_queues_leaves_no_store_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(clock: LoopClock) -> None:
        gate = gate_at(tmp_path, clock)

        async def fail(_store: object) -> None:
            raise HeadgateError("no memory figures here")

        with monkeypatch.context() as patch:
            patch.setattr(gate.outlook, "refresh", fail)
            with pytest.raises(HeadgateError, match="no memory figures"):
                await gate.open()
        with pytest.raises(HeadgateError, match="not open"):
            _ = gate.store
        await gate.open()
        await gate.close()

    run_virtual(main)


@pytest.mark.parametrize("deadline_s", [0, -1, 1e300, float("inf"), float("nan")])
def test_a_deadline_that_is_no_moment_is_the_callers_mistake(tmp_path: Path, deadline_s: float) -> None:
    async def main(clock: LoopClock) -> None:
        async with gate_at(tmp_path, clock) as gate:
            with pytest.raises(InvalidRequest):
                await gate.submit("echo", 1, deadline_s=deadline_s)

    run_virtual(main)


def test_a_refusal_by_a_limit_names_its_rule(tmp_path: Path) -> None:
    rule = LimitRule.model_validate({"name": "starts", "per": "tenant", "runs": "1/h"})

    async def main(clock: LoopClock) -> None:
        async with gate_at(tmp_path, clock, limits=(rule,)) as gate:
            await gate.submit("echo", 1)
            with pytest.raises(Rejected) as refused:
                await gate.submit("echo", 2)
            assert (refused.value.scope, refused.value.rule) == ("tenant:default", "starts")
            assert "rate_limited by starts (1/1)" in str(refused.value)

    run_virtual(main)
