"""What a run is expected to take: learned by real workers, declared, and hinted."""

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest

from headgate.config.load import parse_settings
from headgate.gate import Gate
from headgate.intake.estimates import Estimates
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.model.cost import CostHint, Estimate, Evidence, RunSample
from headgate.store.open import open_store

SETTINGS = """
store: sqlite:///{path}
tools:
  crm: {{concurrency: 4}}
models:
  large: {{concurrency: 8, price_per_1k: 2.0}}
workflows:
  triage:
    expects: {{model_tokens: 5000, money: 10.0, calls: 7, memory: 64MiB, parallel: 2}}
    budget: {{model_tokens: 50k}}
"""


def estimates(text: str = SETTINGS) -> Estimates:
    return Estimates(parse_settings(text.format(path="none.db")))


def test_at_first_the_settings_speak() -> None:
    known = estimates()
    first = known.of("triage", 100)
    assert (first.model_tokens, first.money, first.calls, first.parallel) == (5000, 10.0, 7, 2)
    assert first.memory == 64 * 1024 * 1024
    assert first.evidence is Evidence.DECLARED
    assert first.stated == {"model_tokens", "money", "calls", "memory", "parallel"}
    assert known.of("elsewhere", 100) == Estimate()
    ceiling = estimates("workflows: {{triage: {{budget: {{model_tokens: 9k}}}}}}").of("triage", 1)
    assert (ceiling.model_tokens, ceiling.calls, ceiling.stated) == (9000, 0, frozenset())


def test_workers_teach_every_process_what_runs_take(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        settings = parse_settings(SETTINGS.format(path=tmp_path / "runs.db"))
        gate = Gate(settings, clock=clock, rng=Random(1), store_mode="inline")

        @gate.workflow("triage")
        async def triage(run: Any, given: Any) -> None:
            async def ask(n: int) -> dict[str, Any]:
                await asyncio.sleep(2.0)
                return {"usage": {"prompt_tokens": 400, "total_tokens": 500}}

            async def look() -> int:
                await asyncio.sleep(0.5)
                return 1

            await asyncio.gather(*(run.call("large", ask, n, model_tokens=500) for n in range(3)))
            await run.call("crm", look)
            if given == "break":
                raise ValueError("broken")

        async with gate:
            for _ in range(12):
                await gate.result((await gate.submit("triage", "x")).run.id)
            await asyncio.sleep(3)
            learned = gate.estimates.of("triage", 3)
            assert learned.evidence is Evidence.SIZE_CLASS
            assert learned.model_tokens == pytest.approx(1500, rel=0.6)
            assert learned.money == pytest.approx(3.0, rel=0.6)
            assert learned.parallel in (3, 4)
            assert learned.memory == 64 * 1024 * 1024
            assert learned.stated == {"memory"}
            assert learned.per_resource["large"].busy_s == pytest.approx(6.0, rel=0.6)
            assert learned.per_resource["crm"].calls == pytest.approx(1, rel=0.6)
            assert learned.wall_s == pytest.approx(2.5, rel=0.6)
            assert gate.estimates.of("triage", 100_000).evidence is Evidence.WORKFLOW
            (report,) = (one for one in gate.capacity()["workflows"] if one["name"] == "triage")
            assert report["cost"]["ends"] == 12
            assert report["cost"]["p50"]["model_tokens"] == pytest.approx(1500, rel=0.1)
            assert report["cost"]["resources"]["large"]["model_tokens"] == pytest.approx(1500, rel=0.1)
        other = Estimates(settings)
        store = await open_store(settings.store, mode="inline")
        await other.refresh(store)
        assert other.of("triage", 3) == learned
        await store.close()

    run_virtual(main)


def test_a_hint_raises_freely_and_lowers_to_the_median_at_most(tmp_path: Path) -> None:
    async def main(_clock: LoopClock) -> None:
        store = await open_store(f"sqlite:///{tmp_path}/runs.db", mode="inline")
        rng = Random(1)
        samples = [RunSample("triage", 10, model_tokens=rng.lognormvariate(9, 0.5), calls=5) for _ in range(300)]
        await store.profiles.learn(samples, now_ms=1)
        known = estimates()
        assert known.of("triage", 10, CostHint(model_tokens=1)).model_tokens == 1  # nothing is known yet
        await known.refresh(store)
        usual = known.of("triage", 10).model_tokens
        low = known.of("triage", 10, CostHint(model_tokens=1))
        assert low.model_tokens == pytest.approx(8100, rel=0.2)
        assert low.model_tokens < usual
        assert "model_tokens" not in low.stated
        high = known.of("triage", 10, CostHint(model_tokens=40_000, calls=30))
        assert (high.model_tokens, high.calls) == (40_000, 30)
        assert high.stated == {"memory", "model_tokens", "calls"}
        assert known.of("triage", 10, CostHint(model_tokens=10**9)).model_tokens == 50_000  # its own ceiling
        await store.close()

    run_virtual(main)
