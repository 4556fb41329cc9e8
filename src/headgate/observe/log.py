"""One structured line per decision, through the standard library's ``logging``.

The logger is ``headgate.decisions``. A line reads, for example::

    resource=github queue_depth=119/120 inflight=8/8 p95_ms=4820 error_rate=0.03 admission=reject
    reason=queue_full retry_after_ms=15000

(on one line). Inputs, results and arguments are never logged; values whose name or shape says *secret* are
replaced by ``[redacted]``; a value can never break out of its line.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, TextIO

from headgate.observe.bus import Event
from headgate.observe.events import CATALOGUE

DECISIONS = logging.getLogger("headgate.decisions")
REDACTED = "[redacted]"

_LEVELS = {
    "store_failed": logging.ERROR,
    "lease_lost": logging.WARNING,
    "run_rescued": logging.WARNING,
    "breaker_changed": logging.WARNING,
    "lane_shed": logging.WARNING,
}
_ADMISSIONS = {"run_admitted": "accept", "run_refused": "reject", "call_refused": "reject"}
_FIRST = ("resource", "workflow", "lane", "tenant", "run_id", "queue")
_FULLNESS = (("queue_depth", "queue_limit"), ("inflight", "limit"))
_MEASURES = ("p95_ms", "error_rate", "pressure")
_LAST = ("outcome", "reason", "scope", "used", "old", "new", "retry_after_ms")

_SECRET_NAMES = frozenset(
    {"apikey", "authorization", "cookie", "credential", "credentials", "passphrase", "passwd", "password"}
    | {"secret", "secrets", "token"}
)
_SECRET_SHAPES = re.compile(
    r"(?P<scheme>://[^\s/:@]*:)[^\s@/]+(?=@)"  # ://user:password@host
    r"|(?P<bearer>\b[Bb]earer\s+)[^\s\"']+"
    r"|\bsk-[A-Za-z0-9_-]{12,}|\bhg_[A-Za-z0-9_-]{12,}|\bgh[opsu]_[A-Za-z0-9]{20,}|\bAKIA[0-9A-Z]{16}\b"
)
_SECRET_SIGNS = re.compile("://|earer|sk-|hg_|gh[opsu]_|AKIA")
"""No secret of those shapes is without one of these; looking for them first is ten times faster."""
_PLAIN = re.compile(r"[^\s\"'=\\\x00-\x1f\x7f-\x9f]+")


class DecisionLog:
    """Writes down the decisions told on a bus: ``bus.subscribe(DecisionLog())``."""

    def __init__(self, logger: logging.Logger = DECISIONS) -> None:
        self._logger = logger

    def __call__(self, event: Event) -> None:
        """Log one event if it is a decision and the level is on."""
        spec = CATALOGUE.get(event.name)
        if spec is None or not spec.decision:
            return
        level = _LEVELS.get(event.name, logging.INFO)
        if self._logger.isEnabledFor(level):
            fields = redact(event.fields)
            extra = {"headgate_event": event.name, "headgate_at_ms": event.at_ms, "headgate_fields": fields}
            # made here rather than by Logger.log, which would walk the stack to find out that it was us
            self._logger.handle(
                self._logger.makeRecord(
                    self._logger.name, level, __file__, 0, decision_line(event.name, fields), (), None, extra=extra
                )
            )


def decision_line(name: str, fields: Mapping[str, Any]) -> str:
    """``key=value`` words in a fixed order: whose, how full, how it goes, what was decided, why."""
    left = {key: value for key, value in fields.items() if value is not None}
    words: list[str] = []

    def put(*keys: str) -> None:
        words.extend(f"{key}={_word(left.pop(key))}" for key in keys if key in left)

    put(*_FIRST)
    for used, bound in _FULLNESS:
        if used in left and bound in left:
            words.append(f"{used}={_word(left.pop(used))}/{_word(left.pop(bound))}")
    put(*_MEASURES)
    answer = _ADMISSIONS.get(name)
    if answer is not None and left.get("shadow") is True:
        answer = "shadow"
    words.append(f"admission={answer}" if answer else f"event={name}")
    put(*_LAST)
    put(*sorted(left))
    return " ".join(words)


def redact(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields without what looks like a secret, by name or by shape."""
    return {key: REDACTED if _secret_name(key) else _scrubbed(value) for key, value in fields.items()}


def scrub(text: str) -> str:
    """``text`` without what has the shape of a secret (API keys, bearer credentials, passwords in URLs)."""
    if _SECRET_SIGNS.search(text) is None:
        return text
    return _SECRET_SHAPES.sub(lambda match: f"{match['scheme'] or match['bearer'] or ''}{REDACTED}", text)


class TextFormatter(logging.Formatter):
    """``2026-01-31T08:15:00.123Z INFO headgate.decisions resource=github …``"""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if not hasattr(record, "headgate_event"):  # decisions are clean already
            message = scrub(message)
        line = f"{_when(record)} {record.levelname} {record.name} {message}"
        return line if record.exc_info is None else f"{line}\n{scrub(self.formatException(record.exc_info))}"


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, and the event's fields or the message."""

    def format(self, record: logging.LogRecord) -> str:
        body: dict[str, Any] = {"time": _when(record), "level": record.levelname, "logger": record.name}
        event = getattr(record, "headgate_event", None)
        if event is None:
            body["message"] = scrub(record.getMessage())
        else:
            body |= {"event": event, **getattr(record, "headgate_fields", {})}
        if record.exc_info is not None:
            body["exception"] = scrub(self.formatException(record.exc_info))
        return json.dumps(body, ensure_ascii=False, default=str)


def log_to(stream: TextIO, *, style: Literal["text", "json"] = "text", level: int = logging.INFO) -> logging.Handler:
    """Send everything headgate logs to ``stream``; for programs that are headgate's own (the command line).

    Returns the handler; a library user who configures ``logging`` does not need this.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger("headgate")
    root.addHandler(handler)
    root.setLevel(level)
    root.propagate = False
    return handler


def _when(record: logging.LogRecord) -> str:
    seconds = getattr(record, "headgate_at_ms", record.created * 1000) / 1000
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@lru_cache(maxsize=1024)
def _secret_name(name: str) -> bool:
    parts = re.split(r"[^a-z0-9]+", name.lower())
    return not _SECRET_NAMES.isdisjoint(parts) or name.lower().replace("-", "_").endswith("api_key")


def _scrubbed(value: Any) -> Any:
    return scrub(value) if isinstance(value, str) else value


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
