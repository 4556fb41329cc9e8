"""A whole service in virtual time: real store, real gate, the application called in-process."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import httpx2

from headgate.clock import Clock
from headgate.config.settings import GateSettings, LimitRule, RunQueueSettings, WorkflowSettings
from headgate.config.units import Rate
from headgate.gate import Gate
from headgate.lab.virtual_time import run_virtual
from headgate.model.run import RunState
from headgate.server.app import build_app
from headgate.server.auth import new_key
from headgate.server.front import Front
from headgate.store.protocols import ClaimRequest, RunEnd

T = TypeVar("T")

WORKFLOWS = {
    "triage": WorkflowSettings(lane="interactive", queue=RunQueueSettings(depth=200, per_tenant=50)),
    "small": WorkflowSettings(queue=RunQueueSettings(depth=2)),
    "report": WorkflowSettings(lane="background"),
}
LIMITS = (LimitRule(per="user", workflow="report", runs=Rate(2, 60.0)),)


@dataclass
class Service:
    """The parts that tests touch."""

    gate: Gate
    app: Front
    http: httpx2.AsyncClient
    secrets: dict[str, str] = field(default_factory=dict)

    async def submit(self, workflow: str = "triage", **fields: Any) -> httpx2.Response:
        """``POST /v1/runs``; ``api_key`` and ``headers`` go beside the body."""
        headers = fields.pop("headers", {})
        key = fields.pop("api_key", None)
        return await self.http.post(
            "/v1/runs", json={"workflow": workflow, **fields}, headers={**self.bearing(key), **headers}
        )

    async def post(self, path: str, body: Any = None, *, api_key: str | None = None) -> httpx2.Response:
        return await self.http.post(path, json=body, headers=self.bearing(api_key))

    async def get(self, path: str, *, api_key: str | None = None, **params: Any) -> httpx2.Response:
        return await self.http.get(path, params=params, headers=self.bearing(api_key))

    def bearing(self, name: str | None) -> dict[str, str]:
        return {} if name is None else {"authorization": f"Bearer {self.secrets[name]}"}

    async def make_key(self, name: str, role: str, tenant: str | None) -> str:
        """Store a key; later requests name it."""
        secret, key = new_key(
            role=role, tenant=tenant, label=name, now_ms=self.gate.clock.now_ms(), rng=Random(len(self.secrets))
        )
        await self.gate.store.keys.add(key)
        self.secrets[name] = secret
        return key.id

    async def claim_all(self) -> list[tuple[str, int]]:
        """Take every waiting run up, as a worker would: (id, term)."""
        now_ms = self.gate.clock.now_ms()
        claims = await self.gate.store.claims.claim(
            ClaimRequest(
                owner="w",
                now_ms=now_ms,
                lease_until_ms=now_ms + 60_000,
                lanes=tuple((lane, 100) for lane in self.gate.settings.lanes),
                workflows=tuple(self.gate.settings.workflows),
            )
        )
        return [(claim.run.id, claim.run.term) for claim in claims]

    async def end(self, run_id: str, term: int, state: RunState, **fields: Any) -> None:
        """End a claimed run, and tell it as the worker does."""
        done = await self.gate.store.claims.finish(
            [RunEnd(run_id, "w", term, state, fields.pop("reason", state.value), self.gate.clock.now_ms(), **fields)]
        )
        assert done == [True]
        self.gate.bus.emit("run_finished", run_id=run_id, outcome=state.value)


@asynccontextmanager
async def serving(clock: Clock, folder: Path, **settings: Any) -> AsyncIterator[Service]:
    """A fresh service over a new store in ``folder``, without workers."""
    given = {"workflows": WORKFLOWS, "limits": LIMITS, **settings}
    gate = Gate(
        GateSettings(store=f"sqlite:///{folder}/runs.db?synchronous=off", **given),
        clock=clock,
        rng=Random(7),
        store_mode="inline",
    )
    await gate.open()
    app = build_app(gate, rng=Random(7))
    try:
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app), base_url="http://localhost:8400", timeout=60
        ) as http:
            yield Service(gate, app, http)
    finally:
        await gate.close()


def with_service(act: Callable[[Service], Awaitable[T]], **settings: Any) -> T:
    """Run ``act(service)`` in virtual time on a service of its own."""

    async def main(clock: Clock) -> T:
        with tempfile.TemporaryDirectory() as folder:
            async with serving(clock, Path(folder), **settings) as service:
                return await act(service)

    return run_virtual(main)
