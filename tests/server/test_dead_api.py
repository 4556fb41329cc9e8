"""Dead letters over HTTP: who may, what fits, how far a bulk request comes, and that nothing runs twice."""

from __future__ import annotations

import asyncio
from typing import Any

from headgate.config.settings import RunQueueSettings, WorkflowSettings
from headgate.model.run import RunState

from .service import Service, with_service


async def _dead(service: Service, count: int = 1, **fields: Any) -> list[str]:
    """Runs that failed, oldest first."""
    ids = []
    for n in range(count):
        await service.submit(**{"workflow": "triage", "input": n, **fields})
        ((run_id, term),) = await service.claim_all()
        await service.end(run_id, term, RunState.FAILED, reason="error", detail="it broke")
        ids.append(run_id)
        await asyncio.sleep(1)
    return ids


def test_they_are_listed_shown_and_leave_the_list_when_a_replay_succeeds() -> None:
    async def act(service: Service) -> None:
        (run_id,) = await _dead(service)
        (listed,) = (await service.get("/v1/dead")).json()["dead"]
        assert (listed["id"], listed["resolved_by"]) == (run_id, None)
        one = (await service.get(f"/v1/dead/{run_id}")).json()
        assert [(line["state"], line["detail"]) for line in one["history"]] == [("failed", "it broke")]
        assert one["replays"] == []
        answer = (await service.post("/v1/dead/replay", {"reason": "error"})).json()
        ((pair),) = answer["replayed"]
        assert pair["id"] == run_id
        assert (answer["next"], answer["stopped"]) == (None, None)
        again = (await service.post("/v1/dead/replay", {"all": True})).json()
        assert [one["reason"] for one in again["skipped"]] == ["not_replayable"], "never twice at the same time"
        ((replay_id, term),) = await service.claim_all()
        await service.end(replay_id, term, RunState.SUCCEEDED)
        assert (await service.get("/v1/dead")).json()["dead"] == []
        (listed,) = (await service.get("/v1/dead", resolved="true")).json()["dead"]
        assert listed["resolved_by"] == pair["replay"]
        shown = (await service.get(f"/v1/dead/{run_id}")).json()
        assert [one["id"] for one in shown["replays"]] == [replay_id]
        assert (await service.get(f"/v1/dead/{replay_id}")).status_code == 404

    with_service(act)


def test_filters_fit_together() -> None:
    async def act(service: Service) -> None:
        old, young = await _dead(service, 2, tenant="a")
        (other,) = await _dead(service, workflow="report", tenant="b")

        async def ids(**wanted: Any) -> list[str]:
            return [one["id"] for one in (await service.get("/v1/dead", **wanted)).json()["dead"]]

        assert await ids(older_than="2500ms") == [old]
        assert await ids(since="2500ms") == [other, young]
        assert await ids(tenant="a", since="2500ms") == [young]
        assert await ids(workflow="report") == await ids(lane="background") == [other]
        assert await ids(reason="timeout") == []
        dry = (await service.post("/v1/dead/replay", {"older_than": "1500ms", "dry_run": True})).json()
        assert (dry["ids"], dry["matched"], dry["replayed"]) == ([old, young], 2, [])
        assert await service.claim_all() == []

    with_service(act)


def test_what_became_too_old_is_replayed_only_by_decision() -> None:
    async def act(service: Service) -> None:
        await service.submit("triage", input=1, deadline=1)
        await asyncio.sleep(2)
        (moved,) = await service.gate.store.upkeep.expire(now_ms=service.gate.clock.now_ms(), limit=10)
        assert (await service.post("/v1/dead/replay", {"all": True})).json()["matched"] == 0
        refused = await service.post("/v1/dead/replay", {"reason": "deadline_passed"})
        assert refused.status_code == 400
        assert "include_expired" in refused.text
        answer = (await service.post("/v1/dead/replay", {"include_expired": True, "all": True})).json()
        assert [one["id"] for one in answer["replayed"]] == [moved.run_id]

    with_service(act)


def test_a_bulk_replay_stops_at_a_full_queue_and_goes_on_from_there() -> None:
    async def act(service: Service) -> None:
        ids = await _dead(service, 4, workflow="tight")
        answer = (await service.post("/v1/dead/replay", {"workflow": "tight"})).json()
        assert [one["id"] for one in answer["replayed"]] == ids[:2]
        assert (answer["stopped"]["reason"], answer["next"]) == ("queue_full", ids[1])
        assert answer["stopped"]["retry_after_ms"] > 0
        await service.claim_all()
        answer = (await service.post("/v1/dead/replay", {"workflow": "tight", "after": answer["next"]})).json()
        assert [one["id"] for one in answer["replayed"]] == ids[2:]
        assert (answer["stopped"], answer["next"]) == (None, None)

    with_service(
        act, workflows={"triage": WorkflowSettings(), "tight": WorkflowSettings(queue=RunQueueSettings(depth=2))}
    )


