"""Server-sent events of one run: a line whenever its state, place, steps or expected moments change, until it ends.

Events of this process wake a stream at once; other processes' changes are seen by reading the store each second.
An event's id is a digest of what it told, so ``Last-Event-ID`` needs no memory here: a client that comes back is
told only what differs from what it saw last. Streams are bounded in number (per key and in all), in age, and in how
long a client may take to read a line.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from headgate.clock import Clock
from headgate.model.decision import Admission
from headgate.model.reason import Reason
from headgate.observe.bus import Event, EventBus
from headgate.server.answers import Answer, ProblemError, temporary
from headgate.server.views import standing_view, step_view
from headgate.store.protocols import Store

POLL_S = 1.0
HEARTBEAT_S = 15.0
LONGEST_S = 3600.0
"""A client simply connects again; this bounds what a forgotten one holds."""
SEND_S = 30.0
RECONNECT_MS = 2000
PER_KEY_MAX = 64
IN_ALL_MAX = 512

TIMES = frozenset({"eta_s", "eta_p90_s", "finish_s", "finish_p90_s"})
MOVED_S, MOVED_SHARE = 1.0, 0.1
"""An expected moment that moves by so much, and by this part of what is left, is told."""

Locate = Callable[[], Awaitable[Admission | None]]


class RunStreams:
    """All streams of one process."""

    def __init__(self, bus: EventBus, clock: Clock, *, in_all: int) -> None:
        self._clock = clock
        self._in_all = in_all
        self._open: Counter[str] = Counter()
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False
        bus.subscribe(self._hear)

    @property
    def count(self) -> int:
        """Streams open now."""
        return self._open.total()

    def close(self) -> None:
        """End every stream soon; clients come back to whoever serves then."""
        self._closing = True
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.set()

    def hint(self, run_id: str) -> None:
        """Something about this run changed."""
        for watcher in self._watchers.get(run_id, ()):
            watcher.set()

    def respond(
        self, key_id: str, run_id: str, store: Store, locate: Locate, *, last_event_id: str | None
    ) -> StreamingResponse:
        """The response that streams the run.

        Raises:
            ProblemError: too many streams are open (429), or the server is shutting down (503).
        """
        refusal = self._no_room(key_id)
        if refusal is not None:
            raise ProblemError(refusal)
        self._open[key_id] += 1
        lines = self._lines(run_id, store, locate, last_event_id)
        return _EventResponse(lines, release=lambda: self._release(key_id))

    async def _lines(self, run_id: str, store: Store, locate: Locate, seen: str | None) -> AsyncIterator[str]:
        self._loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        self._watchers.setdefault(run_id, set()).add(changed)
        born = told_at = self._clock.monotonic()
        times = ToldTimes()
        try:
            yield f"retry: {RECONNECT_MS}\n\n"
            while not self._closing and self._clock.monotonic() - born < LONGEST_S:
                changed.clear()
                answer = await locate()
                if answer is None:
                    return
                steps = [step_view(step) for step in await store.runs.steps(run_id)]
                told = {**standing_view(answer), "steps": steps}
                mark, now = _mark(told), self._clock.monotonic()
                ended = answer.run.state.terminal
                if mark != seen or ended or times.moved(told, now):
                    seen, told_at = mark, now
                    times.told(told, now)
                    yield _line("end" if ended else "update", mark, told)
                if ended:
                    return
                if self._clock.monotonic() - told_at >= HEARTBEAT_S:
                    told_at = self._clock.monotonic()
                    yield ": still here\n\n"
                await _hinted(changed)
        finally:
            watchers = self._watchers[run_id]
            watchers.discard(changed)
            if not watchers:
                del self._watchers[run_id]

    def _no_room(self, key_id: str) -> Answer | None:
        if self._closing:
            return temporary(
                Reason.DRAINING, "this server is shutting down", scope="server", retry_after_ms=2000, close=True
            )
        for scope, used, limit in (
            ("streams of this key", self._open[key_id], min(PER_KEY_MAX, self._in_all)),
            ("streams of this server", self.count, self._in_all),
        ):
            if used >= limit:
                return temporary(
                    Reason.CONCURRENCY,
                    f"{used} of {limit} {scope} are open; read the run itself instead",
                    scope=scope,
                    retry_after_ms=5000,
                )
        return None

    def _release(self, key_id: str) -> None:
        self._open[key_id] -= 1
        if self._open[key_id] <= 0:
            del self._open[key_id]

    def _hear(self, event: Event) -> None:
        if not self._watchers or self._loop is None:
            return
        run_id = event.fields.get("run_id")
        if run_id in self._watchers:
            self._loop.call_soon_threadsafe(self.hint, run_id)  # tellers may be in threads


class _EventResponse(StreamingResponse):
    """Frees its place however it ends, and gives up on clients that do not read."""

    def __init__(self, lines: AsyncIterator[str], *, release: Callable[[], None]) -> None:
        super().__init__(lines, media_type="text/event-stream")
        self.raw_headers.append((b"cache-control", b"no-store"))
        self.raw_headers.append((b"x-accel-buffering", b"no"))
        self._free = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def patient_send(message: Any) -> None:
            async with asyncio.timeout(SEND_S):
                await send(message)

        try:
            await super().__call__(scope, receive, patient_send)
        finally:
            self._free()


async def _hinted(changed: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(POLL_S):
            await changed.wait()
    except TimeoutError:
        return


class ToldTimes:
    """The moments that a stream told last. A time that ticks down by itself is no news."""

    def __init__(self) -> None:
        self._moments: dict[str, float | None] | None = None

    def told(self, view: Mapping[str, Any], now: float) -> None:
        """This was told at ``now`` (seconds)."""
        self._moments = _moments(view, now)

    def moved(self, view: Mapping[str, Any], now: float) -> bool:
        """Whether a moment differs by a second and by a tenth of the wait from what was told."""
        if self._moments is None:
            return False
        for name, moment in _moments(view, now).items():
            before = self._moments[name]
            if (moment is None) != (before is None):
                return True
            if moment is None or before is None:
                continue
            if abs(moment - before) >= max(MOVED_S, MOVED_SHARE * max(0.0, before - now)):
                return True
        return False


def _moments(view: Mapping[str, Any], now: float) -> dict[str, float | None]:
    return {name: None if view.get(name) is None else now + view[name] for name in ("eta_s", "finish_s")}


def _mark(told: dict[str, Any]) -> str:
    stable = {name: value for name, value in told.items() if name not in TIMES}
    return hashlib.sha256(json.dumps(stable, sort_keys=True).encode()).hexdigest()[:16]


def _line(event: str, mark: str, told: dict[str, Any]) -> str:
    return f"event: {event}\nid: {mark}\ndata: {json.dumps(told, separators=(',', ':'))}\n\n"
