"""The running service: real sockets, real time, one process."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest

from headgate.config.settings import GateSettings, ServerSettings, WorkflowSettings
from headgate.errors import HeadgateError
from headgate.gate import Gate
from headgate.observe.bus import Event
from headgate.runs.context import Run
from headgate.server import front, protocol
from headgate.server.auth import new_key
from headgate.server.serve import loop_factory, serve

T = TypeVar("T")
BODY = b'{"workflow":"echo","input":7}'
POST = b"POST /v1/runs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


def _gate(folder: Path, **server: Any) -> Gate:
    gate = Gate(
        GateSettings(
            store=f"sqlite:///{folder}/runs.db?synchronous=off",
            workflows={"echo": WorkflowSettings()},
            server=ServerSettings(**server),
        )
    )

    @gate.workflow("echo")
    async def echo(run: Run, value: Any) -> Any:
        return value

    return gate


def _with_server(gate: Gate, act: Callable[[str, int], Awaitable[T]], **options: Any) -> T:
    """Serve, run ``act(url, port)``, stop, and wait for the end."""

    async def main() -> T:
        stop, told = asyncio.Event(), asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(serve(gate, port=0, stop=stop, ready=told.set_result, **options))
        try:
            await asyncio.wait({serving, told}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
            url: str = told.result()
            async with asyncio.timeout(20):
                return await act(url, int(url.rpartition(":")[2]))
        finally:
            stop.set()
            await asyncio.wait_for(serving, 20)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main())


async def _talk(port: int, data: bytes) -> bytes:
    """Send bytes and read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        return await reader.read()
    finally:
        writer.close()


