"""The control as a process: the example's workflow with no limits, behind the same requests as the service.

``python -m demo.control PORT SEED``; the directory of ``agent.py`` must be on PYTHONPATH. It answers every
``POST /v1/runs`` with 202, and tells what became of the runs at ``GET /v1/runs``.
"""

from __future__ import annotations

import random
import sys
from typing import Any

import uvicorn
from agent import gate  # type: ignore[import-not-found]  # found by its path, see above
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from headgate.clock import REAL_CLOCK
from headgate.lab.unlimited import Unlimited, UnlimitedRecord
from headgate.model.run import RunState
from headgate.server.views import moment


def _told(record: UnlimitedRecord) -> dict[str, Any]:
    """In the words of the service. Only calls that succeeded are steps, as in its journal."""
    steps = [
        {"resource": step.resource, "queued_ms": 0, "ran_ms": step.ran_ms, "tries": step.tries, "degraded": None}
        for step in record.steps
        if step.succeeded
    ]
    return {
        "id": record.id,
        "state": record.state.value,
        "reason": None if record.detail is None else record.detail.partition(":")[0],
        "submitted_at": moment(record.submitted_ms),
        "started_at": moment(record.submitted_ms),
        "finished_at": moment(record.finished_ms),
        "degraded": False,
        "steps": steps,
    }


def build(unlimited: Unlimited) -> Starlette:
    """The ASGI application."""

    async def submit(request: Request) -> JSONResponse:
        body = await request.json()
        record = unlimited.submit(body["workflow"], body["input"], tenant=body["tenant"])
        return JSONResponse({"id": record.id, "state": record.state.value}, status_code=202)

    async def one(request: Request) -> JSONResponse:
        return JSONResponse(_told(unlimited.records[request.path_params["id"]]))

    async def everything(_request: Request) -> JSONResponse:
        return JSONResponse({"runs": [_told(record) for record in unlimited.records.values()]})

    async def state(_request: Request) -> JSONResponse:
        ended = [record for record in unlimited.records.values() if record.finished_ms is not None]
        open_since = [r.submitted_ms for r in unlimited.records.values() if r.finished_ms is None]
        now_ms = REAL_CLOCK.now_ms()
        return JSONResponse(
            {
                "running": unlimited.running,
                "succeeded": sum(record.state is RunState.SUCCEEDED for record in ended),
                "failed": sum(record.state is not RunState.SUCCEEDED for record in ended),
                "oldest_age_s": (now_ms - min(open_since, default=now_ms)) / 1000,
            }
        )

    return Starlette(
        routes=[
            Route("/v1/runs", submit, methods=["POST"]),
            Route("/v1/runs", everything),
            Route("/v1/runs/{id}", one),
            Route("/state", state),
        ]
    )


def main() -> None:
    """Serve until asked to stop."""
    port, seed = int(sys.argv[1]), int(sys.argv[2])
    workflows = {name: gate.registry.get(name).function for name in gate.registry.names()}
    unlimited = Unlimited(workflows, clock=REAL_CLOCK, rng=random.Random(seed))
    uvicorn.run(
        build(unlimited),
        host="127.0.0.1",
        port=port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main()
