"""What was done more cheaply, over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

from headgate import Run

from .service import Service, with_service

LADDER = [{"at": 0.5, "knobs": {"hits": 5}}]


def test_a_run_says_what_was_degraded_and_why() -> None:
    async def act(service: Service) -> None:
        gate = service.gate

        async def search() -> int:
            await asyncio.sleep(4.0)
            return 1

        @gate.workflow("triage")
        async def triage(run: Run, input: Any) -> Any:
            hits = run.knob("hits", 20)
            await run.call("search", search)
            return hits

        await gate.start(upkeep=False)
        calm = ""
        for _ in range(8):  # until it is known what a run takes
            calm = (await service.submit(input={})).json()["id"]
            await gate.ended(calm)
        view = (await service.get(f"/v1/runs/{calm}")).json()
        assert (view["result"], view["degraded"], view["degradations"]) == (20, False, [])
        late = (await service.submit(input={}, deadline="8s")).json()["id"]
        await asyncio.sleep(2.0)
        view = (await service.get(f"/v1/runs/{late}")).json()
        assert (view["state"], view["degraded"], len(view["degradations"])) == ("running", True, 1)
        await gate.ended(late)
        view = (await service.get(f"/v1/runs/{late}")).json()
        assert (view["result"], view["degraded"]) == (5, True)
        assert view["degradations"] == [{"what": "hits", "from": 20, "to": 5, "why": "slack"}]

    with_service(act, tools={"search": {}}, workflows={"triage": {"degrade": LADDER}})