async def _talk_on(port: int, first: bytes, second: bytes | None = None) -> bytes:
    """Send bytes, read the answer, and (unless ``None``) send more and read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(first)
        answer = await reader.read(16_384)
        if second is None:
            return answer
        writer.write(second)
        return answer + await reader.read()
    finally:
        writer.close()


def test_a_run_goes_in_by_http_and_comes_out_done(tmp_path: Path) -> None:
    async def act(url: str, _port: int) -> tuple[int, dict[str, Any], str]:
        async with httpx2.AsyncClient(base_url=url) as http:
            asked = await http.post("/v1/runs", json={"workflow": "echo", "input": {"n": 1}})
            events = await http.get(f"/v1/runs/{asked.json()['id']}/events")
            run = (await http.get(f"/v1/runs/{asked.json()['id']}")).json()
            return asked.status_code, run, events.text

    status, run, events = _with_server(_gate(tmp_path), act)
    assert status == 202
    assert (run["state"], run["result"]) == ("succeeded", {"n": 1})
    assert "event: end" in events


def test_without_workers_runs_wait(tmp_path: Path) -> None:
    async def act(url: str, _port: int) -> list[str]:
        async with httpx2.AsyncClient(base_url=url) as http:
            for _ in range(3):
                await http.post("/v1/runs", json={"workflow": "echo"})
            return [run["state"] for run in (await http.get("/v1/runs")).json()["runs"]]

    assert _with_server(_gate(tmp_path), act, workers=False) == ["queued"] * 3


def test_keep_alive_serves_many_requests_on_one_connection(tmp_path: Path) -> None:
    async def act(_url: str, port: int) -> bytes:
        request = POST % len(BODY) + BODY
        last = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        return await _talk(port, request * 3 + last)

    answer = _with_server(_gate(tmp_path), act)
    assert answer.count(b"HTTP/1.1 202") == 3
    assert answer.endswith(b'{"status":"ok"}')


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 20_000,
        b"POST /v1/runs HTTP/1.1\r\nhost: localhost\r\ncontent-length: -5\r\n\r\n",
        b"POST /v1/runs HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
    ],
)
def test_broken_http_gets_a_problem(tmp_path: Path, data: bytes) -> None:
    answer = _with_server(_gate(tmp_path), lambda _url, port: _talk(port, data), workers=False)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["reason"] == "invalid_request"


def test_a_chunked_body_works_and_is_bounded(tmp_path: Path) -> None:
    head = POST.replace(b"content-length: %d", b"transfer-encoding: chunked")

    async def act(_url: str, port: int) -> tuple[bytes, bytes]:
        good = await _talk_on(port, head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY))
        large = await _talk_on(port, head + (b"8000\r\n" + b" " * 0x8000 + b"\r\n") * 40)
        return good, large

    good, large = _with_server(_gate(tmp_path), act)
    assert good.startswith(b"HTTP/1.1 202")
    assert large.startswith(b"HTTP/1.1 413")


def test_a_head_that_comes_at_once_is_bounded_too(tmp_path: Path) -> None:
    async def act(_url: str, port: int) -> tuple[bytes, bytes]:
        long = b"GET /v1/runs HTTP/1.1\r\nhost: localhost\r\nx: %s\r\n\r\n" % (b"a" * front.HEAD_MAX)
        path = b"GET /%s HTTP/1.1\r\nhost: localhost\r\n\r\n" % (b"a" * front.HEAD_MAX)
        return await _talk(port, long), await _talk(port, path)

    for answer in _with_server(_gate(tmp_path), act):
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b'"reason":"too_large"' in answer


def test_slow_headers_and_slow_bodies_are_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEADERS_S", 0.1)
    monkeypatch.setattr(protocol, "BODY_S", 0.5)
    monkeypatch.setattr(front, "RECEIPT_S", 0.1)

    async def act(_url: str, port: int) -> tuple[bytes, ...]:
        nothing = await _talk(port, b"")
        half = await _talk(port, b"GET /healthz HTTP/1.1\r\nhost: localh")
        second = await _talk_on(port, POST % len(BODY) + BODY, b"GET /healthz HTTP/1.1\r\nhost")
        unread = await _talk(port, b"POST /v1/nothing HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n1")
        body = await _talk(port, POST % 100 + b"{")
        return nothing, half, second, unread, body

    nothing, half, second, unread, body = _with_server(_gate(tmp_path), act, workers=False)
    assert (nothing, half) == (b"", b"")
    assert second.count(b"HTTP/1.1") == 1
    assert second.startswith(b"HTTP/1.1 202")
    assert unread.startswith(b"HTTP/1.1 404")
    assert body.startswith(b"HTTP/1.1 408")


def test_connections_are_bounded_and_told_so(tmp_path: Path) -> None:
    async def act(_url: str, port: int) -> bytes:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
        answer = await _talk(port, b"")
        for _, writer in held:
            writer.close()
        return answer

    answer = _with_server(_gate(tmp_path, connections=8), act, workers=False)
    assert answer.startswith(b"HTTP/1.1 429")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["reason"] == "concurrency"


def test_without_keys_it_refuses_other_addresses(tmp_path: Path) -> None:
    async def act(_url: str, _port: int) -> None:
        raise AssertionError("it must not serve")

    with pytest.raises(HeadgateError, match="without API keys"):
        _with_server(_gate(tmp_path), act, host="0.0.0.0")  # noqa: S104


def test_with_a_key_it_serves_other_addresses(tmp_path: Path) -> None:
    gate = _gate(tmp_path)

    async def act(url: str, port: int) -> tuple[int, int]:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            bare = await http.get("/v1/runs")
            keyed = await http.get("/v1/runs", headers={"x-api-key": secret})
            return bare.status_code, keyed.status_code

    secret, key = new_key(role="read", tenant=None, label="x", now_ms=0)

    async def store_key() -> None:
        await gate.open()
        await gate.store.keys.add(key)
        await gate.close()

    asyncio.run(store_key())
    assert _with_server(gate, act, host="0.0.0.0") == (401, 200)  # noqa: S104


def test_a_taken_port_is_said_in_words(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HeadgateError, match=f"cannot listen on 127.0.0.1 port {port}"):
            asyncio.run(serve(_gate(tmp_path), port=port))


def test_it_drains_in_order_and_loses_nothing(tmp_path: Path) -> None:
    gate = _gate(tmp_path)
    begun, go_on = asyncio.Event(), asyncio.Event()
    told: list[str] = []

    @gate.workflow("slow")
    async def slow(run: Run, value: Any) -> str:
        begun.set()
        await go_on.wait()
        return "done"

    async def main() -> tuple[int, int, str | None]:
        stop, url = asyncio.Event(), asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(serve(gate, port=0, stop=stop, ready=url.set_result))
        async with httpx2.AsyncClient(base_url=await url) as http:
            run_id = (await http.post("/v1/runs", json={"workflow": "slow"})).json()["id"]
            await begun.wait()
            draining = asyncio.Event()

            def note(event: Event) -> None:
                told.append(event.name)
                draining.set()

            gate.bus.subscribe(note)
            stop.set()
            while "drain_began" not in told:
                await draining.wait()
                draining.clear()
            ready = (await http.get("/readyz")).status_code
            refused = (await http.post("/v1/runs", json={"workflow": "slow"})).status_code
            go_on.set()
        await serving
        await gate.open()
        run = await gate.store.runs.get(run_id)
        await gate.close()
        return ready, refused, None if run is None else run.state.value

    assert asyncio.run(main()) == (503, 503, "succeeded")
    assert told.index("drain_began") < told.index("run_finished") < told.index("drain_ended")
