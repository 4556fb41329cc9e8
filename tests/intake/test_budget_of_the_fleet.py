"""The fleet's budget with real workers: runs never hold more than there is, and nothing is left at the end."""

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest

from headgate.config.load import parse_settings
from headgate.errors import Rejected
from headgate.gate import Gate
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.model.control import Control, ControlKind
from headgate.model.reason import Reason

SETTINGS = """
store: sqlite:///{path}
workers: {{slots: 8}}
budget: {{memory: 10GiB, tool_calls: 6, model_tokens: 100k/day}}
tools: {{crm: {{concurrency: 50}}}}
models: {{large: {{concurrency: 50}}}}
workflows:
  heavy: {{expects: {{memory: 4GiB, model_tokens: 10k}}}}
  wide: {{expects: {{parallel: 4, model_tokens: 1k}}}}
"""


def test_running_runs_hold_what_there_is_and_give_it_all_back(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        settings = parse_settings(SETTINGS.format(path=tmp_path / "runs.db"))
        gate = Gate(settings, clock=clock, rng=Random(1), store_mode="inline")
        running = {"heavy": 0, "wide": 0}
        most = dict(running)

        async def work(name: str, given: int) -> None:
            running[name] += 1
            most[name] = max(most[name], running[name])
            try:
                await asyncio.sleep(1 + given % 3)
            finally:
                running[name] -= 1
            if given == 3:
                raise ValueError("broken")

        @gate.workflow("heavy")
        async def heavy(run: Any, given: int) -> None:
            await work("heavy", given)

        @gate.workflow("wide")
        async def wide(run: Any, given: int) -> None:
            await work("wide", given)

        async with gate:
            runs = [(await gate.submit("heavy", n)).run.id for n in range(6)]
            runs += [(await gate.submit("wide", n)).run.id for n in range(6)]
            await asyncio.sleep(1.5)
            report = gate.capacity()["budget"]
            assert 0 < report["memory"]["held"] <= 8 * 2**30
            assert report["tool_calls"]["held"] in (0, 4)
            assert report["memory"]["held"] % (4 * 2**30) == 0
            with pytest.raises(Rejected) as refused:
                await gate.submit("heavy", 9, cost={"model_tokens": 60_000})
            assert (refused.value.reason, refused.value.scope) == (Reason.RATE_LIMITED, "fleet")
            await asyncio.gather(*(gate.ended(run) for run in runs))
            assert most == {"heavy": 2, "wide": 1}
            assert await gate.store.holds.held() == {}
            await gate.submit("heavy", 9, cost={"model_tokens": 60_000})  # what nobody used came back
            with pytest.raises(Rejected) as never:
                await gate.submit("heavy", 9, cost={"model_tokens": 200_000})
            assert never.value.reason == Reason.NEVER_FITS

    run_virtual(main)


def test_what_a_lowered_budget_does_not_leave_is_refused_for_now(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        settings = parse_settings(SETTINGS.format(path=tmp_path / "runs.db"))
        gate = Gate(settings, clock=clock, rng=Random(1), store_mode="inline")

        async def work(_run: Any, _given: int) -> None:
            await asyncio.sleep(1)

        gate.workflow("heavy")(work)

        def lowered(target: str, **numbers: Any) -> Control:
            return Control(
                target, ControlKind.OVERRIDE, "x", "ann", clock.now_ms(), clock.now_ms() + 300_000, **numbers
            )

        async with gate:
            await gate.controls.put(gate.store, lowered("budget:memory", limit_to=2 * 2**30))
            with pytest.raises(Rejected) as refused:
                await gate.submit("heavy", 1)
            assert (refused.value.reason, refused.value.scope) == (Reason.OVER_BUDGET, "fleet")
            assert 60 <= (refused.value.retry_after_s or 0) <= 75
            await asyncio.sleep(301)
            tokens = {"model_tokens": 50_000}
            few = lowered("budget:model_tokens", rate_amount=20_000.0, rate_window_s=86_400.0)
            await gate.controls.put(gate.store, few)
            with pytest.raises(Rejected) as refused:
                await gate.submit("heavy", 2, cost=tokens)
            assert (refused.value.reason, refused.value.scope) == (Reason.RATE_LIMITED, "fleet")
            with pytest.raises(Rejected) as never:
                await gate.submit("heavy", 3, cost={"model_tokens": 200_000})
            assert never.value.reason == Reason.NEVER_FITS
            await asyncio.sleep(301)
            assert (await gate.submit("heavy", 4, cost=tokens)).created

    run_virtual(main)


def test_without_a_budget_they_all_run_at_once(tmp_path: Path) -> None:
    """The control: what the test above would see if nothing were held."""

    async def main(clock: LoopClock) -> None:
        text = SETTINGS.format(path=tmp_path / "runs.db").replace("memory: 10GiB, tool_calls: 6, ", "")
        gate = Gate(parse_settings(text), clock=clock, rng=Random(1), store_mode="inline")
        running: list[int] = []

        @gate.workflow("heavy")
        async def heavy(run: Any, given: int) -> None:
            running.append(given)
            await asyncio.sleep(1)
            assert len(running) == 6

        async with gate:
            runs = [(await gate.submit("heavy", n)).run.id for n in range(6)]
            ended = await asyncio.gather(*(gate.ended(run) for run in runs))
            assert [run.state for run in ended] == ["succeeded"] * 6

    run_virtual(main)
