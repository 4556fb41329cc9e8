"""Every endpoint, every role, own and foreign tenants: who may do what, and that nothing leaks."""

from __future__ import annotations

import asyncio

import pytest

from headgate.model.run import RunState
from headgate.model.step import Effect, Step, StepState
from headgate.server.auth import REMEMBER_S
from headgate.store.protocols import Approval

from .service import Service, with_service

ROLES = ("submit", "read", "operate", "admin")
OWN, FOREIGN, FLEET = "acme", "umbrella", "fleet"
APPROVAL = "01890000-0000-7000-8000-000000000001"


async def _populated(service: Service) -> dict[str, str]:
    """One running run, one dead letter and one approval, all of tenant acme; keys of every kind."""
    live = (await service.submit(tenant=OWN, input="secret-of-acme")).json()["id"]
    dead = (await service.submit("small", tenant=OWN)).json()["id"]
    asking = (await service.submit("small", tenant=OWN)).json()["id"]
    terms = {run_id: term for run_id, term in await service.claim_all() if run_id != live}
    now_ms = service.gate.clock.now_ms()
    await service.gate.store.approvals.ask(
        Approval(APPROVAL, "replies", asking, OWN, "k", '"secret-of-acme"', now_ms, now_ms + 10_000),
        "w",
        terms[asking],
        depth=5,
    )
    step = Step(
        "k1", 0, "github", "search", 0, Effect.PURE, StepState.DONE, "1", 2, 3, 1, None, 0, now_ms, now_ms + 3
    )
    assert await service.gate.store.journal.record(dead, "w", terms[dead], step)
    await service.end(dead, terms[dead], RunState.FAILED, reason="error", detail="secret-of-acme")
    for role in ROLES:
        for tenant in (OWN, FOREIGN, None):
            await service.make_key(f"{role}-{tenant or FLEET}", role, tenant)
    await asyncio.sleep(REMEMBER_S)
    return {"live": live, "dead": dead}


async def _knock(service: Service, ids: dict[str, str], endpoint: str, key: str | None) -> tuple[int, str]:
    run, dead = f"/v1/runs/{ids['live']}", f"/v1/runs/{ids['dead']}"
    if endpoint == "submit":
        response = await service.submit(tenant=OWN, api_key=key)
    elif endpoint == "cancel":
        response = await service.post(f"{run}/cancel", api_key=key)
    elif endpoint == "replay":
        response = await service.post(f"{dead}/replay", api_key=key)
    elif endpoint == "decide":
        response = await service.post(f"/v1/approvals/{APPROVAL}", {"decision": "deny"}, api_key=key)
    else:
        path = {
            "run": run,
            "events": f"{dead}/events",
            "list": "/v1/runs",
            "list_acme": "/v1/runs?tenant=acme",
            "approvals": "/v1/approvals",
            "capacity": "/v1/capacity",
            "metrics": "/metrics",
        }[endpoint]
        response = await service.get(path, api_key=key)
    return response.status_code, response.text


# endpoint → (what keys of acme, of another tenant and of the fleet get), per role: submit, read, operate, admin
EXPECTED: dict[str, dict[str, tuple[int, int, int, int]]] = {
    "submit": {OWN: (202, 403, 202, 202), FOREIGN: (403, 403, 403, 403), FLEET: (202, 403, 202, 202)},
    "run": {OWN: (200,) * 4, FOREIGN: (404,) * 4, FLEET: (200,) * 4},
    "events": {OWN: (200,) * 4, FOREIGN: (404,) * 4, FLEET: (200,) * 4},
    "list": {OWN: (200,) * 4, FOREIGN: (200,) * 4, FLEET: (200,) * 4},
    "list_acme": {OWN: (200,) * 4, FOREIGN: (200,) * 4, FLEET: (200,) * 4},
    "cancel": {OWN: (202, 403, 202, 202), FOREIGN: (404, 403, 404, 404), FLEET: (202, 403, 202, 202)},
    "replay": {OWN: (403, 403, 202, 202), FOREIGN: (403, 403, 404, 404), FLEET: (403, 403, 202, 202)},
    "approvals": {OWN: (200,) * 4, FOREIGN: (200,) * 4, FLEET: (200,) * 4},
    "decide": {OWN: (403, 403, 200, 200), FOREIGN: (403, 403, 404, 404), FLEET: (403, 403, 200, 200)},
    "capacity": {OWN: (403,) * 4, FOREIGN: (403,) * 4, FLEET: (403, 200, 200, 200)},
    "metrics": {OWN: (403,) * 4, FOREIGN: (403,) * 4, FLEET: (403, 200, 200, 200)},
}


@pytest.mark.parametrize("endpoint", EXPECTED)
def test_roles_and_tenants(endpoint: str) -> None:
    async def act(service: Service) -> None:
        ids = await _populated(service)
        for tenant, statuses in EXPECTED[endpoint].items():
            # the most powerful last: what it does may change what others would see
            for role, expected in zip(ROLES, statuses, strict=True):
                status, text = await _knock(service, ids, endpoint, f"{role}-{tenant}")
                # two roles may replay; the second finds the first one's replay unfinished
                again = endpoint == "replay" and expected == 202 and status == 409
                assert status == expected or again, f"{role} of {tenant}: {status} {text}"
                if tenant == FOREIGN:
                    assert "secret-of-acme" not in text
                    known = ids["live"] in text or ids["dead"] in text
                    assert not known or status == 404  # a refusal repeats the id it was asked about
                if status >= 400:
                    assert '"reason":' in text
        status, text = await _knock(service, ids, endpoint, None)
        assert status == 401
        assert '"reason":"unauthenticated"' in text

    with_service(act)


def test_another_tenants_run_is_as_unknown_as_none() -> None:
    async def act(service: Service) -> None:
        ids = await _populated(service)
        never = "01890000-0000-7000-8000-00000000dead"
        for path in ("", "/events"):
            foreign = await service.get(f"/v1/runs/{ids['live']}{path}", api_key="admin-umbrella")
            unknown = await service.get(f"/v1/runs/{never}{path}", api_key="admin-umbrella")
            assert foreign.status_code == unknown.status_code == 404
            assert foreign.text.replace(ids["live"], "X") == unknown.text.replace(never, "X")
        assert (await service.get("/v1/runs", api_key="admin-umbrella")).json()["runs"] == []
        listed = (await service.get("/v1/runs", api_key="submit-acme")).json()["runs"]
        assert {run["tenant"] for run in listed} == {OWN}

    with_service(act)


def test_idempotency_keys_are_per_tenant() -> None:
    async def act(service: Service) -> None:
        await _populated(service)
        mine = await service.submit(idempotency_key="k", api_key="submit-acme")
        theirs = await service.submit(idempotency_key="k", api_key="submit-umbrella")
        assert (mine.status_code, theirs.status_code) == (202, 202)
        assert mine.json()["id"] != theirs.json()["id"]

    with_service(act)


def test_open_paths_need_no_key_and_hold_no_data() -> None:
    async def act(service: Service) -> None:
        await _populated(service)
        for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
            response = await service.get(path)
            assert response.status_code == 200
            assert "acme" not in response.text.replace("tenant:acme", "")

    with_service(act)
