"""The application that the crash proof kills: every effect leaves a line in an outside ledger.

The ledger is one file, opened for appending by every process; a line is one ``write``, so lines never mix.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

from headgate import Gate, Run, idempotency_key

LEDGER = os.open(os.environ["CRASH_LEDGER"], os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)

gate = Gate.load(os.environ["CRASH_CONFIG"])


def note(kind: str, run_id: str, **fields: Any) -> None:
    """Append one line to the ledger."""
    line = {"kind": kind, "run": run_id, "pid": os.getpid(), "at_ms": time.time_ns() // 1_000_000, **fields}
    os.write(LEDGER, json.dumps(line).encode() + b"\n")


async def act(run_id: str, step: str, seconds: float) -> str:
    """An effect in the outside world that takes a while."""
    note("begin", run_id, step=step, key=idempotency_key())
    await asyncio.sleep(seconds)
    note("end", run_id, step=step)
    return step


@gate.workflow("work")
async def work(run: Run, plan: dict[str, float]) -> str:
    note("attempt", run.id)
    seconds = plan["seconds"]
    await run.call("api", act, run.id, "look", seconds, effect="pure")
    await run.call("api", act, run.id, "write-a", seconds)
    await run.call("api", act, run.id, "send-a", seconds, effect="once")
    await asyncio.gather(*(run.call("api", act, run.id, f"parallel-{n}", seconds) for n in range(3)))
    await run.call("api", act, run.id, "send-b", seconds, effect="once")
    await run.call("api", act, run.id, "write-b", seconds)
    note("done", run.id)
    return "ok"
