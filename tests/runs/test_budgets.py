"""Runs at their ceilings: paused with their state kept, resumed when somebody raises them, else given up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from headgate.errors import BudgetExhausted, InvalidRequest, UnusableResult
from headgate.model.reason import Reason
from headgate.model.run import RunRecord, RunState
from headgate.runs.context import Run
from headgate.runs.raising import raise_budget

from .bench import Bench, on_bench


async def _paused(bench: Bench, run_id: str) -> RunRecord:
    async with asyncio.timeout(100.0):
        while (run := await bench.get(run_id)).state is not RunState.SUSPENDED:
            await bench.passes(0.05)
    return run


async def _raise(bench: Bench, run_id: str, **ceilings: Any) -> RunRecord | None:
    return await raise_budget(bench.store, bench.bus, run_id, tenant=None, then=bench.workers[0].poke, **ceilings)


async def answer(tokens: int, **usage: Any) -> dict[str, Any]:
    return {"usage": {"total_tokens": tokens, **usage}}


def test_a_run_is_paused_at_its_calls_and_goes_on_where_it_was(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> list[str]:
            return [await run.call("tool", bench.do, f"step {n}") for n in range(4)]

        bench.workflow(job)
        worker = await bench.worker()
        run_id = await bench.submit(budget_calls=2)
        paused = await _paused(bench, run_id)
        assert (paused.reason, paused.used_calls, paused.owner) == (Reason.BUDGET_WAIT, 2, None)
        assert worker.statistics().running == 0
        await _raise(bench, run_id, calls=4)
        ended = await bench.ended(run_id)
        assert (ended.state, ended.used_calls, ended.attempts) == (RunState.SUCCEEDED, 4, 0)
        assert set(bench.ledger.values()) == {1}
        assert [event.fields["calls"] for event in bench.told("budget_raised")] == [4]
        assert bench.told("run_suspended")[0].fields["reason"] == Reason.BUDGET_WAIT

    on_bench(tmp_path, main)


def test_calls_in_flight_end_and_are_remembered_before_the_pause(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> None:
            async with asyncio.TaskGroup() as group:
                for n in range(3):
                    group.create_task(run.call("tool", bench.do, f"part {n}", 5.0))

        bench.workflow(job)
        await bench.worker()
        run_id = await bench.submit(budget_calls=2)
        paused = await _paused(bench, run_id)
        assert bench.clock.monotonic() >= 5.0
        assert len(await bench.store.runs.steps(run_id)) == 2
        assert paused.used_calls == 2
        await _raise(bench, run_id, calls=10)
        assert (await bench.ended(run_id)).state is RunState.SUCCEEDED
        assert dict(bench.ledger) == {"part 0": 1, "part 1": 1, "part 2": 1}

    on_bench(tmp_path, main)


def test_a_call_near_the_ceiling_waits_for_what_others_really_take(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def slow(tokens: int, nth: int) -> dict[str, Any]:
            await bench.do(f"call {nth}", 1.0)
            return {"usage": {"total_tokens": tokens}}

        async def job(run: Run) -> None:
            await asyncio.gather(*(run.call("large", slow, 100, n, model_tokens=600) for n in range(4)))

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit(budget_model_tokens=1000))
        assert (ended.state, ended.used_model_tokens) == (RunState.SUCCEEDED, 400)

    on_bench(tmp_path, main)


def test_money_is_counted_by_price_or_by_reported_cost(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> None:
            await run.call("large", answer, 1000)
            assert run.attempt > 1 or run.budget.money == pytest.approx(1.5)
            await run.call("small", answer, 10, cost=1.25)
            assert run.attempt > 1 or "0.25 of money" in run.budget.words()
            await run.call("small", answer, 20, cost=0.5)
            await run.call("small", answer, 30, cost=0.5)

        bench.workflow(job)
        await bench.worker()
        run_id = await bench.submit(budget_money=2.0)
        paused = await _paused(bench, run_id)
        assert paused.used_money == pytest.approx(2.25)
        calls = [step.money for step in await bench.store.runs.steps(run_id) if step.tries]
        assert calls == pytest.approx([0.5, 1.25, 0.5])
        await _raise(bench, run_id, money=3.0)
        assert (await bench.ended(run_id)).used_money == pytest.approx(2.75)

    models = {"large": {"price_per_1k": 0.5}, "small": {}}
    on_bench(tmp_path, main, models=models)


def test_nobody_raises_it_in_time(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> None:
            await run.call("tool", bench.do, "a")
            await run.call("tool", bench.do, "b")

        bench.workflow(job)
        await bench.worker()
        run_id = await bench.submit(budget_calls=1)
        ended = await bench.ended(run_id, within_s=700.0)
        assert (ended.state, ended.reason) == (RunState.FAILED, Reason.BUDGET_EXHAUSTED)
        assert 599.0 < bench.clock.monotonic() < 605.0
        after = await _raise(bench, run_id, calls=9)
        assert after is not None
        assert after.state is RunState.FAILED

    on_bench(tmp_path, main, workflows={"job": {"budget": {"patience": "10m"}}})


def test_running_time_pauses_a_run_that_makes_no_calls_and_lets_calls_end(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> str:
            await run.call("tool", bench.do, "first", 20.0)
            await bench.passes(60.0)
            return "done"

        bench.workflow(job)
        await bench.worker()
        run_id = await bench.submit(budget_wall_ms=10_000)
        paused = await _paused(bench, run_id)
        assert 20_000 <= paused.used_wall_ms <= 21_000
        assert bench.ledger["first"] == 1
        await _raise(bench, run_id, wall_s=200.0)
        assert (await bench.ended(run_id)).state is RunState.SUCCEEDED
        assert bench.ledger["first"] == 1

    on_bench(tmp_path, main)


def test_a_budget_may_fail_instead_of_pausing(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> str:
            await run.call("tool", bench.do, "a")
            try:
                await run.call("tool", bench.do, "b")
            except BudgetExhausted as full:
                return full.dimension
            return "no ceiling"

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit(budget_calls=1))
        assert ended.result == '"calls"'

    on_bench(tmp_path, main, workflows={"job": {"budget": {"at_ceiling": "fail"}}})


def test_a_step_is_no_larger_than_the_budget_says(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def large() -> str:
            return "x" * 2000

        async def job(run: Run) -> None:
            await run.call("tool", large)

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit())
        assert ended.state is RunState.FAILED
        assert "at most 1024 are kept" in (ended.detail or "")

    on_bench(tmp_path, main, workflows={"job": {"budget": {"step_payload": "1KiB"}}})


def test_only_positive_ceilings_are_raised(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        await bench.worker()
        run_id = await bench.submit()
        for wrong in ({}, {"calls": 0}, {"money": -1.0}, {"wall_s": float("nan")}, {"model_tokens": None}):
            with pytest.raises(InvalidRequest):
                await _raise(bench, run_id, **wrong)
        with pytest.raises(InvalidRequest):
            await _raise(bench, run_id, calls=1005, more={"calls": 5})
        with pytest.raises(InvalidRequest):
            await _raise(bench, run_id, more={"money": -5.0})
        more = await _raise(bench, run_id, more={"calls": 5})
        assert more is not None
        assert more.budget_calls == 1005
        assert await _raise(bench, "nothing", calls=3) is None

    on_bench(tmp_path, main)


def test_a_prompt_that_nearly_fills_its_window_is_recorded_and_warned_of(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> str:
            await run.call("large", answer, 90, prompt_tokens=79)
            assert run.warnings == []
            await run.call("large", answer, 90, prompt_tokens=80)
            return run.warnings_for_model()

        bench.workflow(job)
        await bench.worker()
        run_id = await bench.submit()
        ended = await bench.ended(run_id)
        assert "80 of the 100 model tokens" in (ended.result or "")
        calls = [step.input_tokens for step in await bench.store.runs.steps(run_id) if step.tries]
        assert calls == [79, 80]
        (told,) = bench.told("context_window")
        assert (told.fields["used"], told.fields["limit"]) == (80, 100)

    on_bench(tmp_path, main, models={"large": {"context_window": 100}})


def test_fifty_calls_at_once_of_unknown_cost_do_not_overshoot_the_money(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def ask(nth: int) -> dict[str, Any]:
            await bench.do(f"ask {nth}", 1.0)
            return {"usage": {"total_tokens": 10, "cost": 0.1}}

        async def job(run: Run) -> None:
            await asyncio.gather(*(run.call("large", ask, nth) for nth in range(50)))

        bench.workflow(job)
        await bench.worker()
        run_id = await bench.submit(budget_money=1.05)
        paused = await _paused(bench, run_id)
        assert (paused.used_calls, paused.used_money) == pytest.approx((11, 1.1))
        await _raise(bench, run_id, money=6.0)
        assert (await bench.ended(run_id)).used_money == pytest.approx(5.0)
        assert set(bench.ledger.values()) == {1}

    on_bench(tmp_path, main)


def test_fifty_calls_at_once_keep_to_each_ceiling(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def ask(nth: int) -> dict[str, Any]:
            await bench.do(f"ask {nth}", 1.0)
            return {"usage": {"total_tokens": 900}}

        async def job(run: Run) -> None:
            await asyncio.gather(*(run.call("large", ask, nth, model_tokens=1000) for nth in range(50)))

        bench.workflow(job)
        await bench.worker()
        by_calls = await _paused(bench, await bench.submit(budget_calls=7))
        assert by_calls.used_calls == 7
        by_tokens = await _paused(bench, await bench.submit(budget_model_tokens=10_000))
        assert 9_000 < by_tokens.used_model_tokens <= 10_000

    on_bench(tmp_path, main)


def test_a_model_that_does_not_report_is_counted_as_it_was_held(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def ask(nth: int) -> str:
            return f"answer {nth}"

        async def job(run: Run) -> None:
            for nth in range(50):
                await run.call("large", ask, nth)

        bench.workflow(job)
        await bench.worker()
        paused = await _paused(bench, await bench.submit(budget_model_tokens=10_000, budget_money=100.0))
        used = (paused.used_calls, paused.used_model_tokens, paused.used_money)
        assert used == pytest.approx((5, 10_000, 5.0))

    on_bench(tmp_path, main, models={"large": {"tokens_per_call": 2000, "price_per_1k": 0.5}})


def test_every_try_of_a_call_that_fails_counts_and_what_unusable_answers_cost(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def broken() -> None:
            bench.ledger["tried"] += 1
            raise ConnectionResetError

        async def useless() -> dict[str, Any]:
            bench.ledger["asked"] += 1
            return {"usage": {"total_tokens": 100, "cost": 0.25}}

        async def job(run: Run) -> None:
            with pytest.raises(ConnectionResetError):
                await run.call("tool", broken)
            with pytest.raises(UnusableResult):
                await run.call("large", useless, check=lambda _: False)

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit(budget_money=100.0))
        asked = bench.ledger["asked"]
        assert (ended.state, bench.ledger["tried"], asked) == (RunState.SUCCEEDED, 3, 2)
        assert ended.used_calls == 5
        assert (ended.used_model_tokens, ended.used_money) == pytest.approx((200, 0.5))

    tries = {"breaker": None, "retry": {"attempts": 3, "budget": "100%"}}
    on_bench(tmp_path, main, tools={"tool": tries}, models={"large": {"breaker": None, "retry": {"attempts": 2}}})


@pytest.mark.parametrize("at_ceiling", ["pause", "fail"])
def test_a_raise_while_calls_are_under_way_is_followed_without_a_break(tmp_path: Path, at_ceiling: str) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> list[Any]:
            await run.call("tool", bench.do, "a", 10.0)
            await run.call("tool", bench.do, "b", 10.0)
            return [run.attempt, run.budget.calls]

        bench.workflow(job)
        await bench.worker()
        run_id = await bench.submit(budget_calls=1, budget_wall_ms=15_000)
        await bench.passes(2.0)
        raised = await _raise(bench, run_id, calls=5, wall_s=60.0)
        assert raised is not None
        assert raised.state is RunState.RUNNING
        ended = await bench.ended(run_id)
        assert (ended.state, ended.result) == (RunState.SUCCEEDED, "[1,3]")

    on_bench(tmp_path, main, workflows={"job": {"budget": {"at_ceiling": at_ceiling}}})


def test_a_ceiling_that_nobody_raised_fails_the_run_on_time(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run) -> None:
            await bench.passes(60.0)

        bench.workflow(job)
        await bench.worker()
        run_id = await bench.submit(budget_wall_ms=10_000)
        await bench.passes(5.0)
        await _raise(bench, run_id, wall_s=20.0)
        ended = await bench.ended(run_id)
        assert (ended.state, ended.reason) == (RunState.FAILED, Reason.BUDGET_EXHAUSTED)
        assert 20_000 <= ended.used_wall_ms < 20_500

    on_bench(tmp_path, main, workflows={"job": {"budget": {"at_ceiling": "fail"}}})
