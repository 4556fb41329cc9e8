"""What a rule holds back, and what an operator's word does beside it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

from headgate.config.load import parse_settings
from headgate.gate import Gate
from headgate.lab.virtual_time import LoopClock
from headgate.model.control import ControlKind

from .desk import end, gate_in, put, run, told


def test_a_rule_holds_back_what_it_names_until_the_dependency_is_well(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        async with gate_in(tmp_path, clock) as gate:
            heard = told(gate)
            crm = gate.resource("crm")
            for _ in range(2):
                await asyncio.gather(*(crm.call(asyncio.sleep, 9.0) for _ in range(8)))
            await asyncio.sleep(1)
            pause = gate.controls.in_force.pauses["lane:background"]
            assert pause.set_by == "rule of resource:crm"
            assert pause.reason.startswith("resource:crm: p95 ")
            assert gate.resource("mail").statistics().pause is not None
            waiting = await gate.submit("late", "x")
            assert waiting.paused == "lane:background"
            assert await gate.result((await gate.submit("echo", 2)).run.id, timeout_s=5) == 2
            await asyncio.sleep(90)
            assert await gate.result(waiting.run.id, timeout_s=1) == "x"
            assert gate.resource("mail").statistics().pause is None
            assert {one.fields["target"] for one in heard} == {"lane:background", "resource:mail"}

    run(main)


def test_a_thinning_rule_leaves_a_part_and_the_operators_word_counts_more(tmp_path: Path) -> None:
    async def fail() -> None:
        raise ConnectionError

    async def main(clock: LoopClock) -> None:
        async with gate_in(tmp_path, clock) as gate:
            slow = gate.resource("slow")
            for _ in range(12):
                await asyncio.gather(*(slow.call(fail) for _ in range(2)), return_exceptions=True)
                await asyncio.sleep(1)
            assert gate.controls.in_force.held_back.lanes == {"standard": 0.25}
            assert gate.resource("mail").statistics().limit == 1
            await put(gate, "resource:mail", limit_to=3)
            assert gate.resource("mail").statistics().limit == 3
            await end(gate, "resource:mail", ControlKind.OVERRIDE)
            assert gate.resource("mail").statistics().limit == 1

    run(main)


def test_a_rule_on_a_breaker_ends_though_only_the_held_back_work_would_probe_it(tmp_path: Path) -> None:
    file = """
store: sqlite:///{folder}/runs.db?synchronous=off
tools:
  crm: {{retry: {{attempts: 1}}, pause_when: {{breaker: open, after: 5s, pauses: [lane:background]}}}}
workflows: {{late: {{lane: background}}}}
"""

    async def main(clock: LoopClock) -> None:
        gate = Gate(parse_settings(file.format(folder=tmp_path)), clock=clock, rng=Random(3), store_mode="inline")
        heard, down = told(gate), True

        async def crm() -> str:
            if down:
                raise ConnectionError
            return "well"

        @gate.workflow("late")
        async def late(run: Any) -> Any:
            return await run.call("crm", crm)

        await gate.start()
        try:
            for _ in range(30):
                await asyncio.gather(gate.resource("crm").call(crm), return_exceptions=True)
                await asyncio.sleep(1)
            assert "lane:background" in gate.controls.in_force.pauses
            down = False
            waiting = await gate.submit("late")
            assert await gate.result(waiting.run.id, timeout_s=60) == "well"
            assert [one.fields["new"] for one in heard] == ["paused", "none"]
        finally:
            await gate.close()

    run(main)


def test_two_rules_that_thin_one_resource_leave_the_smaller_part(tmp_path: Path) -> None:
    file = """
store: sqlite:///{folder}/runs.db?synchronous=off
tools:
  one: {{pause_when: {{breaker: open, after: 2s, thin_to: 50%, pauses: [resource:mail]}}, retry: {{attempts: 1}}}}
  two: {{pause_when: {{breaker: open, after: 5s, thin_to: 25%, pauses: [resource:mail]}}, retry: {{attempts: 1}}}}
  mail: {{concurrency: 8}}
"""

    async def fail() -> None:
        raise ConnectionError

    async def main(clock: LoopClock) -> list[int]:
        gate = Gate(parse_settings(file.format(folder=tmp_path)), clock=clock, rng=Random(3), store_mode="inline")
        await gate.start(workers=False)
        limits: list[int] = []
        try:
            for _ in range(30):
                calls = [gate.resource(name).call(fail) for name in ("one", "two")]
                await asyncio.gather(*calls, return_exceptions=True)
                await asyncio.sleep(1)
                limit = gate.resource("mail").statistics().limit
                if limit not in limits:
                    limits.append(limit)
        finally:
            await gate.close()
        return limits

    assert run(main) == [8, 4, 2]
