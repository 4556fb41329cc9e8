"""Pausing, overriding and resetting over HTTP, with the rights it takes and the record it leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from headgate.config.settings import LimitRule, ResourceSettings
from headgate.config.units import Rate
from headgate.server.shapes import ControlList, ControlState

from .service import Service, with_service

TOOLS: dict[str, Any] = {
    "tools": {"github": ResourceSettings(rate=Rate(10, 60.0))},
    "limits": (LimitRule(name="few", per="tenant", runs=Rate(100, 60.0)),),
}


async def put(service: Service, target: str, body: Any, key: str | None = None) -> httpx2.Response:
    return await service.http.put(f"/v1/controls/{target}", json=body, headers=service.bearing(key))


async def delete(service: Service, target: str, key: str | None = None) -> httpx2.Response:
    return await service.http.delete(f"/v1/controls/{target}", headers=service.bearing(key))


def test_an_override_shows_with_its_base_and_ends() -> None:
    async def act(service: Service) -> None:
        body = {"limit": 2, "rate": "100/min", "reason": "incident 7", "expires": "30m"}
        response = await put(service, "resource:github", body)
        assert response.status_code == 200
        state = ControlState.model_validate(response.json())
        assert [(one.kind, one.sets, one.by) for one in state.controls] == [
            ("override", "limit 2, rate 100/min", "local")
        ]
        (resource,) = (await service.get("/v1/capacity")).json()["resources"]
        assert (resource["concurrency"]["limit"], resource["concurrency"]["base_limit"]) == (2, 8)
        assert resource["base_rate"] == {"amount": 10, "window_s": 60}
        shown = resource["override"]
        assert (shown["limit"], shown["rate"], shown["reason"]) == (
            2, {"amount": 100, "window_s": 60}, "incident 7",
        )  # fmt: skip
        await asyncio.sleep(1801.5)
        (resource,) = (await service.get("/v1/capacity")).json()["resources"]
        assert (resource["concurrency"]["limit"], resource["override"]) == (8, None)

    with_service(act, **TOOLS)


def test_a_pause_and_an_override_live_side_by_side() -> None:
    async def act(service: Service) -> None:
        await put(service, "workflow:triage", {"pause": True, "reason": "bad model"})
        await put(service, "workflow:triage", {"depth": 1, "reason": "bad model"})
        accepted = (await service.submit()).json()
        assert (accepted["paused"], accepted["eta_s"]) == ("workflow:triage", None)
        refused = await service.submit()
        assert (refused.status_code, refused.json()["reason"]) == (503, "paused")
        report = (await service.get("/v1/capacity")).json()
        (triage,) = [one for one in report["workflows"] if one["name"] == "triage"]
        assert (triage["queue"]["limit"], triage["queue"]["base_limit"]) == (1, 200)
        assert (triage["paused"]["reason"], triage["override"]["depth"]) == ("bad model", 1)
        resumed = await put(service, "workflow:triage", {"pause": False, "reason": "good again"})
        assert [one["kind"] for one in resumed.json()["controls"]] == ["override"]
        refused = await service.submit()
        assert (refused.status_code, refused.json()["reason"]) == (429, "queue_full")
        assert (await delete(service, "workflow:triage")).json()["controls"] == []
        assert (await service.submit()).status_code == 202

    with_service(act, **TOOLS)


def test_a_pause_may_stop_running_runs_but_not_resources() -> None:
    async def act(service: Service) -> None:
        state = await put(service, "workflow:triage", {"pause": True, "stop_running": True, "reason": "nonsense"})
        assert [one["sets"] for one in state.json()["controls"]] == ["paused, running runs stop"]
        assert service.gate.controls.in_force.held_back.stopping == {"workflow:triage"}
        for target, body in (
            ("resource:github", {"pause": True, "stop_running": True, "reason": "x"}),
            ("workflow:triage", {"depth": 4, "stop_running": True, "reason": "x"}),
            ("workflow:triage", {"pause": True, "stop_running": 1, "reason": "x"}),
        ):
            refused = await put(service, target, body)
            assert refused.status_code == 400
            assert [one["field"] for one in refused.json()["errors"]] == ["stop_running"]

    with_service(act, **TOOLS)


def test_the_record_says_who_what_and_why() -> None:
    async def act(service: Service) -> None:
        await service.make_key("ann", "operate", None)
        await put(service, "lane:background", {"pause": True, "reason": "night"}, "ann")
        await put(service, "limit:few", {"rate": "1/h", "reason": "abuse", "expires": "1h"}, "ann")
        await delete(service, "lane:background", "ann")
        page = ControlList.model_validate((await service.get("/v1/controls", api_key="ann")).json())
        assert [(one.target, one.sets) for one in page.controls] == [("limit:few", "rate 1/h")]
        assert [(one.target, one.before, one.after, one.by, one.reason) for one in page.changes] == [
            ("lane:background", "paused", None, "ann", "reset"),
            ("limit:few", None, "rate 1/h", "ann", "abuse"),
            ("lane:background", None, "paused", "ann", "night"),
        ]
        one = await service.get("/v1/controls", api_key="ann", target="limit:few", limit=1)
        assert [change["target"] for change in one.json()["changes"]] == ["limit:few"]

    with_service(act, **TOOLS)


@pytest.mark.parametrize(
    ("target", "body", "fields"),
    [
        ("resource:github", {"pause": True}, ["reason"]),
        ("resource:github", {"reason": "x"}, ["pause"]),
        ("resource:github", {"pause": "yes", "reason": "x"}, ["pause", "pause"]),
        ("resource:github", {"limit": True, "reason": "x"}, ["limit"]),
        ("resource:github", {"limit": 0, "reason": "x"}, ["limit"]),
        ("resource:github", {"rate": "fast", "expires": 30, "reason": "x"}, ["rate", "expires"]),
        ("github", {"pause": True, "reason": "x"}, ["target"]),
        ("limit:few", {"pause": True, "reason": "x"}, ["pause"]),
        ("resource:github", {"share": "30%", "reason": "x"}, ["share"]),
        ("resource:github", {"weight": "1", "reason": "x"}, ["weight"]),
        ("fleet", {"shed_at": 70, "reason": "x"}, ["shed_at"]),
        ("budget", {"limit": 70, "reason": "x"}, ["target"]),
        ("lane:standard", {"max_age": "soon", "reason": "x"}, ["max_age"]),
        ("limit:few", {"model_tokens": "1/min", "reason": "x"}, ["model_tokens"]),
        ("limit:few", {"limit": 1, "reason": "x"}, ["limit"]),
        ("resource:github", {"puase": True, "reason": "x"}, ["puase"]),
    ],
)
def test_mistakes_are_told_and_nothing_is_set(target: str, body: Any, fields: list[str]) -> None:
    async def act(service: Service) -> None:
        response = await put(service, target, body)
        assert response.status_code == 400
        assert [one["field"] for one in response.json()["errors"]] == fields
        assert (await service.get("/v1/controls")).json() == {"controls": [], "changes": []}

    with_service(act, **TOOLS)


def test_what_does_not_exist_is_not_found_and_what_is_near_is_named() -> None:
    async def act(service: Service) -> None:
        response = await put(service, "resource:gitub", {"limit": 3, "reason": "x"})
        assert (response.status_code, response.json()["reason"]) == (404, "not_found")
        assert "did you mean 'github'?" in response.json()["detail"]

    with_service(act, **TOOLS)


def test_the_declared_number_stays_visible_and_names_may_hold_a_slash() -> None:
    async def act(service: Service) -> None:
        assert (await service.submit(tenant="a/b")).status_code == 202
        paused = await put(service, "tenant:a%2Fb", {"pause": True, "reason": "x"})
        assert (paused.status_code, paused.json()["target"]) == (200, "tenant:a/b")
        lane = await put(service, "lane:standard", {"share": "10%", "max_age": "5m", "reason": "x"})
        (one,) = lane.json()["controls"]
        assert (one["sets"], one["declared"]) == ("max age 300s, share 10%", "max age none, share 30%")
        limit = await put(service, "limit:few", {"rate": "5/min", "reason": "x"})
        assert limit.json()["controls"][0]["declared"] == "rate 100/min"
        fleet = await put(service, "fleet", {"shed_at": "70%", "reason": "x"})
        (one,) = ControlState.model_validate(fleet.json()).controls
        assert (one.shed_at, one.declared) == (0.7, "shed at 85%")

    with_service(act, **TOOLS)


def test_what_is_not_set_cannot_be_ended() -> None:
    async def act(service: Service) -> None:
        assert (await delete(service, "lane:standard")).status_code == 404
        assert (await delete(service, "resource:gitub")).status_code == 404
        reset = await delete(service, "resource:github")  # some process may honour a cooldown
        assert (reset.status_code, reset.json()["controls"]) == (200, [])
        response = await put(service, "lane:standard", {"pause": False, "reason": "x"})
        assert response.status_code == 404

    with_service(act, **TOOLS)


@pytest.mark.parametrize(
    ("role", "tenant", "reads", "sets"),
    [
        ("submit", None, 403, 403),
        ("read", None, 200, 403),
        ("operate", "acme", 403, 403),
        ("operate", None, 200, 200),
        ("admin", None, 200, 200),
    ],
)
def test_controls_take_an_operator_of_the_whole_fleet(role: str, tenant: str | None, reads: int, sets: int) -> None:
    async def act(service: Service) -> None:
        await service.make_key("k", role, tenant)
        body = {"pause": True, "reason": "x"}
        assert (await put(service, "lane:background", body, "k")).status_code == sets
        assert (await service.get("/v1/controls", api_key="k")).status_code == reads
        assert (await delete(service, "lane:background", "k")).status_code == sets

    with_service(act, **TOOLS)
