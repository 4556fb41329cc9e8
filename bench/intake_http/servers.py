"""The servers to compare, each in its own process: ``python -m bench.intake_http.servers KIND FOLDER``.

``echo`` is a bare FastAPI route with a validated body, on the same uvicorn, loop and protocol; ``accept`` is headgate
with a queue that never fills, ``refuse`` one whose queue of one run is full. No workers: this measures intake. The
port is printed when requests are answered.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from headgate.config.settings import GateSettings, RunQueueSettings, WorkflowSettings
from headgate.gate import Gate
from headgate.server.serve import loop_factory, serve


class Ask(BaseModel):
    """What the echo validates: the fields of a run request."""

    workflow: str
    input: Any = None
    tenant: str | None = None
    user: str | None = None
    lane: str | None = None
    deadline: float | str | None = None
    idempotency_key: str | None = None


def ready(url: str) -> None:
    """Tell the parent process where to send."""
    print(url.rpartition(":")[2], flush=True)


async def echo() -> None:
    """FastAPI as its own documentation shows it."""
    app = FastAPI()

    @app.post("/v1/runs", status_code=202)
    async def runs(ask: Ask) -> Ask:
        return ask

    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    config = uvicorn.Config(app, http="h11", log_config=None, access_log=False, server_header=False)
    ready(f"http://127.0.0.1:{listener.getsockname()[1]}")
    await uvicorn.Server(config).serve(sockets=[listener])


async def headgate(folder: str, *, depth: int) -> None:
    """The service without workers."""
    queue = RunQueueSettings(depth=depth, bytes=1 << 40, max_age=86400.0)
    gate = Gate(GateSettings(store=f"sqlite:///{folder}/runs.db", workflows={"noop": WorkflowSettings(queue=queue)}))
    await gate.open()
    if depth == 1:
        await gate.submit("noop", tenant="acme")
    await serve(gate, port=0, workers=False, ready=ready)


if __name__ == "__main__":
    kind = sys.argv[1]
    main = echo() if kind == "echo" else headgate(sys.argv[2], depth=1 if kind == "refuse" else 10_000_000)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main)
