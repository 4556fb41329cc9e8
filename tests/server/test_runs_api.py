"""Reading, following, cancelling and replaying."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from headgate.model.run import RunState
from headgate.model.step import Effect, Step, StepState
from headgate.server.shapes import Accepted, Problem, RunDetail, RunPage
from headgate.server.streams import HEARTBEAT_S, PER_KEY_MAX, POLL_S

from .service import Service, with_service

NEVER = "01890000-0000-7000-8000-00000000dead"


def _events(text: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        if "event" in lines:
            found.append((lines["event"], {**json.loads(lines["data"]), "mark": lines["id"]}))
    return found


def test_a_run_while_it_waits_runs_and_has_ended() -> None:
    async def act(service: Service) -> None:
        first = (await service.submit(input={"n": 1})).json()["id"]
        run_id = (await service.submit(input={"n": 2}, user="ann", deadline=60)).json()["id"]
        await asyncio.sleep(2)
        waiting = RunDetail.model_validate((await service.get(f"/v1/runs/{run_id}")).json())
        assert (waiting.state, waiting.position, waiting.input) == ("queued", 1, {"n": 2})
        assert waiting.timings.queued_ms == 2000
        assert waiting.timings.ran_ms is None
        assert set(waiting.links) == {"self", "events", "cancel"}
        terms = dict(await service.claim_all())
        now_ms = service.gate.clock.now_ms()
        step = Step(
            "k1", 0, "github", "search", 0, Effect.PURE, StepState.DONE, '"r"', 20, 300, 2, None, 0, now_ms, now_ms
        )
        assert await service.gate.store.journal.record(run_id, "w", terms[run_id], step)
        await asyncio.sleep(1)
        running = RunDetail.model_validate((await service.get(f"/v1/runs/{run_id}")).json())
        assert (running.state, running.position, running.eta_s) == ("running", None, None)
        assert (running.timings.ran_ms, running.timings.tool_ms, running.timings.model_ms) == (1000, 300, 0)
        assert [(one.resource, one.tries, one.queued_ms) for one in running.steps] == [("github", 2, 20)]
        done = {
            "result": '{"ok":true}',
            "used_calls": 1,
            "used_wall_ms": 700,
        }  # of 1000; it was suspended for the rest
        await service.end(run_id, terms[run_id], RunState.SUCCEEDED, **done)
        ended = RunDetail.model_validate((await service.get(f"/v1/runs/{run_id}")).json())
        assert ended.timings.ran_ms == 700
        assert (ended.state, ended.reason, ended.result) == ("succeeded", "succeeded", {"ok": True})
        assert ended.usage.calls == 1
        assert set(ended.links) == {"self", "events"}
        assert (await service.get(f"/v1/runs/{first}")).json()["state"] == "running"

    with_service(act)


@pytest.mark.parametrize("run_id", [NEVER, "x", "%00", "..%2f..", "a" * 300, "01890000-0000-7000-8000-00000000DEAD"])
def test_unknown_runs(run_id: str) -> None:
    async def act(service: Service) -> None:
        for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("POST", "/replay")):
            response = await service.http.request(method, f"/v1/runs/{run_id}{path}")
            assert response.status_code == 404
            assert Problem.model_validate(response.json()).reason in ("unknown_run", "not_found")

    with_service(act)


def test_lists_filter_and_page() -> None:
    async def act(service: Service) -> None:
        ids = [(await service.submit(tenant=f"t{number % 2}")).json()["id"] for number in range(7)]
        ids.append((await service.submit("report", tenant="t0", user="u")).json()["id"])
        seen: list[str] = []
        before = None
        for _ in range(10):
            params: dict[str, Any] = {"limit": 3, **({"before": before} if before else {})}
            page = RunPage.model_validate((await service.get("/v1/runs", **params)).json())
            seen += [run.id for run in page.runs]
            before = page.next
            if before is None:
                break
        assert seen == sorted(ids, reverse=True)
        for wanted, count in (
            ({"tenant": "t1"}, 3),
            ({"workflow": "report"}, 1),
            ({"lane": "background"}, 1),
            ({"state": ["queued", "failed"]}, 8),
            ({"state": "failed"}, 0),
            ({"reason": "crash_loop"}, 0),
        ):
            assert len((await service.get("/v1/runs", **wanted)).json()["runs"]) == count, wanted

    with_service(act)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=ten", "limit"),
        ("state=sleeping", "state"),
        ("before=x", "before"),
        ("order=desc", "order"),
        ("tenants=acme", "tenants"),
    ],
)
def test_bad_queries_are_refused_rather_than_ignored(query: str, field: str) -> None:
    async def act(service: Service) -> None:
        response = await service.http.get(f"/v1/runs?{query}")
        assert response.status_code == 400
        problem = Problem.model_validate(response.json())
        assert problem.reason == "invalid_request"
        assert problem.errors is not None
        assert field in {one["field"].partition(".")[0] for one in problem.errors}

    with_service(act)


def test_cancelling_a_waiting_run_ends_it_and_tells_the_metrics() -> None:
    async def act(service: Service) -> None:
        run_id = (await service.submit()).json()["id"]
        response = await service.post(f"/v1/runs/{run_id}/cancel", {"detail": "a mistake"})
        assert response.status_code == 200
        ended = RunDetail.model_validate(response.json())
        assert (ended.state, ended.reason) == ("cancelled", "cancelled")
        assert ended.detail == "cancelled by local: a mistake"
        assert service.gate.metrics.total("headgate_runs_finished_total", outcome="cancelled") == 1
        again = await service.post(f"/v1/runs/{run_id}/cancel")
        assert (again.status_code, again.json()["state"]) == (200, "cancelled")
        assert service.gate.metrics.total("headgate_runs_finished_total", outcome="cancelled") == 1

    with_service(act)


def test_cancelling_a_running_run_asks_its_worker() -> None:
    async def act(service: Service) -> None:
        run_id = (await service.submit()).json()["id"]
        await service.claim_all()
        response = await service.post(f"/v1/runs/{run_id}/cancel")
        assert response.status_code == 202
        assert (response.json()["state"], response.json()["cancel_requested"]) == ("running", True)

    with_service(act)


def test_replaying_a_dead_letter_and_nothing_else() -> None:
    async def act(service: Service) -> None:
        run_id = (await service.submit(input=5)).json()["id"]
        early = await service.post(f"/v1/runs/{run_id}/replay")
        assert (early.status_code, early.json()["reason"]) == (409, "not_replayable")
        await service.end(*(await service.claim_all())[0], RunState.FAILED, reason="error")
        assert "replay" in (await service.get(f"/v1/runs/{run_id}")).json()["links"]
        response = await service.post(f"/v1/runs/{run_id}/replay")
        assert response.status_code == 202
        body = Accepted.model_validate(response.json())
        assert body.replay_of == run_id
        assert response.headers["location"] == f"/v1/runs/{body.id}"
        assert (await service.get(f"/v1/runs/{body.id}")).json()["input"] == 5
        twice = await service.post(f"/v1/runs/{run_id}/replay")
        assert (twice.status_code, twice.json()["run_id"]) == (409, body.id)

    with_service(act)


@pytest.mark.parametrize(
    "body", [{"assume": "perhaps"}, {"assume": 1}, {"asume": "done"}, [], "x", {"assume": {"a": 1}}]
)
def test_malformed_replays(body: Any) -> None:
    async def act(service: Service) -> None:
        run_id = (await service.submit()).json()["id"]
        await service.end(*(await service.claim_all())[0], RunState.FAILED)
        response = await service.post(f"/v1/runs/{run_id}/replay", body)
        assert (response.status_code, response.json()["reason"]) == (400, "invalid_request")

    with_service(act)


def test_events_follow_a_run_to_its_end() -> None:
    async def act(service: Service) -> None:
        await service.submit()
        run_id = (await service.submit()).json()["id"]
        clock = service.gate.clock
        following = asyncio.create_task(service.get(f"/v1/runs/{run_id}/events"))
        await asyncio.sleep(3.2)
        terms = dict(await service.claim_all())
        await asyncio.sleep(40)
        began = clock.monotonic()
        await service.end(run_id, terms[run_id], RunState.SUCCEEDED, result="1")
        response = await following
        assert clock.monotonic() - began < 0.01  # woken by the event, not by the next look
        assert response.headers["content-type"].startswith("text/event-stream")
        told = _events(response.text)
        assert [(name, one["state"], one["position"]) for name, one in told] == [
            ("update", "queued", 1),
            ("update", "running", None),
            ("end", "succeeded", None),
        ]
        assert response.text.count(": still here") == int(40 // (HEARTBEAT_S + POLL_S))

    with_service(act)


def test_a_client_that_comes_back_is_told_what_differs() -> None:
    async def act(service: Service) -> None:
        run_id = (await service.submit()).json()["id"]
        following = asyncio.create_task(service.get(f"/v1/runs/{run_id}/events"))
        await asyncio.sleep(1.5)
        terms = dict(await service.claim_all())
        await service.end(run_id, terms[run_id], RunState.FAILED, reason="error")
        (_, first), *_ = _events((await following).text)
        again = await service.http.get(f"/v1/runs/{run_id}/events", headers={"last-event-id": first["mark"]})
        assert [name for name, _ in _events(again.text)] == ["end"]
        strange = await service.http.get(f"/v1/runs/{run_id}/events", headers={"last-event-id": b"\xe9" * 99})  # type: ignore[arg-type]
        assert [name for name, _ in _events(strange.text)] == ["end"]

    with_service(act)


def test_streams_are_bounded_and_end_when_the_server_drains() -> None:
    async def act(service: Service) -> None:
        run_id = (await service.submit()).json()["id"]
        path = f"/v1/runs/{run_id}/events"
        streams = [asyncio.create_task(service.get(path)) for _ in range(PER_KEY_MAX)]
        await asyncio.sleep(0.5)
        response = await service.get(path)
        assert response.status_code == 429
        assert (response.json()["reason"], response.headers["x-should-retry"]) == ("concurrency", "true")
        service.app.begin_drain()
        done = await asyncio.gather(*streams)
        assert {one.status_code for one in done} == {200}
        assert (await service.get(path)).json()["reason"] == "draining"

    with_service(act)
