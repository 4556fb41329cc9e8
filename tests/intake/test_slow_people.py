"""Submissions of workflows that will ask people are slowed while people do not keep up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest

from headgate.config.load import parse_settings
from headgate.errors import Rejected
from headgate.gate import Gate
from headgate.lab.virtual_time import LoopClock, run_virtual

FILE = """
store: sqlite:///{folder}/runs.db?synchronous=off
approvals: {{replies: {{depth: 20, max_age: 4h}}}}
workflows: {{draft: {{asks: [replies]}}, other: {{}}}}
workers: {{slots: 64}}
"""


async def _offer(gate: Gate, times: int, *, every_s: float) -> list[Rejected]:
    refused = []
    for _ in range(times):
        try:
            await gate.submit("draft")
        except Rejected as refusal:
            refused.append(refusal)
        await asyncio.sleep(every_s)
    return refused


async def _answered(gate: Gate, clock: LoopClock, *, times: int, each_s: float) -> None:
    """So many questions, one after the other, which one person answers."""
    for _ in range(times):
        await gate.submit("draft")
        await asyncio.sleep(each_s)
        (one,) = await gate.store.approvals.waiting(queue="replies", tenant=None, limit=9)
        await gate.store.approvals.decide(
            one.id, tenant=None, approved=True, by="ann", note=None, now_ms=clock.now_ms()
        )
        gate.poke()


def test_what_will_ask_is_slowed_as_the_queue_fills_and_goes_on_when_people_answer(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        gate = Gate(parse_settings(FILE.format(folder=tmp_path)), clock=clock, rng=Random(5), store_mode="inline")

        @gate.workflow("draft")
        async def draft(run: Any) -> Any:
            return await run.approval("replies", "send it?")

        @gate.workflow("other")
        async def other(run: Any) -> str:
            return "done"

        async with gate:
            assert await _offer(gate, 10, every_s=1.2) == []
            early = await _offer(gate, 8, every_s=1.2)
            late = await _offer(gate, 30, every_s=1.2)
            assert len(early) < len(late)
            assert 0 < len(late) < 30
            waiting = (await gate.store.approvals.loads(["replies"]))["replies"].waiting
            assert 10 < sum(waiting.values()) <= 20
            refusal = late[-1]
            assert (refusal.reason, refusal.scope, refusal.limit) == ("shed", "approval:replies", 20)
            assert refusal.retry_after_s is not None
            await gate.result((await gate.submit("other")).run.id, timeout_s=5)
            for one in await gate.store.approvals.waiting(queue="replies", tenant=None, limit=50):
                await gate.store.approvals.decide(
                    one.id, tenant=None, approved=True, by="ann", note=None, now_ms=clock.now_ms()
                )
            await asyncio.sleep(1.2)
            assert await _offer(gate, 5, every_s=0.1) == []

    run_virtual(main)


def test_a_full_queue_of_people_closes_the_door(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        gate = Gate(parse_settings(FILE.format(folder=tmp_path)), clock=clock, rng=Random(5), store_mode="inline")

        @gate.workflow("draft")
        async def draft(run: Any) -> Any:
            return await run.approval("replies", "send it?")

        async with gate:
            assert await _offer(gate, 20, every_s=0.0) == []  # all between two looks
            await asyncio.sleep(2.0)
            with pytest.raises(Rejected, match="replies"):
                await gate.submit("draft")
            await asyncio.sleep(300.0)
            with pytest.raises(Rejected, match="replies"):
                await gate.submit("draft")

    run_virtual(main)


def test_a_full_queue_refuses_no_more_than_will_ask(tmp_path: Path) -> None:
    """Three runs in four need nobody; they were refused with the others."""

    async def main(clock: LoopClock) -> int:
        gate = Gate(parse_settings(FILE.format(folder=tmp_path)), clock=clock, rng=Random(5), store_mode="inline")

        @gate.workflow("draft")
        async def draft(run: Any, asks: bool) -> Any:
            return await run.approval("replies", "send it?") if asks else None

        async def answer() -> None:
            for one in await gate.store.approvals.waiting(queue="replies", tenant=None, limit=50):
                await gate.store.approvals.decide(
                    one.id, tenant=None, approved=True, by="ann", note=None, now_ms=clock.now_ms()
                )

        async with gate:
            for nth in range(40):
                await gate.submit("draft", nth % 4 == 0)
                await asyncio.sleep(1.0)
                await answer()
            await asyncio.sleep(5.0)
            for _ in range(20):
                await gate.submit("draft", True)
            await asyncio.sleep(2.0)
            refused = 0
            for _ in range(200):
                try:
                    await gate.submit("draft", False)
                except Rejected:
                    refused += 1
                await asyncio.sleep(0.1)
            return refused

    assert 20 <= run_virtual(main) <= 80


BY_TIME = """
store: sqlite:///{folder}/runs.db?synchronous=off
lanes: {{critical: {{share: 40%}}, standard: {{}}}}
approvals: {{replies: {{depth: 500, max_age: 4h}}}}
workflows: {{draft: {{lane: standard, asks: [replies]}}}}
workers: {{slots: 64}}
"""


def test_who_would_be_answered_too_late_is_refused_by_lane(tmp_path: Path) -> None:
    """One person takes ten seconds for an answer, and a run comes every two seconds."""

    async def main(clock: LoopClock) -> None:
        gate = Gate(parse_settings(BY_TIME.format(folder=tmp_path)), clock=clock, rng=Random(5), store_mode="inline")

        @gate.workflow("draft")
        async def draft(run: Any) -> Any:
            return await run.approval("replies", "send it?")

        async def person() -> None:
            while True:
                waiting = await gate.store.approvals.waiting(
                    queue="replies", tenant=None, limit=1, now_ms=clock.now_ms()
                )
                await asyncio.sleep(10.0 if waiting else 1.0)
                for one in waiting:
                    await gate.store.approvals.decide(
                        one.id, tenant=None, approved=True, by="ann", note=None, now_ms=clock.now_ms()
                    )
                    gate.poke()

        async def wanted(lane: str, deadline_s: float | None) -> Rejected | None:
            try:
                await gate.submit("draft", lane=lane, deadline_s=deadline_s)
            except Rejected as refusal:
                return refusal
            return None

        async with gate:
            answering = asyncio.create_task(person())
            for _ in range(30):
                assert await wanted("standard", None) is None
                await asyncio.sleep(2.0)
            refused = await wanted("standard", 90.0)  # about 25 questions stand before its own
            assert refused is not None
            assert (refused.reason, refused.scope, refused.limit) == ("shed", "approval:replies", 90)
            assert 200 < (refused.used or 0) < 400
            late_s = (refused.used or 0) - 90
            assert (refused.retry_after_s or 0) >= late_s, "before that it would be refused again"
            assert await wanted("standard", None) is None, "whoever has time may wait"
            assert await wanted("critical", 90.0) is None, "its question is answered before those"
            assert await wanted("critical", 5.0) is not None, "an answer takes longer than that"
            answering.cancel()

    run_virtual(main)


@pytest.mark.parametrize(
    ("on_expiry", "refused"), [("deny", True), ("approve", False), ("escalate, escalate_to: boss", False)]
)
def test_an_answer_after_the_longest_wait_fails_only_runs_to_which_silence_is_no(
    tmp_path: Path, on_expiry: str, refused: bool
) -> None:
    """One person takes ten seconds for an answer, a question waits for 30 s at most, and ten come at once."""
    waits = f"{{depth: 500, max_age: 30s, on_expiry: {on_expiry}}}"
    file = BY_TIME.replace("{{depth: 500, max_age: 4h}}", "WAITS, boss: {{depth: 500, max_age: 4h}}")

    async def main(clock: LoopClock) -> Rejected | None:
        settings = parse_settings(file.format(folder=tmp_path).replace("WAITS", waits))
        gate = Gate(settings, clock=clock, rng=Random(5), store_mode="inline")

        @gate.workflow("draft")
        async def draft(run: Any) -> Any:
            return await run.approval("replies", "send it?")

        async with gate:
            await _answered(gate, clock, times=4, each_s=10.0)
            for _ in range(10):
                await gate.submit("draft")
            await asyncio.sleep(2.0)
            try:
                await gate.submit("draft", deadline_s=3600.0)
            except Rejected as refusal:
                return refusal
            return None

    refusal = run_virtual(main)
    assert (refusal is not None) == refused
    if refusal is not None:
        assert (refusal.reason, refusal.limit) == ("shed", 30)


def test_runs_that_ask_nobody_do_not_stand_before_a_question(tmp_path: Path) -> None:
    file = BY_TIME.replace("asks: [replies]}}", "asks: [replies]}}, crunch: {{lane: standard}}")
    file = file.replace("slots: 64", "slots: 2")

    async def main(clock: LoopClock) -> None:
        gate = Gate(parse_settings(file.format(folder=tmp_path)), clock=clock, rng=Random(5), store_mode="inline")

        @gate.workflow("draft")
        async def draft(run: Any) -> Any:
            return await run.approval("replies", "send it?")

        @gate.workflow("crunch")
        async def crunch(run: Any) -> None:
            await asyncio.sleep(0.5)

        async with gate:
            await _answered(gate, clock, times=4, each_s=10.0)
            for _ in range(100):
                await gate.submit("crunch")
            await asyncio.sleep(2.0)
            assert (await gate.submit("draft", deadline_s=600.0)).created

    run_virtual(main)
