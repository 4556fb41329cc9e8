"""What every request meets first: bounds, origin, who calls, and a problem for whatever goes wrong.

Pure ASGI, because it stands in the hot path: ``POST /v1/runs`` goes from here straight to `headgate.server.submit`,
past FastAPI's routing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from itertools import chain
from random import Random

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headgate.gate import Gate
from headgate.model.reason import Reason
from headgate.server.answers import CLOSE, Answer, ProblemError, answer_for, problem, send_answer, temporary
from headgate.server.auth import LOCAL_ADMIN, Authenticator, Caller

log = logging.getLogger("headgate.server")

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json"})
"""Served to anybody: they hold no data."""
CALLER = "headgate.caller"
HEADERS = "headgate.headers"
HEAD_MAX = 16 * 1024
"""Bytes of path, query and header lines together."""
RECEIPT_S = 30.0
"""A request's body must have arrived after so many seconds."""
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

HotPath = Callable[[Scope, Receive, Caller, Mapping[bytes, bytes]], Awaitable[Answer]]


class Front:
    """The outermost application. ``draining`` is set by `headgate.server.serve` before anything else stops."""

    def __init__(self, api: ASGIApp, submit: HotPath, gate: Gate, auth: Authenticator, *, rng: Random) -> None:
        self._api = api
        self._submit = submit
        self._gate = gate
        self._auth = auth
        self._rng = rng
        self._most = gate.settings.server.connections
        self.inflight = 0
        self.draining = False
        self.on_drain: list[Callable[[], None]] = []

    def begin_drain(self) -> None:
        """Refuse new work from now on; reading goes on."""
        self.draining = True
        for act in self.on_drain:
            act()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._api(scope, receive, send)
            return
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        self.inflight += 1
        try:
            await self._answer(scope, receive, watched_send)
        except Exception as error:  # noqa: BLE001  # the last line: whatever it was, the caller gets a problem
            await self._failed(error, scope, None if started else send)
        finally:
            self.inflight -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.inflight > self._most:
            raise ProblemError(
                temporary(
                    Reason.CONCURRENCY,
                    f"this server handles at most {self._most} requests at once",
                    scope="server",
                    retry_after_ms=self._soon(1000),
                )
            )
        if _head_bytes(scope) > HEAD_MAX:
            raise ProblemError(
                problem(
                    431,
                    Reason.TOO_LARGE,
                    f"the request line and header lines are larger than {HEAD_MAX} bytes",
                    headers=[CLOSE, (b"x-should-retry", b"false")],
                    limit=HEAD_MAX,
                )
            )
        if {b"content-length", b"transfer-encoding"} <= {name for name, _ in scope["headers"]}:
            raise ProblemError(  # RFC 9112, 6.3: two ways to tell the length are how requests are smuggled
                problem(
                    400,
                    Reason.INVALID_REQUEST,
                    "a request has Content-Length or Transfer-Encoding, not both",
                    headers=[CLOSE, (b"x-should-retry", b"false")],
                )
            )
        path: str = scope["path"]
        posts = scope["method"] not in ("GET", "HEAD")
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if posts:
            _refuse_foreign_origin(headers)
            if self.draining or self._gate.draining:
                raise ProblemError(
                    temporary(
                        Reason.DRAINING,
                        "this server is shutting down",
                        scope="server",
                        retry_after_ms=self._soon(5000),
                        close=True,
                    )
                )
        if path not in OPEN_PATHS:
            caller = self._auth.remembered(headers) or await self._ask_who(scope, headers)
            if posts and path == "/v1/runs" and scope["method"] == "POST":
                await send_answer(send, await self._submit(scope, receive, caller, headers))
                return
            scope[CALLER] = caller
        scope[HEADERS] = headers
        await self._api(scope, receive, send)

    async def _ask_who(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Caller:
        client = scope.get("client")
        address = client[0] if client else None
        caller = await self._auth.caller(headers, address)
        if caller is LOCAL_ADMIN and not self._auth.insecure:
            _refuse_foreign_host(headers)
        return caller

    async def _failed(self, error: Exception, scope: Scope, send: Send | None) -> None:
        answer = answer_for(error, retry_after_ms=self._soon(2000))
        if answer is None:
            log.error("%s %s failed", scope["method"], scope["path"], exc_info=error)
            answer = problem(500, Reason.ERROR, "an unexpected error happened; it was logged", headers=[CLOSE])
        if send is not None:
            await send_answer(send, answer, head=scope["method"] == "HEAD")

    def _soon(self, wait_ms: int) -> int:
        return round(wait_ms * (1 + self._rng.random() / 4))


def _head_bytes(scope: Scope) -> int:
    """The HTTP parser bounds only what comes in pieces; a head that arrives at once is measured here."""
    lines = sum(map(len, chain.from_iterable(scope["headers"])))
    return lines + len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"")


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], *, most: int) -> bytes:
    """The whole body, at most ``most`` bytes of it, within `RECEIPT_S`.

    Raises:
        ProblemError: 413 as soon as it is known to be larger, 408 if it takes too long, 400 if the client left.
    """
    announced = headers.get(b"content-length")
    if announced is not None and announced.isdigit() and int(announced[:20]) > most:
        raise _too_large(most)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(RECEIPT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ProblemError(problem(400, Reason.INVALID_REQUEST, "the client left", headers=[CLOSE]))
                chunk: bytes = message.get("body", b"")
                size += len(chunk)
                if size > most:
                    raise _too_large(most)
                if not message.get("more_body", False):
                    return chunk if not chunks else b"".join([*chunks, chunk])
                chunks.append(chunk)
    except TimeoutError:
        raise ProblemError(
            problem(408, Reason.TIMEOUT, f"the body did not arrive within {RECEIPT_S:g} s", headers=[CLOSE])
        ) from None


def demand_json(headers: Mapping[bytes, bytes]) -> None:
    """Raises:
    ProblemError: 415, the body is not announced as JSON in UTF-8, or is compressed.
    """
    kind, _, parameters = headers.get(b"content-type", b"").partition(b";")
    kind = kind.strip().lower()
    charset = parameters.strip().lower().replace(b'"', b"")
    if kind != b"application/json" or charset not in (b"", b"charset=utf-8", b"charset=utf8"):
        raise _unsupported("send the body as application/json in UTF-8")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise _unsupported("compressed bodies are not taken")


def _unsupported(detail: str) -> ProblemError:
    return ProblemError(problem(415, Reason.INVALID_REQUEST, detail, headers=[(b"x-should-retry", b"false")]))


def _too_large(most: int) -> ProblemError:
    # The connection stays: closing it with unread bytes underway would reset it and take this answer along. What
    # still arrives is thrown away, for as long as `headgate.server.protocol` lets it.
    return ProblemError(
        problem(
            413,
            Reason.TOO_LARGE,
            f"the body is larger than {most} bytes",
            headers=[(b"x-should-retry", b"false")],
            limit=most,
        )
    )


def _refuse_foreign_origin(headers: Mapping[bytes, bytes]) -> None:
    """A web page of another origin may make a browser post here; nothing of ours does."""
    origin = headers.get(b"origin")
    cross = headers.get(b"sec-fetch-site", b"none") in (b"cross-site", b"same-site")
    if origin is not None and not cross:
        cross = origin.partition(b"://")[2] != headers.get(b"host", b"")
    if cross:
        raise ProblemError(problem(403, Reason.FORBIDDEN, "requests from other origins' pages are refused"))


def _refuse_foreign_host(headers: Mapping[bytes, bytes]) -> None:
    """Without keys, a name that an attacker lets point at 127.0.0.1 (DNS rebinding) must not open the door."""
    host = headers.get(b"host", b"").decode("latin-1").lower()
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name not in _LOCAL_NAMES:
        raise ProblemError(
            problem(403, Reason.FORBIDDEN, "without API keys this server answers only as localhost or 127.0.0.1")
        )
