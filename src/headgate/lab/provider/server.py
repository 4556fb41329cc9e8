"""The simulated provider over HTTP, in the dialect of OpenAI's chat completions.

* ``POST /v1/chat/completions``: with and without ``stream``. The number of output model tokens is ``max_tokens`` (or
  ``max_completion_tokens``), 256 if neither is given. The number of prompt model tokens is the header
  ``x-lab-input-tokens`` if there, else a quarter of the characters.
* ``GET /v1/models``, ``GET /stats``, ``POST /admin/schedule`` with ``{"spells": [...]}`` (times count from then on).

A plain ASGI application: the simulation should cost the machine as little as possible.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from headgate.clock import Clock
from headgate.lab.provider.physics import Answer, Call
from headgate.lab.provider.service import Pending, Provider, UnknownModel
from headgate.lab.weather import spells_from_json

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_LARGEST_BODY = 4 * 1024 * 1024
_DEFAULT_OUTPUT = 256
_STREAM_EVERY_S = 0.1
_WORDS = ("A", "simulated", "reply;", "what", "matters", "is", "its", "length", "and", "its", "time.")


class BadRequest(ValueError):
    """The request itself is wrong; answered with 400."""


class ProviderApp:
    """The ASGI application."""

    def __init__(self, provider: Provider, clock: Clock) -> None:
        self._provider = provider
        self._clock = clock
        self._numbers = itertools.count(1)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        route = (scope["method"], scope["path"])
        try:
            if route == ("POST", "/v1/chat/completions"):
                await self._chat(scope, receive, send)
            elif route == ("GET", "/v1/models"):
                listed = [
                    {"id": name, "object": "model", "owned_by": "headgate-lab"} for name in self._provider.pools
                ]
                await _json(send, 200, {"object": "list", "data": listed})
            elif route == ("GET", "/stats"):
                await _json(send, 200, self._provider.statistics())
            elif route == ("POST", "/admin/schedule"):
                spells = spells_from_json((await _read(receive)).get("spells"))
                self._provider.schedule(spells)
                await _json(send, 200, {"spells": len(spells)})
            else:
                await _json(send, 404, _error(404, "not_found", f"there is no {scope['path']}"))
        except UnknownModel as error:
            await _json(send, 404, _error(404, "model_not_found", str(error)))
        except ValueError as error:
            await _json(send, 400, _error(400, "invalid_request_error", str(error)))

    async def _chat(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        body = await _read(receive)
        call = _call(body, {name.lower(): value for name, value in scope["headers"]})
        begun = self._provider.begin(call)
        pool = self._provider.pools[call.model]
        told = pool.headers(self._provider.now())
        reply = _Reply(f"chatcmpl-lab-{next(self._numbers)}", call, self._clock.now_ms() // 1000)
        if isinstance(begun, Answer):
            await _fail(send, begun, told)
            return
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            if body.get("stream"):
                await self._stream(send, begun, reply, told, gone)
                return
            waited: set[asyncio.Future[Any]] = {begun.answer, gone}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if not begun.answer.done():
                return  # nobody is there to answer; `leave` frees the place
            answer = begun.answer.result()
            if answer.status == 200:
                await _json(send, 200, reply.whole(), told, spoil=answer.code)
            else:
                await _fail(send, answer, told)
        finally:
            self._provider.leave(begun)
            gone.cancel()

    async def _stream(
        self, send: Send, pending: Pending, reply: _Reply, told: dict[str, str], gone: asyncio.Future[None]
    ) -> None:
        headers = _headers({"content-type": "text/event-stream", **told})
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for event in self._events(pending, reply, gone):
            await send({"type": "http.response.body", "body": event, "more_body": True})
        if not gone.done():
            await send({"type": "http.response.body", "body": b""})

    async def _events(self, pending: Pending, reply: _Reply, gone: asyncio.Future[None]) -> AsyncIterator[bytes]:
        sent = 0
        yield reply.chunk({"role": "assistant", "content": ""})
        while not pending.answer.done():
            waited: set[asyncio.Future[Any]] = {pending.answer, gone}
            await asyncio.wait(waited, timeout=_STREAM_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                return
            upto = int(self._provider.progress(pending) * len(reply.words))
            if upto > sent:
                yield reply.chunk({"content": " ".join(reply.words[sent:upto]) + " "})
                sent = upto
        answer = pending.answer.result()
        if answer.status != 200:
            yield _event(_error(_told(answer), answer.code, answer.message))
            return
        if answer.code:  # an unusable body: the stream just ends
            return
        if sent < len(reply.words):
            yield reply.chunk({"content": " ".join(reply.words[sent:])})
        yield reply.chunk({}, finish="stop")
        yield reply.usage_chunk()
        yield b"data: [DONE]\n\n"


class _Reply:
    """The words of one completion; there are fewer of them than model tokens, to keep the traffic small."""

    def __init__(self, number: str, call: Call, created: int) -> None:
        self.words = list(itertools.islice(itertools.cycle(_WORDS), max(1, min(40, call.output_tokens))))
        self._call = call
        self._common = {"id": number, "created": created, "model": call.model}
        self._usage = {
            "prompt_tokens": call.input_tokens,
            "completion_tokens": call.output_tokens,
            "total_tokens": call.input_tokens + call.output_tokens,
        }

    def whole(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": " ".join(self.words)}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        return {**self._common, "object": "chat.completion", "choices": [choice], "usage": self._usage}

    def chunk(self, delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _event({**self._common, "object": "chat.completion.chunk", "choices": [choice]})

    def usage_chunk(self) -> bytes:
        return _event({**self._common, "object": "chat.completion.chunk", "choices": [], "usage": self._usage})


def _call(body: dict[str, Any], headers: dict[bytes, bytes]) -> Call:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages must be a list with at least one message")
    told = headers.get(b"x-lab-input-tokens", b"")
    characters = sum(len(str(message.get("content"))) for message in messages if isinstance(message, dict))
    output = body.get("max_completion_tokens") or body.get("max_tokens") or _DEFAULT_OUTPUT
    if not isinstance(output, int) or output < 1:
        raise BadRequest("max_tokens must be a positive number")
    return Call(
        model=str(body.get("model")),
        input_tokens=int(told) if told.isdigit() else max(1, characters // 4),
        output_tokens=output,
    )


async def _read(receive: Receive) -> dict[str, Any]:
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("the request broke off")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > _LARGEST_BODY:
            raise BadRequest(f"a body has at most {_LARGEST_BODY} bytes")
        more = message.get("more_body", False)
    try:
        body = json.loads(b"".join(parts))
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    return body


async def _until_gone(receive: Receive) -> None:
    with suppress(asyncio.CancelledError):
        while (await receive())["type"] != "http.disconnect":
            pass


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _fail(send: Send, answer: Answer, told: dict[str, str]) -> None:
    headers = dict(told)
    if answer.retry_after_s is not None:
        headers["retry-after"] = f"{answer.retry_after_s:.0f}"
    await _json(send, _told(answer), _error(_told(answer), answer.code, answer.message), headers)


def _told(answer: Answer) -> int:
    """The status on the wire; a connection that broke behind this process is a bad gateway."""
    return answer.status or 502


def _error(status: int, code: str, message: str) -> dict[str, Any]:
    kind = "server_error" if status >= 500 else "requests" if status == 429 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


async def _json(
    send: Send, status: int, body: dict[str, Any], headers: dict[str, str] | None = None, *, spoil: str = ""
) -> None:
    """``spoil``: ``empty`` sends no body, ``malformed`` half of it."""
    packed = json.dumps(body).encode()
    packed = packed[: {"": len(packed), "empty": 0, "malformed": len(packed) // 2}[spoil]]
    fields = {"content-type": "application/json", "content-length": str(len(packed)), **(headers or {})}
    await send({"type": "http.response.start", "status": status, "headers": _headers(fields)})
    await send({"type": "http.response.body", "body": packed})


def _headers(fields: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in fields.items()]


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"
