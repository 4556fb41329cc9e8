"""What comes back: JSON, or an error that says everything the service said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from headgate.errors import ApiError, Rejected
from headgate.model.reason import Reason

ENDED = frozenset({"succeeded", "failed", "cancelled", "expired"})
"""States after which nothing changes."""


def read(status: int, headers: Mapping[str, str], content: bytes) -> Any:
    """The JSON of a good answer.

    Raises:
        Rejected: 429 or 503. ApiError: any other error, or an answer that is not ours.
    """
    try:
        value = json.loads(content) if content else None
    except ValueError:
        value = None
    if 200 <= status < 300:
        if value is None:
            raise ApiError(status, {"title": "Not a headgate answer", "detail": "the body is not JSON"})
        return value
    problem = value if isinstance(value, dict) else {"title": "Not a headgate answer", "detail": _text(content)}
    if status in (429, 503):
        raise _rejected(headers, problem)
    raise ApiError(status, problem)


def _rejected(headers: Mapping[str, str], problem: Mapping[str, Any]) -> Rejected:
    return Rejected(
        str(problem.get("reason", Reason.PROVIDER_OVERLOADED)),  # a proxy in between gives no reason of ours
        scope=str(problem.get("scope", "server")),
        retry_after_s=_wait_s(headers, problem),
        limit=_number(problem.get("limit")),
        used=_number(problem.get("used")),
        advice=str(problem.get("detail", "")),
        rule=None if problem.get("rule") is None else str(problem["rule"]),
    )


def _wait_s(headers: Mapping[str, str], problem: Mapping[str, Any]) -> float | None:
    """The body names the honest wait; the headers are for others' clients and end at a minute."""
    told = _number(problem.get("retry_after_ms"))
    if told is not None:
        return told / 1000
    for name, per_second in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            value = float(headers.get(name, ""))
        except ValueError:
            continue
        if 0 < value < float("inf"):
            return value / per_second
    return None


def _number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _text(content: bytes) -> str:
    return content[:200].decode("utf-8", "replace")


class EventReader:
    """Server-sent events from lines. ``last_id`` is where to continue after a broken connection."""

    def __init__(self) -> None:
        self.last_id: str | None = None
        self._name = "message"
        self._data: list[str] = []

    def feed(self, line: str) -> dict[str, Any] | None:
        """One line, without its end; the event it completes, if it does."""
        if not line:
            return self._complete()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)
        elif name == "id":
            self.last_id = value
        return None

    def _complete(self) -> dict[str, Any] | None:
        name, data = self._name, self._data
        self._name, self._data = "message", []
        if not data:
            return None
        value = json.loads("\n".join(data))
        return {"event": name, **value} if isinstance(value, dict) else None


def ended(run: Mapping[str, Any]) -> bool:
    """Whether a run (or an event about one) is in a state that nothing changes any more."""
    return run.get("state") in ENDED
