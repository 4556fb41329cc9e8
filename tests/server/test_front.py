"""What every request meets first."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from headgate.config.settings import ServerSettings
from headgate.server.front import RECEIPT_S
from headgate.server.shapes import Problem

from .service import Service, with_service


async def _raw(
    service: Service, path: str, *, method: str = "POST", body: list[bytes] | None = None, headers: Any = ()
) -> tuple[int, dict[bytes, bytes]]:
    """Call the application itself; ``body`` ends without an end when ``None``."""
    chunks = list(body or [])
    answers: list[Any] = []

    async def receive() -> dict[str, Any]:
        if chunks:
            return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks) or body is None}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        answers.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json"), *headers],
        "client": ("127.0.0.1", 5),
        "query_string": b"",
    }
    await service.app(scope, receive, send)
    return answers[0]["status"], dict(answers[0]["headers"])


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("localhost", True),
        ("localhost:8400", True),
        ("127.0.0.1:8400", True),
        ("[::1]:8400", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example:8400", False),
        ("", False),
    ],
)
def test_without_keys_only_local_names_are_answered(host: str, served: bool) -> None:
    async def act(service: Service) -> None:
        response = await service.http.get("/v1/runs", headers={"host": host})
        assert response.status_code == (200 if served else 403)
        await service.make_key("k", "read", None)
        await asyncio.sleep(3)
        keyed = await service.http.get("/v1/runs", headers={"host": host, **service.bearing("k")})
        assert keyed.status_code == 200

    with_service(act)


@pytest.mark.parametrize(
    ("headers", "served"),
    [
        ({}, True),
        ({"origin": "http://localhost:8400"}, True),
        ({"origin": "http://localhost:8400", "sec-fetch-site": "same-origin"}, True),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "http://localhost:9999"}, False),
        ({"origin": "null"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
    ],
)
def test_other_origins_pages_cannot_post(headers: dict[str, str], served: bool) -> None:
    async def act(service: Service) -> None:
        response = await service.submit(headers=headers)
        assert response.status_code == (202 if served else 403), response.text
        assert "access-control-allow-origin" not in response.headers

    with_service(act)


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/v1/runs/", 404, "not_found"),
        ("DELETE", "/v1/runs", 405, "invalid_request"),
        ("PUT", "/v1/capacity", 405, "invalid_request"),
        ("OPTIONS", "/v1/runs", 405, "invalid_request"),
        ("POST", "/healthz", 405, "invalid_request"),
    ],
)
def test_what_is_not_offered_is_a_problem_too(method: str, path: str, status: int, reason: str) -> None:
    async def act(service: Service) -> None:
        response = await service.http.request(method, path)
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"
        assert Problem.model_validate(response.json()).reason == reason
        if status == 405:
            offered = {"/v1/runs": "GET, POST", "/healthz": "GET, HEAD", "/v1/capacity": "GET"}
            assert response.headers["allow"] == offered[path]

    with_service(act)


def test_two_ways_to_tell_the_length_are_refused_and_close_the_connection() -> None:
    async def act(service: Service) -> None:
        headers = {"content-type": "application/json", "content-length": "26", "transfer-encoding": "chunked"}
        response = await service.http.post("/v1/runs", content=b'{"workflow": "triage"}    ', headers=headers)
        assert (response.status_code, response.json()["reason"]) == (400, "invalid_request")
        assert response.headers["connection"] == "close"

    with_service(act)


def test_a_draining_server_refuses_new_work_and_still_reads() -> None:
    async def act(service: Service) -> None:
        run_id = (await service.submit()).json()["id"]
        service.app.begin_drain()
        for response in (await service.submit(), await service.post(f"/v1/runs/{run_id}/cancel")):
            assert (response.status_code, response.json()["reason"]) == (503, "draining")
            assert response.json()["type"].endswith("#temporary-reduced-capacity")
            assert response.headers["connection"] == "close"
            assert int(response.headers["retry-after"]) >= 1
            assert response.headers["x-should-retry"] == "true"
        assert (await service.get(f"/v1/runs/{run_id}")).status_code == 200

    with_service(act)


def test_requests_at_once_are_bounded() -> None:
    async def act(service: Service) -> None:
        slow = [asyncio.create_task(_raw(service, "/v1/runs")) for _ in range(8)]
        await asyncio.sleep(1)
        response = await service.get("/healthz")
        assert (response.status_code, response.json()["reason"]) == (429, "concurrency")
        statuses = [status for status, _ in await asyncio.gather(*slow)]
        assert statuses == [408] * 8
        assert service.app.inflight == 0
        assert (await service.get("/healthz")).status_code == 200

    with_service(act, server=ServerSettings(connections=8))


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    async def act(service: Service) -> None:
        began = service.gate.clock.monotonic()
        status, headers = await _raw(service, "/v1/runs")
        assert (status, headers[b"connection"]) == (408, b"close")
        assert service.gate.clock.monotonic() - began == pytest.approx(RECEIPT_S)

    with_service(act)


def test_an_announced_size_is_refused_before_reading() -> None:
    async def act(service: Service) -> None:
        began = service.gate.clock.monotonic()
        status, headers = await _raw(service, "/v1/runs", headers=[(b"content-length", b"99999999999")])
        assert (status, headers[b"x-should-retry"]) == (413, b"false")
        assert service.gate.clock.monotonic() == began

    with_service(act)


def test_an_unexpected_error_is_a_problem_without_its_words(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def act(service: Service) -> None:
        async def broken(*_args: Any, **_kwargs: Any) -> Any:
            raise RuntimeError("secret words")

        monkeypatch.setattr(service.gate.intake, "submit", broken)
        monkeypatch.setattr(service.gate.intake, "locate", broken)
        answers = (
            await service.submit(),
            await service.get("/v1/runs/01890000-0000-7000-8000-00000000dead"),
        )
        for response in answers:
            assert response.status_code == 500
            assert Problem.model_validate(response.json()).reason == "error"
            assert "secret" not in response.text

    with caplog.at_level(logging.ERROR, "headgate.server"):
        with_service(act)
    assert "secret words" in caplog.text
