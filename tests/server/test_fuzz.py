"""Whatever callers send, it is their mistake or ours to answer: never a 5xx."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headgate.lab.virtual_time import LoopClock, VirtualTimeLoop

from .service import Service, serving

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
NEARLY = st.fixed_dictionaries(
    {"workflow": st.sampled_from(["triage", "small", "report", "nope", 5, None])},
    optional={
        "input": ANY_JSON,
        "tenant": st.text(max_size=140) | st.integers(),
        "user": st.text(max_size=140) | st.none(),
        "lane": st.sampled_from(["interactive", "background", "none", "", 3]),
        "deadline": ANY_JSON | st.sampled_from(["2m", "0s", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+23:59"]),
        "idempotency_key": st.text(max_size=300) | st.integers(),
        "surprise": ANY_JSON,
    },
)
PATHS = st.sampled_from(
    [
        "/v1/runs/{}",
        "/v1/runs/{}/events",
        "/v1/runs/{}/cancel",
        "/v1/runs/{}/replay",
        "/v1/approvals/{}",
        "/v1/runs?{}",
        "/{}",
        "/v1/{}",
    ]
)


class Rig:
    """One service for all examples."""

    def __init__(self, runner: asyncio.Runner, service: Service) -> None:
        self.runner = runner
        self.service = service

    def request(self, method: str, path: str, **parts: Any) -> Any:
        return self.runner.run(self.service.http.request(method, path, **parts))


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        context = serving(LoopClock(runner.get_loop()), Path(folder))
        service = runner.run(context.__aenter__())
        yield Rig(runner, service)
        runner.run(context.__aexit__(None, None, None))


def _check(response: Any) -> None:
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        problem = response.json()
        assert response.headers["content-type"] == "application/problem+json"
        assert problem["status"] == response.status_code
        assert problem["reason"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NEARLY, st.booleans())
def test_bodies_that_are_nearly_right(rig: Rig, body: Any, escaped: bool) -> None:
    content = json.dumps(body, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    response = rig.request("POST", "/v1/runs", content=content, headers={"content-type": "application/json"})
    _check(response)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["application/json", "text/plain", "", "application/json;x"]))
def test_bodies_of_any_bytes(rig: Rig, body: bytes, kind: str) -> None:
    response = rig.request("POST", "/v1/runs", content=body, headers={"content-type": kind})
    _check(response)
    assert response.status_code in (400, 415)


@settings(max_examples=100, deadline=None)
@given(
    PATHS,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]),
    st.sampled_from([b"", b"{}", b"[1]", b'{"assume":5}', b'{"decision":{}}', b"\xff"]),
)
def test_any_path(rig: Rig, shape: str, part: str, method: str, body: bytes) -> None:
    response = rig.request(
        method, shape.format(quote(part, safe="")), content=body or None, headers={"content-type": "application/json"}
    )
    assert response.status_code < 500, response.text


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["workflow", "tenant", "lane", "state", "reason", "before", "limit", "order"]),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=70),
        max_size=3,
    )
)
def test_any_query(rig: Rig, params: dict[str, str]) -> None:
    response = rig.request("GET", "/v1/runs", params=params)
    _check(response)
    assert response.status_code in (200, 400)
