"""The overload that one tenant makes is refused to that tenant, whatever its lanes."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from headgate.config.load import parse_settings
from headgate.errors import Rejected
from headgate.gate import Gate
from headgate.intake.excess import TENANTS_AT_MOST, Excess
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.model.run import RunState
from headgate.store.protocols import Overview, QueueState

FILE = """
store: sqlite:///{folder}/runs.db?synchronous=off
workers: {{slots: 4}}
lanes: {{standard: {{share: 90%}}, background: {{share: 10%}}}}
workflows:
  answer: {{lane: standard, deadline: 60s}}
  tidy: {{lane: background, deadline: 60s}}
"""
QUIET = 8


def test_who_asks_for_most_is_refused_and_the_later_lane_of_others_is_served(tmp_path: Path) -> None:
    refused: Counter[tuple[str, str]] = Counter()
    ends: Counter[str] = Counter()

    async def main(clock: LoopClock) -> tuple[int, int]:
        gate = Gate(parse_settings(FILE.format(folder=tmp_path)), clock=clock, rng=Random(1), store_mode="inline")

        async def work(_run: Any, _value: Any) -> None:
            await asyncio.sleep(1)

        for name in ("answer", "tidy"):
            gate.workflow(name)(work)
        quiet: list[str] = []
        told: list[float | None] = []
        innocent: list[float] = []

        async def ask(workflow: str, tenant: str) -> None:
            try:
                answer = await gate.submit(workflow, tenant=tenant)
            except Rejected as refusal:
                refused[tenant, str(refusal.scope)] += 1
                innocent.extend([clock.monotonic()] * (tenant != "loud"))
                told.append(refusal.retry_after_s)
                return
            if tenant != "loud" and clock.monotonic() > 70:  # when it was seen whose overload it is
                quiet.append(answer.run.id)

        async def load(seconds: int, loud: int) -> None:
            for second in range(seconds):
                for _ in range(loud):
                    await ask("answer", "loud")
                await ask("tidy", f"quiet-{second % QUIET}")
                await asyncio.sleep(1)

        async with gate:
            await load(20, 1)
            assert not refused
            await load(120, 10)
            in_flood = refused.total()
            await load(60, 0)
            after = refused.total()
            await load(20, 1)
            for run_id in quiet:
                ends[(await gate.ended(run_id)).state] += 1
        assert all(wait_s is not None and wait_s > 0 for wait_s in told)
        assert len(innocent) <= 10, "of 240 runs of others"
        assert max(innocent) < 70, "once it is seen whose overload it is, nobody else is refused"
        return in_flood, refused.total() - after

    in_flood, after = run_virtual(main)
    assert in_flood > 300
    assert after == 0
    assert refused["loud", "tenant:loud"] > 0.5 * refused.total()
    assert ends[RunState.SUCCEEDED] >= 0.98 * ends.total()


async def _ask(gate: Gate, refused: Counter[tuple[str, str]], workflow: str, tenant: str) -> None:
    try:
        await gate.submit(workflow, tenant=tenant)
    except Rejected as refusal:
        refused[tenant, str(refusal.scope)] += 1


def test_nobody_pays_for_people_who_do_not_keep_up(tmp_path: Path) -> None:
    """The fleet is idle. What one tenant cannot ask people is no overload that another one makes."""
    file = FILE.replace("slots: 4", "slots: 64").replace("answer: {{", "draft: {{asks: [replies]}}\n  answer: {{", 1)
    file += "approvals: {{replies: {{depth: 1}}}}\n"
    refused: Counter[tuple[str, str]] = Counter()

    async def main(clock: LoopClock) -> None:
        gate = Gate(parse_settings(file.format(folder=tmp_path)), clock=clock, rng=Random(1), store_mode="inline")

        @gate.workflow("draft")
        async def draft(run: Any) -> Any:
            return await run.approval("replies", "send it?")

        @gate.workflow("answer")
        async def answer(_run: Any) -> None:
            await asyncio.sleep(0.1)

        async with gate:
            for _ in range(60):
                for _ in range(10):
                    await _ask(gate, refused, "answer", "busy")
                await _ask(gate, refused, "draft", "asker")
                await _ask(gate, refused, "answer", "asker")
                await asyncio.sleep(1)

    run_virtual(main)
    assert refused["asker", "approval:replies"] > 40
    assert refused.total() == refused["asker", "approval:replies"]


def test_a_queue_without_a_worker_is_no_overload_that_others_make(tmp_path: Path) -> None:
    """Ten of 64 slots are in use, and one tenant's queue is full for good."""
    file = FILE.replace("slots: 4", "slots: 64").replace(
        "tidy: {{lane: background, deadline: 60s", "tidy: {{queue: {{depth: 5}}"
    )
    refused: Counter[tuple[str, str]] = Counter()

    async def main(clock: LoopClock) -> None:
        gate = Gate(parse_settings(file.format(folder=tmp_path)), clock=clock, rng=Random(1), store_mode="inline")

        @gate.workflow("answer")
        async def answer(run: Any) -> None:
            await asyncio.sleep(1.0)

        async with gate:
            for second in range(120):
                for _ in range(10):
                    await _ask(gate, refused, "answer", "busy")
                if second % 3 == 0:
                    await _ask(gate, refused, "tidy", "stuck")
                await asyncio.sleep(1)

    run_virtual(main)
    assert refused["stuck", "workflow:tidy"] > 20
    assert refused.total() == refused["stuck", "workflow:tidy"]


