"""Sub-runs over HTTP: a run tells its parent and counts what it spawned; the list can be cut to one parent."""

from __future__ import annotations

import asyncio
from typing import Any

from headgate import Run

from .service import Service, with_service


def test_a_family_is_shown_from_both_sides() -> None:
    async def act(service: Service) -> None:
        gate = service.gate

        @gate.workflow("triage")
        async def triage(run: Run, input: Any) -> None:
            await run.map("report", [1, 2])

        @gate.workflow("report")
        async def report(run: Run, input: int) -> None:
            for _ in range(input):
                await run.call("search", search)

        async def search() -> None:
            await asyncio.sleep(30.0)

        await gate.start(upkeep=False)
        run_id = (await service.submit(input={})).json()["id"]
        await asyncio.sleep(40.0)
        parent = (await service.get(f"/v1/runs/{run_id}")).json()
        assert (parent["reason"], parent["spawned"], parent["parent_id"]) == ("children_wait", 2, None)
        assert parent["sub_runs"] == {"running": 1, "succeeded": 1}
        page = (await service.get("/v1/runs", parent=run_id)).json()["runs"]
        assert {(one["parent_id"], one["depth"], one["workflow"]) for one in page} == {(run_id, 1, "report")}
        assert len(page) == 2
        child = (await service.get(f"/v1/runs/{page[0]['id']}")).json()
        assert child["links"]["parent"] == parent["links"]["self"]
        assert (await service.http.get(parent["links"]["sub_runs"])).json()["runs"] == page
        assert (await service.get("/v1/runs", parent="nobody")).status_code == 400
        await gate.ended(run_id)
        parent = (await service.get(f"/v1/runs/{run_id}")).json()
        assert parent["usage"] == {"calls": 0, "model_tokens": 0}
        assert parent["usage_with_sub_runs"] == {"calls": 3, "model_tokens": 0}

    with_service(act, tools={"search": {}})
