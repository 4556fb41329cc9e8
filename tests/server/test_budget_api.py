"""Raising a run's ceilings over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headgate.config.settings import RunBudget, WorkflowSettings
from headgate.model.ids import uuid7
from headgate.model.run import RunState
from headgate.server.shapes import BudgetState

from .service import Service, with_service

WORKFLOWS = {"triage": WorkflowSettings(budget=RunBudget(calls=60, model_tokens=50_000))}


async def raised(service: Service, run_id: str, body: Any, key: str | None = None) -> tuple[int, Any]:
    response = await service.post(f"/v1/runs/{run_id}/budget", body, api_key=key)
    return response.status_code, response.json()


def test_ceilings_are_raised_to_totals_or_by_amounts() -> None:
    async def act(service: Service) -> None:
        run_id = (await service.submit()).json()["id"]
        status, answer = await raised(service, run_id, {"model_tokens": "100k", "calls": "+20"})
        assert status == 200
        state = BudgetState.model_validate(answer)
        assert (state.budget.calls, state.budget.model_tokens) == (80, 100_000)
        status, answer = await raised(service, run_id, {"calls": 10})
        assert (status, answer["budget"]["calls"]) == (200, 80), "nothing is lowered"

    with_service(act, workflows=WORKFLOWS)


def test_amounts_more_are_added_by_the_store_however_many_ask_at_once() -> None:
    async def act(service: Service) -> None:
        run_id = (await service.submit()).json()["id"]
        await asyncio.gather(*(raised(service, run_id, {"calls": " +20", "model_tokens": "+1k"}) for _ in range(10)))
        state = (await raised(service, run_id, {"calls": "+1"}))[1]["budget"]
        assert (state["calls"], state["model_tokens"]) == (261, 60_000)

    with_service(act, workflows=WORKFLOWS)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "calls"),
        ({"calls": 0}, "calls"),
        ({"calls": "+many"}, "calls"),
        ({"calls": "+0"}, "calls"),
        ({"calls": "+0.5"}, "calls"),
        ({"calls": 1e300}, "calls"),
        ({"calls": "+1e5"}, "calls"),
        ({"money": 5}, "money"),
        ({"wall": 30}, "wall"),
        ({"tokens": 5}, "tokens"),
    ],
)
def test_mistakes_are_told(body: Any, field: str) -> None:
    async def act(service: Service) -> None:
        run_id = (await service.submit()).json()["id"]
        status, answer = await raised(service, run_id, body)
        assert (status, [one["field"] for one in answer["errors"]]) == (400, [field])

    with_service(act, workflows=WORKFLOWS)


def test_only_operators_raise_and_only_what_goes_on() -> None:
    async def act(service: Service) -> None:
        run_id = (await service.submit(tenant="acme")).json()["id"]
        for name, role, tenant in (("a", "submit", "acme"), ("b", "operate", "other"), ("c", "operate", "acme")):
            await service.make_key(name, role, tenant)
        assert [(await raised(service, run_id, {"calls": "+1"}, key))[0] for key in "abc"] == [403, 404, 200]
        unknown = uuid7(1, lambda bits: 1)
        assert [(await raised(service, name, {"calls": 99}, "c"))[0] for name in (unknown, "nothing")] == [404, 404]
        ((claimed, term),) = await service.claim_all()
        await service.end(claimed, term, RunState.SUCCEEDED, result="1")
        status, answer = await raised(service, run_id, {"calls": 99}, "c")
        assert (status, answer["detail"]) == (409, "the run has ended as succeeded")

    with_service(act, workflows=WORKFLOWS)
