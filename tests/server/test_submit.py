"""``POST /v1/runs`` on the wire."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headgate.server.shapes import Accepted, Problem

from .service import Service, with_service

JSON = {"content-type": "application/json"}


def _problem(response: Any, status: int, reason: str) -> dict[str, Any]:
    """Check the common parts of a problem and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    Problem.model_validate(problem)
    assert (problem["status"], problem["reason"]) == (status, reason)
    assert problem["type"]
    assert problem["title"]
    return problem


def test_an_accepted_run() -> None:
    async def act(service: Service) -> None:
        first = await service.submit(input={"n": 1}, tenant="acme", user="ann", deadline="2m")
        assert first.status_code == 202
        body = Accepted.model_validate(first.json())
        assert (body.state, body.position, body.lane, body.tenant) == ("queued", 0, "interactive", "acme")
        assert body.deadline == "2023-11-14T22:15:20.000Z"
        assert body.created
        assert first.headers["location"] == f"/v1/runs/{body.id}"
        assert first.headers["ratelimit-policy"].startswith('"workflow:triage";q=200;qu="concurrent-requests"')
        assert first.headers["ratelimit"] == '"tenant:acme";r=49'
        second = (await service.submit(tenant="acme")).json()
        assert second["position"] == 1
        stored = await service.gate.store.runs.get(body.id)
        assert stored is not None
        assert (stored.input, stored.user) == ('{"n":1}', "ann")

    with_service(act)


def test_a_known_key_leads_to_the_same_run_and_another_body_does_not() -> None:
    async def act(service: Service) -> None:
        first = await service.submit(input=1, headers={"idempotency-key": "k1"})
        again = await service.submit(input=1, idempotency_key="k1")
        assert (first.status_code, again.status_code) == (202, 200)
        assert again.json()["id"] == first.json()["id"]
        assert not again.json()["created"]
        other = _problem(await service.submit(input=2, idempotency_key="k1"), 422, "idempotency_conflict")
        assert other["run_id"] == first.json()["id"]
        elsewhere = await service.submit(input=2, idempotency_key="k1", tenant="umbrella")
        assert elsewhere.status_code == 202

    with_service(act)


def test_a_full_queue_says_whose_and_until_when() -> None:
    async def act(service: Service) -> None:
        for _ in range(2):
            assert (await service.submit("small")).status_code == 202
        response = await service.submit("small")
        problem = _problem(response, 429, "queue_full")
        assert problem["scope"] == "workflow:small"
        assert (problem["limit"], problem["used"]) == (2, 2)
        assert problem["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
        assert problem["violated-policies"] == ["workflow:small"]
        assert 1 <= int(response.headers["retry-after"]) <= 60
        assert int(response.headers["retry-after-ms"]) == problem["retry_after_ms"]
        assert response.headers["x-should-retry"] == "true"
        assert response.headers["ratelimit-policy"] == '"workflow:small";q=2;qu="concurrent-requests"'
        assert response.headers["ratelimit"].startswith('"workflow:small";r=0;t=')

    with_service(act)


def test_a_used_up_rate_names_its_window() -> None:
    async def act(service: Service) -> None:
        for _ in range(2):
            assert (await service.submit("report", user="ann")).status_code == 202
        response = await service.submit("report", user="ann")
        problem = _problem(response, 429, "rate_limited")
        assert (problem["scope"], problem["rule"]) == ("user:ann", "limits[0]")
        assert problem["violated-policies"] == ["user:ann/limits[0]"]
        assert 30_000 <= problem["retry_after_ms"] <= 37_500
        assert response.headers["ratelimit-policy"] == '"user:ann/limits[0]";q=2;qu="requests";w=60'
        assert (await service.submit("report", user="bob")).status_code == 202

    with_service(act)


def test_terminal_refusals_are_never_429() -> None:
    async def act(service: Service) -> None:
        late = await service.submit(deadline="2001-01-01T00:00:00Z")
        problem = _problem(late, 422, "deadline_unreachable")
        assert "retry_after_ms" not in problem
        assert "retry-after" not in late.headers
        assert late.headers["x-should-retry"] == "false"
        unknown = _problem(await service.submit("triaged"), 404, "unknown_workflow")
        assert "triage" in unknown["detail"]
        _problem(await service.submit(lane="fast"), 400, "invalid_request")

    with_service(act)


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason"),
    [
        (b"", JSON, 400, "invalid_request"),
        (b"{", JSON, 400, "invalid_request"),
        (b"[]", JSON, 400, "invalid_request"),
        (b'{"workflow":"triage","input":NaN}', JSON, 400, "invalid_request"),
        (b'{"workflow":"triage","input":1e999}', JSON, 400, "invalid_request"),
        (b'{"workflow":"triage","input":"\\ud800"}', JSON, 400, "invalid_request"),
        (b'{"workflow":"triage","input":"\\u0000"}', JSON, 400, "invalid_request"),
        (b'{"workflow":"triage","input":"\xff"}', JSON, 400, "invalid_request"),
        (b'{"workflow":"triage","workflow":"small"}', JSON, 400, "invalid_request"),
        (b'{"workflow":"triage","inputs":1}', JSON, 400, "invalid_request"),
        (b'{"workflow":"triage","input":' + b"[" * 100_000, JSON, 400, "invalid_request"),
        (b'{"workflow":"triage"}', {"content-type": "text/plain"}, 415, "invalid_request"),
        (b'{"workflow":"triage"}', {}, 415, "invalid_request"),
        (b'{"workflow":"triage"}', {"content-type": "application/json; charset=latin-1"}, 415, "invalid_request"),
        (b"\x1f\x8b\x08", {**JSON, "content-encoding": "gzip"}, 415, "invalid_request"),
        (b"\x80\x04\x95.", JSON, 400, "invalid_request"),
        (b'{"workflow":"triage"}', {**JSON, "idempotency-key": "k" * 300}, 400, "invalid_request"),
    ],
)
def test_malformed_requests_store_nothing(body: bytes, headers: dict[str, str], status: int, reason: str) -> None:
    async def act(service: Service) -> None:
        response = await service.http.post("/v1/runs", content=body, headers=headers)
        _problem(response, status, reason)
        assert (await service.get("/v1/runs")).json()["runs"] == []

    with_service(act)


