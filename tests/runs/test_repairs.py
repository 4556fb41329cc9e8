"""Agents repair unusable answers within a budget of the resource; beyond it they are told, and their runs wait."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headgate.config.settings import GateSettings
from headgate.errors import Overloaded, UnusableResult
from headgate.guard.registry import Resources
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.observe.bus import EventBus
from headgate.runs.context import Run
from headgate.runs.repairs import Repairs
from headgate.runs.verdict import UNUSABLE_AT_MOST

from .bench import Bench, on_bench

CAP = 10
"""Repairs that a resource affords at first."""
SHARE = 0.1
TOOLS = {"tool": {"retry": {"attempts": 1, "budget": SHARE}, "concurrency": 50}, "other": {"retry": {"attempts": 1}}}
MODELS = {"large": {"retry": {"attempts": 1}, "concurrency": 50}}
NEVER = 10**9


def _fine(answer: Any) -> bool:
    return bool(answer == "fine")


@given(st.lists(st.tuples(st.sampled_from(["good", "bad"]), st.floats(0.0, 30.0)), max_size=120))
def test_repairs_are_a_share_of_what_ends_well(calls: list[tuple[str, float]]) -> None:
    async def main(clock: LoopClock) -> None:
        settings, told = GateSettings.model_validate({"tools": TOOLS}), 0
        resources = Resources(settings, clock=clock, rng=Random(1), bus=EventBus(clock))
        repairs = Repairs(resources, clock)
        good = allowed = 0

        def tell(name: str, **fields: Any) -> None:
            nonlocal told
            told += (name, fields["reason"], fields["scope"]) == ("call_refused", "retry_budget", "resource:tool")

        for what, pause_s in calls:
            await asyncio.sleep(pause_s)
            if what == "good":
                good += 1
                repairs.answered("tool")
                continue
            try:
                repairs.ended_unusable("tool", UnusableResult("search on tool", 1), tell)
            except Overloaded as refusal:
                told -= (refusal.reason, refusal.scope, refusal.retryable) == ("retry_budget", "resource:tool", True)
            else:
                allowed += 1
            assert allowed <= CAP + SHARE * good + clock.monotonic() / 60 + 1e-6
        assert told == 0
        for _ in range(CAP):  # another resource has a budget of its own
            repairs.ended_unusable("other", UnusableResult("look on other", 1), tell)
        resources.close()

    run_virtual(main)


async def _repairing(bench: Bench, *, good_from: int) -> None:
    """A workflow whose agent asks a model to repair the request whenever the tool's answer is unusable."""

    async def search(number: int, turn: int) -> str:
        bench.ledger["searches"] += 1
        bench.ledger[f"searches of {number}"] += 1
        return "fine" if bench.ledger[f"searches of {number}"] >= good_from else "half of it"

    async def repair(number: int, turn: int) -> str:
        bench.ledger["repairs"] += 1
        return "another request"

    async def job(run: Run, number: int) -> str:
        for turn in range(50):
            try:
                return str(await run.call("tool", search, number, turn, check=_fine))
            except UnusableResult:
                await run.call("large", repair, number, turn)
        return "gave up"

    bench.workflow(job)
    await bench.worker()


def test_most_repairs_are_refused_while_most_answers_are_unusable_and_the_runs_still_succeed(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        await _repairing(bench, good_from=5)
        runs = [await bench.submit(number) for number in range(30)]
        ended = [await bench.ended(run) for run in runs]
        assert {run.state for run in ended} == {RunState.SUCCEEDED}
        assert {run.attempts for run in ended} == {0}
        assert bench.ledger["searches"] == 30 * 5
        assert bench.ledger["repairs"] <= CAP + SHARE * 2 * 30 + 2
        refused = [event.fields for event in bench.told("call_refused") if event.fields["reason"] == "retry_budget"]
        assert len(refused) == 30 * 4 - bench.ledger["repairs"]
        assert {(one["resource"], one["kind"], one["scope"]) for one in refused} == {
            ("tool", "tool", "resource:tool")
        }

    on_bench(tmp_path, main, tools=TOOLS, models=MODELS)


def test_a_few_unusable_answers_are_repaired_as_ever(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        await _repairing(bench, good_from=3)
        ended = [await bench.ended(await bench.submit(number)) for number in range(CAP // 2)]
        assert {(run.state, run.attempts) for run in ended} == {(RunState.SUCCEEDED, 0)}
        assert bench.ledger["repairs"] == CAP
        assert bench.told("call_refused") == []
        assert bench.told("run_suspended") == []

    on_bench(tmp_path, main, tools=TOOLS, models=MODELS)


def test_an_agent_may_act_on_the_refusal(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def search() -> str:
            bench.ledger["searches"] += 1
            return "half of it"

        heard: list[dict[str, Any]] = []

        async def job(run: Run) -> str:
            for _ in range(CAP + 1):
                try:
                    await run.call("tool", search, key=str(bench.ledger["searches"]), check=_fine)
                except UnusableResult:
                    continue
                except Overloaded as refusal:
                    caused = isinstance(refusal.__cause__, UnusableResult)
                    heard.append({**json.loads(refusal.as_tool_result()), "caused": caused})
                    return "without it"
            return "never told"

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit())
        assert (ended.state, ended.result) == (RunState.SUCCEEDED, '"without it"')
        (told,) = heard
        assert (told["reason"], told["scope"], told["executed"]) == ("retry_budget", "resource:tool", "unknown")
        assert (told["retry_after_s"], told["caused"]) == (1.0, True)
        assert "Do not repair the request" in told["advice"]

    on_bench(tmp_path, main, tools=TOOLS)


def test_a_call_that_never_becomes_usable_does_not_go_on_for_ever(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        await _repairing(bench, good_from=NEVER)
        for number in range(3):
            ended = await bench.ended(await bench.submit(number))
            attempts = bench.settings.workflows["job"].attempts
            assert (ended.state, ended.reason, ended.attempts) == (RunState.FAILED, Reason.RETRY_BUDGET, attempts - 1)
            assert bench.ledger[f"searches of {number}"] <= UNUSABLE_AT_MOST + attempts + CAP + 3

    on_bench(tmp_path, main, tools=TOOLS, models=MODELS)


def test_runs_that_wait_for_usable_answers_end_by_their_deadline(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        await _repairing(bench, good_from=NEVER)
        deadline_ms = bench.clock.now_ms() + 15_000
        run = await bench.ended(await bench.submit(1, deadline_ms=deadline_ms))
        assert run.state in (RunState.FAILED, RunState.EXPIRED)
        assert run.finished_ms is not None
        assert run.finished_ms <= deadline_ms + 100
        assert bench.ledger["searches of 1"] >= 15  # about one each second, beside what was repaired

    on_bench(tmp_path, main, tools=TOOLS, models=MODELS)


def test_nobody_is_told_to_repeat_what_may_have_taken_effect(tmp_path: Path) -> None:
    """A refusal says: make the same call later. Of a ``once`` step that must not be said, and no run waits for it."""

    async def main(bench: Bench) -> None:
        async def send(number: int) -> str:
            bench.ledger["sent"] += 1
            return "no receipt"

        async def job(run: Run) -> str:
            for number in range(CAP + 2):
                try:
                    await run.call("tool", send, number, effect="once", check=_fine)
                except UnusableResult:
                    continue
            return "looked after by hand"

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit())
        assert (ended.state, ended.result) == (RunState.SUCCEEDED, '"looked after by hand"')
        assert bench.ledger["sent"] == CAP + 2
        assert bench.told("call_refused") == []

    on_bench(tmp_path, main, tools=TOOLS)