def test_replays_keep_the_rate_whoever_asks_and_however_often() -> None:
    async def act(service: Service) -> None:
        ids = await _dead(service, 5)
        wish: dict[str, Any] = {"rate": "10/min", "all": True}
        replayed = []
        began = service.gate.clock.now_ms()
        while True:
            answer = (await service.post("/v1/dead/replay", wish)).json()
            replayed += [one["id"] for one in answer["replayed"]]
            assert len(answer["replayed"]) <= 1
            if answer["next"] is None:
                break
            assert (answer["stopped"]["scope"], answer["stopped"]["reason"]) == ("replays", "rate_limited")
            wish["after"] = answer["next"]
            await asyncio.sleep(answer["stopped"]["retry_after_ms"] / 1000)
        assert replayed == ids
        assert 24_000 <= service.gate.clock.now_ms() - began <= 32_000, "one each six seconds, jitter aside"

    with_service(act)


def test_dismissed_and_purged_ones_are_on_record() -> None:
    async def act(service: Service) -> None:
        await service.make_key("ops", "operate", None)
        first, second = await _dead_as(service, 2)
        for action in ("dismiss", "purge"):
            missing = await service.post(f"/v1/dead/{action}", {"ids": [first]}, api_key="ops")
            assert (missing.status_code, missing.json()["errors"][0]["field"]) == (400, "why")
        answer = (await service.post("/v1/dead/dismiss", {"ids": [first], "why": "seen"}, api_key="ops")).json()
        assert answer["dismissed"] == [{"id": first}]
        answer = (await service.post("/v1/dead/purge", {"why": "no use", "all": True}, api_key="ops")).json()
        assert answer["purged"] == [{"id": second}], "the dismissed one is off the list"
        answer = (await service.post("/v1/dead/purge", {"ids": [first], "why": "nor this"}, api_key="ops")).json()
        assert answer["purged"] == [{"id": first}]
        assert (await service.get(f"/v1/runs/{first}", api_key="ops")).status_code == 404
        page = (await service.get("/v1/dead", record="true", api_key="ops")).json()
        assert [(line["action"], line["run_id"], line["by"], line["why"]) for line in page["record"]] == [
            ("purge", first, "ops", "nor this"),
            ("purge", second, "ops", "no use"),
            ("dismiss", first, "ops", "seen"),
        ]

    with_service(act)


async def _dead_as(service: Service, count: int) -> list[str]:
    ids = []
    for n in range(count):
        response = await service.submit("triage", input=n, api_key="ops", tenant="acme")
        ids.append(response.json()["id"])
        ((run_id, term),) = await service.claim_all()
        await service.end(run_id, term, RunState.FAILED)
    return ids


def test_rights_and_tenants_hold() -> None:
    async def act(service: Service) -> None:
        await service.make_key("ops", "operate", None)
        await service.make_key("theirs", "operate", "other")
        await service.make_key("reader", "read", None)
        (run_id,) = await _dead_as(service, 1)
        wish = {"why": "x", "ids": [run_id]}
        for action in ("replay", "dismiss", "purge"):
            body = {"ids": [run_id]} if action == "replay" else wish
            assert (await service.post(f"/v1/dead/{action}", body, api_key="reader")).status_code == 403
            answer = (await service.post(f"/v1/dead/{action}", body, api_key="theirs")).json()
            assert answer["matched"] == 0
            named = (await service.post(f"/v1/dead/{action}", {**body, "tenant": "acme"}, api_key="theirs")).json()
            assert named["matched"] == 0
        assert (await service.get("/v1/dead", api_key="theirs")).json()["dead"] == []
        assert (await service.get("/v1/dead", api_key="theirs", tenant="acme")).json()["dead"] == []
        assert (await service.get(f"/v1/dead/{run_id}", api_key="theirs")).status_code == 404
        assert len((await service.get("/v1/dead", api_key="reader")).json()["dead"]) == 1

    with_service(act)


def test_mistakes_are_all_told() -> None:
    async def act(service: Service) -> None:
        wrong = {"limit": 0, "after": "x", "older_than": "long", "dry_run": 1, "reason": [3], "assume": "maybe"}
        answer = await service.post("/v1/dead/replay", wrong)
        assert answer.status_code == 400
        told = {one["field"] for one in answer.json()["errors"]}
        assert {"limit", "after", "older_than", "dry_run", "reason"} <= told
        assert (await service.post("/v1/dead/replay", {"workflw": "x"})).status_code == 400
        assert (await service.get("/v1/dead", nonsense="1")).status_code == 400

    with_service(act)


def test_a_batch_acts_on_all_only_if_that_is_said() -> None:
    async def act(service: Service) -> None:
        ids = await _dead(service, 2)
        for action in ("replay", "dismiss", "purge"):
            why = {} if action == "replay" else {"why": "x"}
            for body, field in (({}, "all"), ({"ids": []}, "ids"), ({"ids": [], "all": True}, "ids")):
                answer = await service.post(f"/v1/dead/{action}", {**why, **body})
                assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)
            answer = (await service.post(f"/v1/dead/{action}", {**why, "ids": ["nope"]})).json()
            assert [(one["id"], one["reason"]) for one in answer["skipped"]] == [("nope", "unknown_run")]
        assert [one["id"] for one in (await service.get("/v1/dead")).json()["dead"]] == ids[::-1]

    with_service(act)