def test_mistakes_are_listed_by_field() -> None:
    async def act(service: Service) -> None:
        response = await service.http.post("/v1/runs", content=b'{"tenant":1,"deadline":"soon"}', headers=JSON)
        problem = _problem(response, 400, "invalid_request")
        assert [one["field"] for one in problem["errors"]] == ["tenant", "workflow", "deadline"]

    with_service(act)


def test_json_in_utf8_by_any_spelling() -> None:
    async def act(service: Service) -> None:
        for kind in ("application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"'):
            response = await service.http.post(
                "/v1/runs", content='{"workflow":"triage","input":"grüß"}'.encode(), headers={"content-type": kind}
            )
            assert response.status_code == 202

    with_service(act)


def test_the_largest_body_is_taken_and_one_byte_more_is_not() -> None:
    async def act(service: Service) -> None:
        most = service.gate.settings.server.max_body
        frame = len(json.dumps({"workflow": "triage", "input": ""}))
        answers = []
        for extra, status in ((0, 202), (1, 413)):
            text = json.dumps({"workflow": "triage", "input": "x" * (most - frame + extra)})
            assert len(text) == most + extra
            response = await service.http.post("/v1/runs", content=text.encode(), headers=JSON)
            assert response.status_code == status, response.text
            answers.append(response)
        problem = _problem(answers[-1], 413, "too_large")
        assert problem["limit"] == most

    with_service(act)


def test_a_chunked_body_is_cut_off_at_the_limit() -> None:
    async def act(service: Service) -> None:
        sent = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal sent
            while True:
                sent += 65536
                yield b" " * 65536

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/runs",
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
            "client": ("127.0.0.1", 5),
        }
        chunks = endless()
        answers: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": await anext(chunks), "more_body": True}

        async def send(message: Any) -> None:
            answers.append(message)

        await service.app(scope, receive, send)
        assert answers[0]["status"] == 413
        assert sent <= service.gate.settings.server.max_body + 2 * 65536

    with_service(act)


def test_what_states_more_than_one_run_may_use_is_refused_for_good() -> None:
    async def act(service: Service) -> None:
        most = service.gate.settings.workflows["triage"].budget.calls
        response = await service.submit(cost={"calls": most + 1})
        body = _problem(response, 422, "never_fits")
        assert (body["scope"], body["limit"], body["unit"]) == ("workflow:triage", most, "calls")
        assert f"states {most + 1} calls" in body["detail"]
        assert "retry_after_ms" not in body
        assert "retry-after" not in response.headers
        assert response.headers["x-should-retry"] == "false"
        assert (await service.submit(cost={"calls": most})).status_code == 202

    with_service(act)
