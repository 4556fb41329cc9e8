"""What is paused and waits must not keep out what is not: the real gate in virtual time."""

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
from headgate.model.control import Control, ControlKind

SETTINGS = """
store: sqlite:///{folder}/runs.db?synchronous=off
workers: {{slots: 8}}
tools: {{crm: {{concurrency: 2}}}}
tenants: {{paused: {{}}, other: {{}}}}
workflows:
  work: {{queue: {{max_age: 3600s}}}}
  paused: {{queue: {{max_age: 3600s}}}}
"""


@pytest.mark.parametrize(
    ("target", "backlog"),
    [
        ("lane:critical", {"workflow": "work", "lane": "critical"}),
        ("workflow:paused", {"workflow": "paused", "tenant": "other"}),
        ("workflow:paused", {"workflow": "paused", "lane": "interactive"}),
        ("tenant:paused", {"workflow": "work", "tenant": "paused"}),
    ],
)
def test_others_come_in(tmp_path: Path, target: str, backlog: dict[str, Any]) -> None:
    async def main(clock: LoopClock) -> None:
        settings = parse_settings(SETTINGS.format(folder=tmp_path))
        gate = Gate(settings, clock=clock, rng=Random(1), store_mode="inline")

        async def second() -> None:
            await asyncio.sleep(1)

        async def work(run: Any, _given: int) -> None:
            await run.call("crm", second)

        gate.workflow("work")(work)
        gate.workflow("paused")(work)
        async with gate:
            for workflow in ("work", "paused"):
                for tenant in ("paused", "other"):
                    for n in range(10):
                        await gate.submit(workflow, n, tenant=tenant)
            await asyncio.sleep(40)
            await gate.controls.put(
                gate.store, Control(target, ControlKind.PAUSE, "incident 7", "ann", clock.now_ms())
            )
            most = 100 if target.startswith("tenant:") else 300  # a tenth of the queue
            for n in range(most):
                await gate.submit(input=n, **backlog)
            if target.startswith("tenant:"):
                with pytest.raises(Rejected) as refused:
                    await gate.submit(input=0, **backlog)
                assert (refused.value.reason, refused.value.scope) == ("paused", "tenant:paused")
            for _ in range(6):
                await asyncio.sleep(60)
                runs = [await gate.submit("work", n, tenant="other", deadline_s=20) for n in range(4)]
                ended = [await gate.ended(one.run.id, timeout_s=30) for one in runs]
                assert {run.state for run in ended} == {"succeeded"}
            await gate.submit("work", 1, tenant="other", lane="background")

    run_virtual(main)
