"""Overload is refused at the door, the least important first, and the refusals end when it does."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from headgate.config.load import parse_settings
from headgate.errors import Rejected
from headgate.gate import Gate
from headgate.intake.shedding import Shedder
from headgate.lab.virtual_time import LoopClock, run_virtual

FILE = """
store: sqlite:///{folder}/runs.db?synchronous=off
workers: {{slots: 4}}
lanes: {{critical: {{share: 40%}}, standard: {{share: 40%}}, background: {{share: 20%, sheddable: true}}}}
workflows:
  first: {{lane: critical, queue: {{depth: 5000, max_age: 60s}}}}
  second: {{lane: standard, queue: {{depth: 5000, max_age: 60s}}}}
  third: {{lane: background, queue: {{depth: 5000, max_age: 60s}}}}
"""
WORKFLOWS = ("first", "second", "third")


def test_the_least_important_is_shed_first_and_recovery_does_not_swing(tmp_path: Path) -> None:
    taken: Counter[str] = Counter()
    shed: Counter[str] = Counter()
    shares: list[float] = []

    async def main(clock: LoopClock) -> dict[str, Any]:
        settings = parse_settings(FILE.format(folder=tmp_path))
        gate = Gate(settings, clock=clock, rng=Random(1), store_mode="inline")

        async def work(_run: Any, _value: Any) -> None:
            await asyncio.sleep(1)

        for name in WORKFLOWS:
            gate.workflow(name)(work)
        await gate.start()

        async def load(seconds: int, each: int) -> None:
            for second in range(seconds):
                for name, number in itertools.product(WORKFLOWS, range(each)):
                    try:
                        await gate.submit(name, tenant=f"t{(second * each + number) % 97}")
                        taken[name] += 1
                    except Rejected as refusal:
                        shed[name] += refusal.reason == "shed" and refusal.retryable
                shares.append(gate.outlook.shedder.cursor.share)
                await asyncio.sleep(1)

        try:
            await load(240, 3)  # 9 a second, of which 4 can be carried
            under = gate.capacity()
            high_s = len(shares)
            await load(400, 0)
            await load(30, 1)
        finally:
            await gate.close()
        after = [share > 0 for share in shares[high_s:]]
        assert sum(one != other for one, other in itertools.pairwise(after)) <= 1
        assert not after[-1]
        return under

    under = run_virtual(main)
    assert max(shares) > 0.05
    assert shed["third"] > shed["second"] >= shed["first"]
    assert taken["first"] > taken["third"]
    assert under["cursor"]["share"] > 0
    assert "drain" in under["cursor"]["why"]
    admitted = {one["name"]: one["admitted_part"] for one in under["lanes"]}
    assert admitted["critical"] >= admitted["standard"] >= admitted["background"]
    assert next(one for one in under["lanes"] if one["name"] == "background")["refuses_why"]
    assert under["pressure"]["parts"][0]["level"] > 0


def test_processes_that_reach_the_store_by_different_paths_turn_away_the_same_tenants() -> None:
    told = []
    for folder in ("/data/fleet", "/mnt/fleet"):
        shedder = Shedder(parse_settings(f"store: sqlite:///{folder}/runs.db"))
        shedder.parts = {"background": 0.5}
        told.append([shedder.refuses("background", f"tenant-{number}", now_ms=0) for number in range(50)])
    assert told[0] == told[1]
    assert 0 < sum(told[0]) < 50
