"""A workflow that repeats a call that failed repeats the same step."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headgate.errors import UnknownOutcome
from headgate.guard.ambient import current
from headgate.model.run import RunState
from headgate.runs.context import Run

from .bench import Bench, on_bench, vanish


class Answered(Exception):
    """An answer of a dependency that is an error."""

    def __init__(self, status_code: int) -> None:
        super().__init__(f"HTTP {status_code}")
        self.status_code = status_code


def test_a_once_call_repeated_after_a_refusal_is_not_done_again_on_resume(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        refused: list[int] = []

        async def pay() -> str:
            if not refused:
                refused.append(1)
                raise Answered(422)
            return await bench.do("pay")

        async def job(run: Run) -> str:
            try:
                answer = await run.call("tool", pay, effect="once")
            except Answered:
                answer = await run.call("tool", pay, effect="once")
            await asyncio.sleep(30.0 if run.attempt == 1 else 0.0)
            return str(answer)

        bench.workflow(job)
        first = await bench.worker("w1")
        run_id = await bench.submit()
        await bench.passes(5.0)
        assert bench.ledger == {"pay": 1}
        vanish(first)
        await bench.worker("w2")
        ended = await bench.ended(run_id)
        assert (ended.state, ended.result, ended.term) == (RunState.SUCCEEDED, '"did pay"', 2)
        assert bench.ledger == {"pay": 1}

    on_bench(tmp_path, main)


def test_an_idempotent_call_repeated_after_a_failure_keeps_its_key(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        keys: list[str | None] = []

        async def pay() -> str:
            keys.append(current().idempotency_key)
            if len(keys) == 1:
                raise ConnectionResetError("who knows")
            return "paid"

        async def job(run: Run) -> None:
            try:
                await run.call("tool", pay)
            except ConnectionResetError:
                await run.call("tool", pay)
            await run.call("tool", pay)

        bench.workflow(job)
        await bench.worker()
        run_id = await bench.submit()
        assert (await bench.ended(run_id)).state is RunState.SUCCEEDED
        first, repeated, another = keys
        assert first == repeated != another
        assert [step.nth for step in await bench.store.runs.steps(run_id)] == [0, 1]

    on_bench(tmp_path, main)


@pytest.mark.parametrize("insist", [1, 3])
def test_a_once_call_that_may_have_taken_effect_is_not_repeated_in_the_same_attempt(
    tmp_path: Path, insist: int
) -> None:
    async def main(bench: Bench) -> None:
        async def pay() -> str:
            await bench.do("pay")
            raise Answered(500)

        async def job(run: Run) -> str:
            try:
                return str(await run.call("tool", pay, effect="once"))
            except Answered:
                for _ in range(insist - 1):
                    with pytest.raises(UnknownOutcome):
                        await run.call("tool", pay, effect="once")
                return str(await run.call("tool", pay, effect="once"))

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit())
        assert (ended.state, ended.reason) == (RunState.FAILED, "unknown_outcome")
        assert bench.ledger == {"pay": 1}

    on_bench(tmp_path, main)


def test_numbers_given_back_are_taken_lowest_first_and_those_in_flight_are_left_alone(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        calls = 0

        async def flaky() -> int:
            nonlocal calls
            calls += 1
            mine = calls
            await asyncio.sleep(0.1 * mine)
            if mine in (1, 2):
                raise ConnectionResetError("gone")
            return mine

        async def job(run: Run) -> list[int]:
            first = await asyncio.gather(*(run.call("other", flaky) for _ in range(4)), return_exceptions=True)
            assert [type(answer) for answer in first] == [ConnectionResetError, ConnectionResetError, int, int]
            return [await run.call("other", flaky) for _ in range(3)]

        bench.workflow(job)
        await bench.worker()
        run_id = await bench.submit()
        assert (await bench.ended(run_id)).result == "[5,6,7]"
        numbers = {step.nth: step.result for step in await bench.store.runs.steps(run_id)}
        assert numbers == {0: "5", 1: "6", 2: "3", 3: "4", 4: "7"}

    on_bench(tmp_path, main, tools={"tool": {}, "other": {"retry": {"attempts": 1}}})


def test_a_question_that_could_not_be_put_is_put_once_when_the_workflow_insists(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        ask, asked = bench.store.approvals.ask, 0

        async def full_at_first(*args: object, **kwargs: object) -> object:
            nonlocal asked
            asked += 1
            if asked == 1:
                raise TimeoutError("the store took too long")
            return await ask(*args, **kwargs)  # type: ignore[arg-type]

        async def job(run: Run) -> str:
            try:
                answer = await run.approval("replies", {"text": "hello"})
            except TimeoutError:
                answer = await run.approval("replies", {"text": "hello"})
            return str(answer["approved_by"])

        bench.workflow(job)
        bench.store.approvals.ask = full_at_first  # type: ignore[method-assign,assignment]
        await bench.worker()
        run_id = await bench.submit()
        await bench.passes(2.0)
        (question,) = await bench.store.approvals.waiting(queue=None, tenant=None, limit=10)
        await bench.store.approvals.decide(
            question.id, tenant=None, approved=True, by="me", note=None, now_ms=bench.clock.now_ms()
        )
        ended = await bench.ended(run_id, within_s=60.0)
        assert (ended.state, ended.result) == (RunState.SUCCEEDED, '"me"')

    on_bench(tmp_path, main)
