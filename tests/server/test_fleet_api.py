"""Capacity, metrics, approvals, health, documentation."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from headgate.config.settings import ApprovalSettings, ResourceSettings
from headgate.errors import StoreError
from headgate.server.shapes import ApprovalList, Decided, Problem
from headgate.store.protocols import Approval

from .service import Service, with_service

APPROVAL = "01890000-0000-7000-8000-000000000001"


async def _asked(service: Service, *, expires_in_ms: int = 10_000) -> str:
    """A run that waits for an approval; its id."""
    run_id: str = (await service.submit(tenant="acme")).json()["id"]
    (_, term), *_ = await service.claim_all()
    now_ms = service.gate.clock.now_ms()
    question = Approval(APPROVAL, "replies", run_id, "acme", "k", '{"draft":"hi"}', now_ms, now_ms + expires_in_ms)
    await service.gate.store.approvals.ask(question, "w", term, depth=5)
    return run_id


def test_capacity_is_the_gates_own_report() -> None:
    async def act(service: Service) -> None:
        await service.submit()
        await asyncio.sleep(1.5)
        response = await service.get("/v1/capacity")
        assert response.status_code == 200
        report = response.json()
        assert report == service.gate.capacity()
        lanes = {lane["name"]: lane["depth"] for lane in report["lanes"]}
        assert lanes["interactive"] == 1
        assert [one["name"] for one in report["resources"]] == ["github"]

    with_service(act, tools={"github": ResourceSettings()})


def test_queues_of_people_are_in_the_report_and_in_the_metrics() -> None:
    async def act(service: Service) -> None:
        await _asked(service, expires_in_ms=60_000)
        await asyncio.sleep(3.5)
        one, other = (await service.get("/v1/capacity")).json()["approvals"]
        assert (one["name"], one["queue"]["depth"], one["queue"]["limit"]) == ("replies", 1, 5)
        assert 2.0 <= one["queue"]["oldest_age_s"] <= 5.0
        assert (other["name"], other["queue"]) == (
            "leads",
            {"depth": 0, "limit": 50, "oldest_age_s": 0.0, "max_age_s": 14400.0},
        )
        families = {one.name: one for one in text_string_to_metric_families((await service.get("/metrics")).text)}

        def by_queue(name: str) -> dict[str, float]:
            return {sample.labels["queue"]: sample.value for sample in families[name].samples}

        assert by_queue("headgate_approvals_waiting") == {"replies": 1, "leads": 0}
        assert by_queue("headgate_approvals_waiting_limit") == {"replies": 5, "leads": 50}
        assert by_queue("headgate_approvals_oldest_age_seconds")["replies"] >= 2.0
        assert by_queue("headgate_approvals_oldest_age_seconds")["leads"] == 0

    with_service(act, approvals={"replies": ApprovalSettings(depth=5), "leads": ApprovalSettings()})


def test_metrics_are_readable_and_bounded() -> None:
    async def act(service: Service) -> None:
        for number in range(3):
            await service.submit("small", tenant=f"t{number}")
        await asyncio.sleep(1.5)
        response = await service.get("/metrics")
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/plain")
        families = {one.name: one for one in text_string_to_metric_families(response.text)}
        refused = [
            sample
            for sample in families["headgate_runs_refused"].samples
            if sample.name == "headgate_runs_refused_total"
        ]
        assert [(one.labels["reason"], one.value) for one in refused] == [("queue_full", 1.0)]
        depths = {one.labels["workflow"]: one.value for one in families["headgate_workflow_depth"].samples}
        assert depths["small"] == 2
        assert families["headgate_http_inflight"].samples[0].value == 1
        assert families["headgate_resource_breaker"].samples[0].labels == {"resource": "github"}
        assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-7", response.text)  # never a run id

    with_service(act, tools={"github": ResourceSettings()})


def test_histograms_add_up() -> None:
    async def act(service: Service) -> None:
        for queued_ms in (1, 40, 3000, 10_000_000):
            service.gate.bus.emit("run_claimed", workflow="triage", lane="standard", queued_ms=queued_ms)
        text = (await service.get("/metrics")).text
        buckets = {
            bound: float(value)
            for bound, value in re.findall(
                r'headgate_run_queued_seconds_bucket\{[^}]*le="([^"]+)"[^}]*\} (\S+)', text
            )
        }
        assert (buckets["0.005"], buckets["0.05"], buckets["5"], buckets["1800"], buckets["+Inf"]) == (1, 2, 3, 3, 4)
        assert 'headgate_run_queued_seconds_count{lane="standard",workflow="triage"} 4.0' in text

    with_service(act)


def test_an_approval_is_listed_and_answered_once() -> None:
    async def act(service: Service) -> None:
        run_id = await _asked(service)
        listed = ApprovalList.model_validate((await service.get("/v1/approvals", queue="replies")).json())
        assert [(one.id, one.run_id, one.payload) for one in listed.approvals] == [
            (APPROVAL, run_id, {"draft": "hi"})
        ]
        assert (await service.get("/v1/approvals", queue="other")).json() == {"approvals": []}
        response = await service.post(f"/v1/approvals/{APPROVAL}", {"decision": "approve", "note": "fine"})
        decided = Decided.model_validate(response.json())
        assert (decided.state, decided.applied, decided.decided_by, decided.note) == (
            "approved",
            True,
            "local",
            "fine",
        )
        assert (await service.get(f"/v1/runs/{run_id}")).json()["state"] == "queued"
        late = Decided.model_validate((await service.post(f"/v1/approvals/{APPROVAL}", {"decision": "deny"})).json())
        assert (late.state, late.applied) == ("approved", False)
        assert service.gate.metrics.total("headgate_approvals_decided_total", outcome="approved") == 1

    with_service(act)


@pytest.mark.parametrize(
    "body", [{}, {"decision": "yes"}, {"decision": 1}, {"decision": ["deny"]}, {"decision": "deny", "note": 5}, []]
)
def test_malformed_decisions(body: Any) -> None:
    async def act(service: Service) -> None:
        response = await service.post(f"/v1/approvals/{APPROVAL}", body)
        assert response.status_code == 400
        assert Problem.model_validate(response.json()).reason == "invalid_request"
        unknown = await service.post(f"/v1/approvals/{APPROVAL}", {"decision": "deny"})
        assert (unknown.status_code, unknown.json()["reason"]) == (404, "not_found")

    with_service(act)


def test_health_and_readiness() -> None:
    async def act(service: Service) -> None:
        for method in ("GET", "HEAD"):
            assert (await service.http.request(method, "/healthz")).status_code == 200
            assert (await service.http.request(method, "/readyz")).status_code == 200
        service.app.begin_drain()
        assert (await service.get("/healthz")).json() == {"status": "ok"}
        response = await service.get("/readyz")
        assert (response.status_code, response.json()["reason"]) == (503, "draining")

    with_service(act)


def test_a_drained_fleet_refuses_but_stays_reachable() -> None:
    async def act(service: Service) -> None:
        wish = {"pause": True, "reason": "new database"}
        state = await service.http.put("/v1/controls/fleet", json=wish)
        assert [one["sets"] for one in state.json()["controls"]] == ["drained, nothing new comes in"]
        refused = await service.submit()
        assert (refused.status_code, refused.json()["reason"], refused.json()["scope"]) == (503, "draining", "fleet")
        assert refused.json()["title"] == "Nothing new is taken in"
        assert refused.headers["retry-after"] == "60"
        ready = await service.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"status": "drained"})
        await service.http.put("/v1/controls/fleet", json={"pause": False, "reason": "done"})
        assert (await service.submit()).status_code == 202
        assert (await service.get("/readyz")).json() == {"status": "ready"}
        again = await service.http.put("/v1/controls/fleet", json={"pause": False, "reason": "done"})
        assert (again.status_code, again.json()["detail"]) == (404, "the fleet is not drained")

    with_service(act)


def test_a_broken_store_is_said_and_is_no_server_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(service: Service) -> None:
        async def broken(*_args: Any, **_kwargs: Any) -> Any:
            raise StoreError("disk full at /secret/place")

        monkeypatch.setattr(service.gate.store.runs, "overview", broken, raising=False)
        monkeypatch.setattr(service.gate.store.admissions, "admit", broken, raising=False)
        for response in (await service.get("/readyz"), await service.submit()):
            assert response.status_code == 503
            assert response.json()["reason"] == "store_unavailable"
            assert "secret" not in response.text
            assert response.headers["x-should-retry"] == "true"
            assert 1 <= int(response.headers["retry-after"]) <= 60

    with_service(act)


def test_the_description_covers_every_endpoint_and_the_page_needs_nothing_else() -> None:
    async def act(service: Service) -> None:
        api = (await service.get("/openapi.json")).json()
        assert set(api["paths"]) == {
            "/v1/runs",
            "/v1/runs/{run_id}",
            "/v1/runs/{run_id}/events",
            "/v1/runs/{run_id}/cancel",
            "/v1/runs/{run_id}/replay",
            "/v1/runs/{run_id}/budget",
            "/v1/capacity",
            "/v1/controls",
            "/v1/controls/{target}",
            "/v1/dead",
            "/v1/dead/{run_id}",
            "/v1/dead/replay",
            "/v1/dead/dismiss",
            "/v1/dead/purge",
            "/v1/approvals",
            "/v1/approvals/{approval_id}",
            "/metrics",
            "/healthz",
            "/readyz",
        }
        post = api["paths"]["/v1/runs"]["post"]
        assert {"200", "202", "400", "404", "413", "422", "429", "503"} <= set(post["responses"])
        assert "workflow" in post["requestBody"]["content"]["application/json"]["schema"]["properties"]
        assert "Problem" in api["components"]["schemas"]
        page = await service.get("/docs")
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        for path in api["paths"]:
            assert path in page.text
        assert not re.search(r"<script|https?://(?!iana)|src=", page.text)

    with_service(act)
