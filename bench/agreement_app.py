"""The service of `bench.agreement`: the workflow of a scenario, with its dependencies behind HTTP.

The environment says which: ``AGREEMENT_SCENARIO`` (a file), ``AGREEMENT_PROVIDER`` (base URL), ``AGREEMENT_STORE``.
"""

from __future__ import annotations

import os
from typing import Any

import httpx2

from headgate import Gate
from headgate.guard.ambient import current_resource
from headgate.lab.provider.physics import Answer
from headgate.lab.scenario.calls import Agent
from headgate.lab.scenario.description import Scenario, load_scenario
from headgate.lab.scenario.users import WORKFLOW
from headgate.lab.scenario.world import CallError

MOST_S = 120.0


class RemoteWorld:
    """Asks the simulated provider's process as `headgate.lab.scenario.world.World` asks the simulation."""

    def __init__(self, scenario: Scenario, base_url: str) -> None:
        self._dependencies = scenario.dependencies
        self._http = httpx2.AsyncClient(
            base_url=base_url,
            timeout=MOST_S,
            limits=httpx2.Limits(max_connections=500, max_keepalive_connections=100),
        )

    def is_model(self, dependency: str) -> bool:
        return self._dependencies[dependency].kind == "model"

    async def ask(self, wanted: str, run: int, place: int, reads: int, writes: int) -> dict[str, Any]:
        text = await self._made(current_resource() or wanted, reads, writes)
        return {"text": text, "usage": {"input_tokens": reads, "output_tokens": writes}}

    async def use(self, wanted: str, run: int, place: int, size: float, turn: int = 0) -> str:
        name = current_resource() or wanted
        one = self._dependencies[name]
        return await self._made(name, max(0, round((size - 1) * one.takes * one.reads)), 1)

    async def _made(self, name: str, reads: int, writes: int) -> str:
        body = {"model": name, "max_tokens": max(1, writes), "messages": [{"role": "user", "content": "?"}]}
        answer = await self._http.post("/chat/completions", json=body, headers={"x-lab-input-tokens": str(reads)})
        if answer.status_code != 200:
            wait = answer.headers.get("retry-after")
            told = Answer(answer.status_code, "refused", answer.text, None if wait is None else float(wait))
            raise CallError(told, dict(answer.headers))
        return "fine" if answer.content.endswith(b"}") else ""


scenario = load_scenario(os.environ["AGREEMENT_SCENARIO"])
gate = Gate(scenario.headgate.model_copy(update={"store": os.environ["AGREEMENT_STORE"]}))
gate.workflow(WORKFLOW)(
    Agent(RemoteWorld(scenario, os.environ["AGREEMENT_PROVIDER"]), repairs=scenario.calls.repairs).__call__  # type: ignore[arg-type]  # what an agent uses of a world, but for people
)
