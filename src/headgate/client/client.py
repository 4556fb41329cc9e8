"""The synchronous client: the same as `AsyncClient` without ``await``. Safe to share between threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

import httpx2

from headgate.client import calls
from headgate.client.answers import EventReader, ended, read
from headgate.client.calls import DEFAULT_URL, STREAM_SILENCE_S, TIMEOUT_S, Call
from headgate.client.patience import Patience
from headgate.clock import REAL_CLOCK, Clock
from headgate.errors import Rejected

POLL_S = 1.0


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


class Client:
    """Talks to one service; close it, or use ``with``.

    Answers are the service's JSON as dicts (see ``/docs``). Every method raises `Rejected` for 429 and 503,
    `headgate.errors.ApiError` for other errors, and ``httpx2.TransportError`` when the service cannot be reached.
    What cannot be written as JSON is never sent: `headgate.errors.InvalidRequest`.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        api_key: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        transport: httpx2.BaseTransport | None = None,
        clock: Clock = REAL_CLOCK,
        sleep: Callable[[float], None] = _pause,
    ) -> None:
        """``timeout_s`` bounds one request. ``transport``, ``clock`` and ``sleep`` are for tests."""
        self._http = httpx2.Client(
            base_url=base_url, headers=calls.connection_headers(api_key), timeout=timeout_s, transport=transport
        )
        self._timeout_s = timeout_s
        self._clock = clock
        self._sleep = sleep

    def submit(
        self,
        workflow: str,
        input: Any = None,
        *,
        tenant: str | None = None,
        user: str | None = None,
        lane: str | None = None,
        deadline: float | str | None = None,
        idempotency_key: str | None = None,
        cost: Mapping[str, float] | None = None,
        max_wait_s: float = 0.0,
    ) -> dict[str, Any]:
        """Ask for a run: ``{"id", "state", "position", "eta_s", …}`` once it is stored durably.

        ``deadline`` is seconds, a duration ("2m") or an RFC 3339 time. Without an ``idempotency_key`` a fresh one is
        made, so that repeating after a lost answer never makes two runs. ``max_wait_s`` is how long this may wait,
        honouring the service's Retry-After, before it raises the refusal.
        """
        call = calls.submit(
            workflow,
            input,
            tenant=tenant,
            user=user,
            lane=lane,
            deadline=deadline,
            idempotency_key=idempotency_key or calls.new_key(self._clock),
            cost=cost,
        )
        patience = Patience(max_wait_s)
        while True:
            try:
                answer: dict[str, Any] = self._send(call)
                return answer
            except Rejected as refusal:
                delay = patience.after_refusal(refusal)
                if delay is None:
                    raise
            except httpx2.TransportError:
                delay = patience.after_broken_connection()
                if delay is None:
                    raise
            self._sleep(delay)

    def run(self, run_id: str) -> dict[str, Any]:
        """Everything about one run."""
        answer: dict[str, Any] = self._send(calls.run(run_id))
        return answer

    def runs(
        self,
        *,
        workflow: str | None = None,
        tenant: str | None = None,
        lane: str | None = None,
        states: Sequence[str] = (),
        reason: str | None = None,
        before: str | None = None,
        limit: int = 50,
        parent: str | None = None,
    ) -> dict[str, Any]:
        """One page, newest first: ``{"runs": […], "next": id or None}``; pass ``next`` as ``before`` to go on."""
        call = calls.runs(
            workflow=workflow,
            tenant=tenant,
            lane=lane,
            states=states,
            reason=reason,
            before=before,
            limit=limit,
            parent=parent,
        )
        answer: dict[str, Any] = self._send(call)
        return answer

    def events(
        self, run_id: str, *, last_event_id: str | None = None, silence_s: float = STREAM_SILENCE_S
    ) -> Iterator[dict[str, Any]]:
        """What happens to a run, as it happens, until it ends or the connection does.

        Each event has ``event`` (``update`` or ``end``), ``state``, ``position``, ``eta_s``, ``steps`` …. A stream
        that says nothing for ``silence_s`` raises ``httpx2.ReadTimeout``.
        """
        call = calls.events(run_id, last_event_id)
        reader = EventReader()
        timeout = httpx2.Timeout(self._timeout_s, read=silence_s)
        with self._http.stream(call.method, call.path, headers=dict(call.headers), timeout=timeout) as response:
            if response.status_code != 200:
                read(response.status_code, response.headers, response.read())
            for line in response.iter_lines():
                event = reader.feed(line)
                if event is not None:
                    yield event

    def wait(self, run_id: str, timeout_s: float | None = None) -> dict[str, Any]:
        """The run, once it has ended. Follows its events, and reads it now and then where that fails.

        Raises:
            TimeoutError: it has not ended within ``timeout_s`` (it goes on).
        """
        until = None if timeout_s is None else self._clock.monotonic() + timeout_s
        while True:
            try:
                self._follow(run_id, until)
            except (Rejected, httpx2.TransportError):
                self._sleep(min(POLL_S, self._left(run_id, until)))
            try:
                run = self.run(run_id)
            except (Rejected, httpx2.TransportError):
                self._sleep(min(POLL_S, self._left(run_id, until)))
                continue
            if ended(run):
                return run
            self._sleep(min(POLL_S, self._left(run_id, until)))

    def cancel(self, run_id: str, *, detail: str | None = None) -> dict[str, Any]:
        """Ask for a run's end. A waiting run has ended when this returns, a running one ends at its next step."""
        answer: dict[str, Any] = self._send(calls.cancel(run_id, detail))
        return answer

    def replay(self, run_id: str, *, assume: str | None = None) -> dict[str, Any]:
        """Ask for a dead letter to be carried out again; ``assume`` is ``"done"`` or ``"not_done"``."""
        answer: dict[str, Any] = self._send(calls.replay(run_id, assume))
        return answer

    def dead(
        self,
        *,
        workflow: str | None = None,
        tenant: str | None = None,
        lane: str | None = None,
        reason: str | Sequence[str] | None = None,
        older_than: str | None = None,
        since: str | None = None,
        resolved: bool = False,
        record: bool = False,
        before: str | None = None,
        limit: int = 50,
    ) -> dict[str, Any]:
        """One page of dead letters, newest first: ``{"dead": […], "next": id or None}``.

        ``older_than`` and ``since`` are durations such as ``"1h"``; ``resolved`` also shows those that need
        nobody any more, ``record`` who dismissed and purged what.
        """
        wish = {
            "workflow": workflow, "tenant": tenant, "lane": lane, "reason": reason, "older_than": older_than,
            "since": since, "resolved": resolved or None, "record": record or None, "before": before, "limit": limit,
        }  # fmt: skip
        answer: dict[str, Any] = self._send(calls.dead(wish))
        return answer

    def dead_letter(self, run_id: str) -> dict[str, Any]:
        """Everything about a dead letter, with the ``history`` of its attempts and its ``replays``."""
        answer: dict[str, Any] = self._send(calls.dead_letter(run_id))
        return answer

    def replay_dead(
        self,
        *,
        include_expired: bool = False,
        assume: str | None = None,
        rate: str | None = None,
        **which: Unpack[calls.DeadWish],
    ) -> dict[str, Any]:
        """Replay one batch, oldest first: ``{"replayed", "skipped", "stopped", "next"}``.

        Pass ``next`` as ``after`` to go on. ``stopped`` is the refusal that ended the batch; with a ``rate`` such as
        ``"10/min"`` its scope is ``replays`` when the next one is due only after ``retry_after_ms``.
        """
        wish = {"include_expired": include_expired, "assume": assume, "rate": rate, **which}
        answer: dict[str, Any] = self._send(calls.dead_batch("replay", wish))
        return answer

    def dismiss_dead(self, *, why: str, **which: Unpack[calls.DeadWish]) -> dict[str, Any]:
        """Take one batch off the list; what it is stays readable. ``why`` is recorded."""
        answer: dict[str, Any] = self._send(calls.dead_batch("dismiss", {"why": why, **which}))
        return answer

    def purge_dead(self, *, why: str, **which: Unpack[calls.DeadWish]) -> dict[str, Any]:
        """Delete one batch for good. ``why`` is recorded."""
        answer: dict[str, Any] = self._send(calls.dead_batch("purge", {"why": why, **which}))
        return answer

    def raise_budget(
        self,
        run_id: str,
        *,
        call_count: int | str | None = None,
        model_tokens: int | str | None = None,
        money: float | str | None = None,
        wall: str | None = None,
    ) -> dict[str, Any]:
        """Raise ceilings of a run: totals (``120``, ``"100k"``, ``"10m"`` of running time), or ``"+20"`` more."""
        wish = {"calls": call_count, "model_tokens": model_tokens, "money": money, "wall": wall}
        answer: dict[str, Any] = self._send(calls.budget(run_id, wish))
        return answer

    def capacity(self) -> dict[str, Any]:
        """Every resource, lane and limit with its use."""
        answer: dict[str, Any] = self._send(calls.capacity())
        return answer

    def approvals(self, *, queue: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """Questions that wait for a person, in the order in which they should be answered."""
        answer: list[dict[str, Any]] = self._send(calls.approvals(queue, limit))["approvals"]
        return answer

    def decide(self, approval_id: str, approve: bool, *, note: str | None = None) -> dict[str, Any]:
        """Answer one; ``applied`` in the answer is false when somebody else had answered otherwise before."""
        answer: dict[str, Any] = self._send(calls.decide(approval_id, approve, note))
        return answer

    def controls(self, *, target: str | None = None, limit: int = 50) -> dict[str, Any]:
        """What is set by hand or held back by a rule, and the newest ``limit`` lines of the record."""
        answer: dict[str, Any] = self._send(calls.controls(target, limit))
        return answer

    def control(
        self,
        target: str,
        *,
        reason: str,
        pause: bool | None = None,
        limit: int | None = None,
        rate: str | None = None,
        depth: int | None = None,
        max_age: str | None = None,
        share: str | None = None,
        weight: float | None = None,
        shed_at: str | None = None,
        model_tokens: str | None = None,
        stop_running: bool | None = None,
        expires: str | None = None,
    ) -> dict[str, Any]:
        """Pause, resume (``pause=False``) or override a target in the whole fleet.

        Targets are ``resource:…``, ``lane:…``, ``workflow:…``, ``tenant:…``, ``limit:…``, ``budget:…`` and
        ``fleet``. Numbers are written as in the configuration: ``rate="100/min"``, ``max_age="10m"``,
        ``share="30%"``, ``expires="30m"``. ``stop_running`` with a pause: running runs stop at their next step.
        """
        wish = {
            "pause": pause,
            "limit": limit,
            "rate": rate,
            "depth": depth,
            "max_age": max_age,
            "share": share,
            "weight": weight,
            "shed_at": shed_at,
            "model_tokens": model_tokens,
            "stop_running": stop_running,
            "reason": reason,
            "expires": expires,
        }
        answer: dict[str, Any] = self._send(calls.control(target, wish))
        return answer

    def reset(self, target: str, *, reason: str | None = None) -> dict[str, Any]:
        """End everything that is set by hand on a target."""
        answer: dict[str, Any] = self._send(calls.reset(target, reason))
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _follow(self, run_id: str, until: float | None) -> None:
        """Read events until the run has ended or there is no time left."""
        for event in self.events(run_id, silence_s=min(STREAM_SILENCE_S, self._left(run_id, until))):
            if ended(event) or (until is not None and self._clock.monotonic() >= until):
                return

    def _left(self, run_id: str, until: float | None) -> float:
        if until is None:
            return STREAM_SILENCE_S
        left = until - self._clock.monotonic()
        if left <= 0:
            raise TimeoutError(f"run {run_id} has not ended in time; it goes on")
        return left

    def _send(self, call: Call) -> Any:
        response = self._http.request(
            call.method, call.path, params=dict(call.params), content=call.content, headers=dict(call.headers)
        )
        return read(response.status_code, response.headers, response.content)
