"""Both clients against a scripted service: the same cases, with and without ``await``."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from headgate.client import AsyncClient, Client
from headgate.errors import ApiError, InvalidRequest, Rejected

Handler = Callable[[httpx2.Request], httpx2.Response]
RUN = {"id": "r1", "state": "queued"}


class Either:
    """A client of either kind, called the same way. Records the pauses it would have made."""

    def __init__(self, kind: str, handler: Handler, **options: Any) -> None:
        self.pauses: list[float] = []
        self.requests: list[httpx2.Request] = []
        self._kind = kind

        def record(request: httpx2.Request) -> httpx2.Response:
            self.requests.append(request)
            return handler(request)

        async def async_pause(seconds: float) -> None:
            self.pauses.append(seconds)
            await asyncio.sleep(0)

        transport = httpx2.MockTransport(record)
        self.client: Any = (
            AsyncClient("http://gate", transport=transport, sleep=async_pause, **options)
            if kind == "async"
            else Client("http://gate", transport=transport, sleep=self.pauses.append, **options)
        )

    def __call__(self, name: str, *args: Any, **kwargs: Any) -> Any:
        if self._kind == "sync":
            with self.client:
                answer = getattr(self.client, name)(*args, **kwargs)
                return list(answer) if inspect.isgenerator(answer) else answer

        async def act() -> Any:
            async with self.client:
                answer = getattr(self.client, name)(*args, **kwargs)
                return [one async for one in answer] if inspect.isasyncgen(answer) else await answer

        return asyncio.run(act())


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _full(wait_ms: int | None = 2500, status: int = 429) -> httpx2.Response:
    problem = {"reason": "queue_full", "scope": "workflow:w", "limit": 50, "used": 50, "detail": "full"}
    if wait_ms is not None:
        problem["retry_after_ms"] = wait_ms
    return httpx2.Response(status, json=problem, headers={"retry-after": "60"})


def _script(*answers: httpx2.Response | Exception) -> Handler:
    remaining = list(answers)

    def handler(_request: httpx2.Request) -> httpx2.Response:
        answer = remaining.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handler


def test_submit_says_everything_and_carries_a_fresh_key(kind: str) -> None:
    client = Either(kind, lambda _: httpx2.Response(202, json=RUN), api_key="hg_secret")
    assert client("submit", "w", {"ä": 1}, tenant="acme", user="ann", lane="critical", deadline="2m") == RUN
    (request,) = client.requests
    assert (request.method, request.url.path) == ("POST", "/v1/runs")
    assert json.loads(request.content) == {
        "workflow": "w",
        "input": {"ä": 1},
        "tenant": "acme",
        "user": "ann",
        "lane": "critical",
        "deadline": "2m",
    }
    assert request.headers["authorization"] == "Bearer hg_secret"
    assert len(request.headers["idempotency-key"]) == 36


def test_a_refusal_carries_all_fields(kind: str) -> None:
    client = Either(kind, lambda _: _full())
    with pytest.raises(Rejected) as caught:
        client("submit", "w")
    refusal = caught.value
    assert (refusal.reason, refusal.scope, refusal.limit, refusal.used) == ("queue_full", "workflow:w", 50, 50)
    assert (refusal.retry_after_s, refusal.advice, refusal.rule) == (2.5, "full", None)
    assert client.pauses == []


def test_a_refusal_names_the_rule_it_comes_from(kind: str) -> None:
    problem = {"reason": "rate_limited", "scope": "tenant:acme", "rule": "starts", "limit": 5, "used": 4.5}
    client = Either(kind, lambda _: httpx2.Response(429, json={**problem, "retry_after_ms": 6000}))
    with pytest.raises(Rejected) as caught:
        client("submit", "w")
    assert caught.value.rule == "starts"
    assert str(caught.value) == "tenant:acme: rate_limited by starts (4.5/5), retry after 6.0 s"


def test_submit_waits_as_told_and_repeats_with_the_same_key(kind: str) -> None:
    client = Either(kind, _script(_full(2500), _full(4000, 503), httpx2.Response(202, json=RUN)))
    assert client("submit", "w", max_wait_s=10) == RUN
    assert client.pauses == [2.5, 4.0]
    assert len({request.headers["idempotency-key"] for request in client.requests}) == 1


def test_submit_does_not_begin_a_wait_that_would_be_in_vain(kind: str) -> None:
    client = Either(kind, _script(_full(2500), _full(90_000)))
    with pytest.raises(Rejected) as caught:
        client("submit", "w", max_wait_s=60)
    assert caught.value.retry_after_s == 90
    assert client.pauses == [2.5]


def test_a_refusal_without_a_wait_is_final(kind: str) -> None:
    refusal = httpx2.Response(429, json={"reason": "shed"})
    client = Either(kind, _script(refusal))
    with pytest.raises(Rejected) as caught:
        client("submit", "w", max_wait_s=100)
    assert not caught.value.retryable
    assert len(client.requests) == 1


def test_a_lost_answer_is_asked_for_again_with_the_same_key(kind: str) -> None:
    lost = httpx2.ReadError("lost")
    client = Either(kind, _script(lost, lost, httpx2.Response(200, json=RUN)))
    assert client("submit", "w", max_wait_s=5) == RUN
    assert client.pauses == [0.1, 0.2]
    assert len({request.headers["idempotency-key"] for request in client.requests}) == 1
    without = Either(kind, _script(lost))
    with pytest.raises(httpx2.ReadError):
        without("submit", "w")


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after-ms": "nan", "retry-after": "-3"}, None),
        ({}, None),
    ],
)
def test_a_refusal_from_something_in_between_is_read_from_its_headers(
    kind: str, headers: dict[str, str], wait_s: float | None
) -> None:
    client = Either(kind, lambda _: httpx2.Response(503, text="<html>busy</html>", headers=headers))
    with pytest.raises(Rejected) as caught:
        client("run", "r1")
    assert (caught.value.reason, caught.value.retry_after_s) == ("provider_overloaded", wait_s)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 500])
def test_other_errors_keep_the_problem(kind: str, status: int) -> None:
    client = Either(kind, lambda _: httpx2.Response(status, json={"title": "No", "detail": "because", "reason": "x"}))
    with pytest.raises(ApiError, match=f"{status} No: because") as caught:
        client("submit", "w", max_wait_s=100)
    assert (caught.value.status, caught.value.problem["reason"]) == (status, "x")
    assert len(client.requests) == 1


@pytest.mark.parametrize(("status", "text"), [(200, "<html>"), (200, ""), (502, "bad gateway")])
def test_answers_that_are_not_ours_are_errors(kind: str, status: int, text: str) -> None:
    client = Either(kind, lambda _: httpx2.Response(status, text=text))
    with pytest.raises(ApiError, match="Not a headgate answer"):
        client("capacity")


@pytest.mark.parametrize(
    ("call", "method", "path", "body"),
    [
        (("run", ("a/../b",), {}), "GET", "/v1/runs/a%2F..%2Fb", None),
        (
            ("runs", (), {"states": ["queued", "failed"], "tenant": "t", "limit": 5}),
            "GET",
            "/v1/runs?tenant=t&limit=5&state=queued&state=failed",
            None,
        ),
        (("cancel", ("r1",), {"detail": "why"}), "POST", "/v1/runs/r1/cancel", {"detail": "why"}),
        (("cancel", ("r1",), {}), "POST", "/v1/runs/r1/cancel", {}),
        (("replay", ("r1",), {"assume": "done"}), "POST", "/v1/runs/r1/replay", {"assume": "done"}),
        (("capacity", (), {}), "GET", "/v1/capacity", None),
        (("approvals", (), {"queue": "q"}), "GET", "/v1/approvals?limit=50&queue=q", None),
        (
            ("raise_budget", ("a1",), {"call_count": "+20", "wall": "10m"}),
            "POST",
            "/v1/runs/a1/budget",
            {"calls": "+20", "wall": "10m"},
        ),
        (("controls", (), {}), "GET", "/v1/controls?limit=50", None),
        (("controls", (), {"target": "lane:a", "limit": 1}), "GET", "/v1/controls?limit=1&target=lane%3Aa", None),
        (
            ("control", ("lane:a",), {"reason": "x", "pause": False}),
            "PUT",
            "/v1/controls/lane%3Aa",
            {"pause": False, "reason": "x"},
        ),
        (("reset", ("lane:a",), {"reason": "x"}), "DELETE", "/v1/controls/lane%3Aa?reason=x", None),
        (("decide", ("a1", True), {}), "POST", "/v1/approvals/a1", {"decision": "approve"}),
        (
            ("decide", ("a1", False), {"note": "no"}),
            "POST",
            "/v1/approvals/a1",
            {"decision": "deny", "note": "no"},
        ),
    ],
)
def test_every_operation(kind: str, call: Any, method: str, path: str, body: Any) -> None:
    client = Either(kind, lambda _: httpx2.Response(200, json={"approvals": []}))
    name, args, kwargs = call
    assert client(name, *args, **kwargs) == ([] if name == "approvals" else {"approvals": []})
    (request,) = client.requests
    assert (request.method, request.url.raw_path.decode()) == (method, path)
    assert (json.loads(request.content) if request.content else None) == body


STREAM = (
    b'retry: 2000\n\nevent: update\nid: m1\ndata: {"state":"queued","position":3}\n\n: still here\n\n'
    b'event: end\nid: m2\ndata: {"state":"succeeded","position":null}\n\n'
)


def test_events_are_read_as_they_come(kind: str) -> None:
    client = Either(kind, lambda _: httpx2.Response(200, content=STREAM))
    told = client("events", "r1", last_event_id="m0")
    assert [(one["event"], one["state"]) for one in told] == [("update", "queued"), ("end", "succeeded")]
    assert client.requests[0].headers["last-event-id"] == "m0"
    missing = Either(kind, lambda _: httpx2.Response(404, json={"title": "No such run"}))
    with pytest.raises(ApiError, match="404"):
        missing("events", "r1")


def test_wait_follows_events_and_returns_the_run(kind: str) -> None:
    done = {"id": "r1", "state": "succeeded", "result": 5}
    client = Either(kind, _script(httpx2.Response(200, content=STREAM), httpx2.Response(200, json=done)))
    assert client("wait", "r1", 10) == done


def test_wait_falls_back_to_reading_now_and_then(kind: str) -> None:
    done = {"id": "r1", "state": "failed"}
    handler = _script(
        _full(),  # no stream to be had
        httpx2.Response(200, json=RUN),
        httpx2.ReadError("cut"),
        httpx2.ReadError("cut"),
        httpx2.Response(200, content=b"retry: 1\n\n"),  # a stream that ends early
        httpx2.Response(200, json=done),
    )
    client = Either(kind, handler)
    assert client("wait", "r1") == done
    assert client.pauses == [1.0] * 4


def test_wait_gives_up_on_time(kind: str) -> None:
    class Hurrying:
        """A clock on which every look takes a second."""

        def __init__(self) -> None:
            self.at = 0.0

        def monotonic(self) -> float:
            self.at += 1
            return self.at

        def now_ms(self) -> int:
            return 0

    def handler(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=b"") if "events" in request.url.path else httpx2.Response(200, json=RUN)

    client = Either(kind, handler, clock=Hurrying())
    with pytest.raises(TimeoutError):
        client("wait", "r1", 0.05 if kind == "async" else 10)


def test_patience_must_not_be_negative(kind: str) -> None:
    client = Either(kind, _script())
    with pytest.raises(ValueError, match="max_wait_s"):
        client("submit", "w", max_wait_s=-1)


def test_both_clients_offer_the_same() -> None:
    def offered(client: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in inspect.getmembers(client, inspect.isfunction)
            if not name.startswith("_") and name not in ("close", "aclose", "events")
        }

    assert offered(Client) == offered(AsyncClient)


@pytest.mark.parametrize("value", [float("nan"), "\ud800", object()], ids=["NaN", "half a pair", "object"])
def test_what_json_cannot_say_is_not_sent(kind: str, value: Any) -> None:
    either = Either(kind, lambda _: httpx2.Response(202, json=RUN))
    with pytest.raises(InvalidRequest, match="cannot be sent as JSON"):
        either("submit", "triage", value)
    assert either.requests == []


@pytest.mark.parametrize("key", ["hg_…", "", "hg_a\nb"])
def test_what_is_no_api_key_is_told_at_once(key: str) -> None:
    with pytest.raises(InvalidRequest, match="api_key: is no API key"):
        Client(api_key=key)