def picture(started: int, waiting: int) -> Overview:
    queue = QueueState("", "", "standard", waiting, 0, 0, started)
    return Overview(queues=(queue,), oldest_ms={}, states={}, dead=0)


IDLE = (("one", 0.01), ("two", 0.01))


def fed(excess: Excess, *, part: float, hurt: bool) -> None:
    """A minute in which the fleet starts 2 runs a second and one process is asked for ``part`` of everything."""
    settings = parse_settings("lanes: {standard: {}}")
    for second in range(60):
        for tenant, rate in (("loud", 8.0), ("quiet", 0.4), ("calm", 0.4), *IDLE):
            excess.offer(tenant, "standard", part * rate)
        excess.admitted(part * 2.0)
        if hurt:
            excess.felt("calm", 1.0, now_ms=1000 * second)
        # what is admitted weighs part * 2 in one run here, and 1 / part processes do the same
        excess.look(picture(round(second / part), 50), settings, now_ms=1000 * second)


def test_a_process_takes_its_part_of_the_admissions_for_its_part_of_the_capacity() -> None:
    alone, one_of_four = Excess(), Excess()
    fed(alone, part=1.0, hurt=True)
    fed(one_of_four, part=0.25, hurt=True)
    assert set(alone.parts) == set(one_of_four.parts) == {"loud"}
    refused = alone.part("loud", "standard")
    assert 0.8 < refused < 1
    assert abs(one_of_four.part("loud", "standard") - refused) < 0.02
    turned = sum(alone.refusal("loud", "standard") is not None for _ in range(1000))
    assert abs(turned / 1000 - refused) < 0.01
    assert alone.refusal("calm", "standard") is None


def test_those_above_their_share_are_not_heard_and_tenants_are_bounded() -> None:
    excess = Excess()
    fed(excess, part=1.0, hurt=True)
    room = excess.room
    settings = parse_settings("lanes: {standard: {}}")
    for second in range(60, 100):
        excess.felt("loud", 1.0, now_ms=1000 * second)
        excess.offer("loud", "standard", 8.0)
        for number in range(100):
            excess.offer(f"{second}-{number}", "standard", 0.01)
        excess.look(picture(2 * second, 50), settings, now_ms=1000 * second)
    assert excess.room > room
    assert len(excess._asked) <= TENANTS_AT_MOST
