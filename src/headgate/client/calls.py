"""What is sent: every operation as method, path and content, shared by both clients."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict
from urllib.parse import quote

from headgate.clock import Clock
from headgate.errors import InvalidRequest
from headgate.model.ids import uuid7

DEFAULT_URL = "http://127.0.0.1:8400"
TIMEOUT_S = 15.0
"""For one request; event streams have their own."""
STREAM_SILENCE_S = 30.0
"""The service sends a heartbeat every 15 s; a stream that is silent for twice as long is dead."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def connection_headers(api_key: str | None) -> dict[str, str]:
    """Sent with every request.

    Raises:
        InvalidRequest: the key has a character that no API key has and no header can carry.
    """
    headers = {"accept": "application/json", "user-agent": "headgate-client"}
    if api_key is not None:
        if not (api_key.isascii() and api_key.isprintable()) or not api_key.strip():
            raise InvalidRequest([("api_key", "is no API key: it has to be printable ASCII")])
        headers["authorization"] = f"Bearer {api_key}"
    return headers


def new_key(clock: Clock) -> str:
    """An idempotency key, so that a submission repeated after a lost answer leads to the same run."""
    return uuid7(clock.now_ms(), secrets.randbits)


def submit(
    workflow: str,
    input: Any,
    *,
    tenant: str | None,
    user: str | None,
    lane: str | None,
    deadline: float | str | None,
    idempotency_key: str,
    cost: Mapping[str, float] | None = None,
) -> Call:
    """``POST /v1/runs``."""
    wanted = {
        "workflow": workflow,
        "input": input,
        "tenant": tenant,
        "user": user,
        "lane": lane,
        "deadline": deadline,
        "cost": None if cost is None else dict(cost),
    }
    body = {name: value for name, value in wanted.items() if value is not None or name == "input"}
    return _post("/v1/runs", body, {"idempotency-key": idempotency_key})


def run(run_id: str) -> Call:
    """``GET /v1/runs/{id}``."""
    return Call("GET", f"/v1/runs/{_part(run_id)}")


def runs(
    *,
    workflow: str | None,
    tenant: str | None,
    lane: str | None,
    states: Sequence[str],
    reason: str | None,
    before: str | None,
    limit: int,
    parent: str | None,
) -> Call:
    """``GET /v1/runs``."""
    wanted = {
        "workflow": workflow,
        "tenant": tenant,
        "lane": lane,
        "reason": reason,
        "before": before,
        "limit": limit,
        "parent": parent,
    }
    params: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    if states:
        params["state"] = [str(state) for state in states]
    return Call("GET", "/v1/runs", params)


def events(run_id: str, last_event_id: str | None) -> Call:
    """``GET /v1/runs/{id}/events``."""
    headers = {"accept": "text/event-stream"}
    if last_event_id is not None:
        headers["last-event-id"] = last_event_id
    return Call("GET", f"/v1/runs/{_part(run_id)}/events", headers=headers)


def cancel(run_id: str, detail: str | None) -> Call:
    """``POST /v1/runs/{id}/cancel``."""
    return _post(f"/v1/runs/{_part(run_id)}/cancel", {} if detail is None else {"detail": detail})


def replay(run_id: str, assume: str | None) -> Call:
    """``POST /v1/runs/{id}/replay``."""
    return _post(f"/v1/runs/{_part(run_id)}/replay", {} if assume is None else {"assume": assume})


class DeadWish(TypedDict, total=False):
    """Which dead letters a bulk request means: all that fit every field that is given, oldest first."""

    workflow: str | None
    tenant: str | None
    lane: str | None
    reason: str | Sequence[str] | None
    older_than: str | float | None
    since: str | float | None
    ids: Sequence[str] | None
    all: bool
    limit: int | None
    after: str | None
    dry_run: bool


def dead(wish: Mapping[str, Any]) -> Call:
    """``GET /v1/dead``; what is ``None`` is not sent."""
    params = {name: value for name, value in wish.items() if value is not None}
    return Call(
        "GET", "/v1/dead", {name: str(value).lower() if value is True else value for name, value in params.items()}
    )


def dead_letter(run_id: str) -> Call:
    """``GET /v1/dead/{id}``."""
    return Call("GET", f"/v1/dead/{_part(run_id)}")


def dead_batch(action: str, wish: Mapping[str, Any]) -> Call:
    """``POST /v1/dead/replay``, ``dismiss`` or ``purge``; what is ``None`` is not sent."""
    body = {name: value for name, value in wish.items() if value is not None}
    for name in ("ids", "reason"):
        if name in body and not isinstance(body[name], str):
            body[name] = list(body[name])
    return _post(f"/v1/dead/{action}", body)


def budget(run_id: str, wish: Mapping[str, Any]) -> Call:
    """``POST /v1/runs/{id}/budget``; what is ``None`` is not sent."""
    return _post(
        f"/v1/runs/{_part(run_id)}/budget", {name: value for name, value in wish.items() if value is not None}
    )


def capacity() -> Call:
    """``GET /v1/capacity``."""
    return Call("GET", "/v1/capacity")


def approvals(queue: str | None, limit: int) -> Call:
    """``GET /v1/approvals``."""
    return Call("GET", "/v1/approvals", {"limit": limit} if queue is None else {"limit": limit, "queue": queue})


def decide(approval_id: str, approve: bool, note: str | None) -> Call:
    """``POST /v1/approvals/{id}``."""
    body = {"decision": "approve" if approve else "deny"}
    return _post(f"/v1/approvals/{_part(approval_id)}", body if note is None else {**body, "note": note})


def controls(target: str | None, limit: int) -> Call:
    """``GET /v1/controls``."""
    return Call("GET", "/v1/controls", {"limit": limit} if target is None else {"limit": limit, "target": target})


def control(target: str, wish: Mapping[str, Any]) -> Call:
    """``PUT /v1/controls/{target}``; what is ``None`` is not sent."""
    body = {name: value for name, value in wish.items() if value is not None}
    return replace(_post(f"/v1/controls/{_part(target)}", body), method="PUT")


def reset(target: str, reason: str | None) -> Call:
    """``DELETE /v1/controls/{target}``."""
    return Call("DELETE", f"/v1/controls/{_part(target)}", {} if reason is None else {"reason": reason})


def _post(path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Call:
    try:
        content = json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:  # also half a surrogate pair, which UTF-8 cannot write
        raise InvalidRequest([("body", f"cannot be sent as JSON: {error}")]) from error
    return Call("POST", path, content=content, headers={"content-type": "application/json", **(headers or {})})


def _part(text: str) -> str:
    return quote(text, safe="") or "-"
