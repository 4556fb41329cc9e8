"""A decision is one line that says whose, how full, what and why; no secret and no line break gets through."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from headgate.clock import REAL_CLOCK
from headgate.observe.bus import Event, EventBus
from headgate.observe.events import CATALOGUE
from headgate.observe.log import (
    REDACTED,
    DecisionLog,
    JsonFormatter,
    TextFormatter,
    decision_line,
    log_to,
    redact,
    scrub,
)

AT_MS = 1_700_000_000_123


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    one = logging.getLogger("test.decisions")
    one.setLevel(logging.INFO)
    one.propagate = False
    yield one
    for handler in list(one.handlers):
        one.removeHandler(handler)


def written(logger: logging.Logger, formatter: logging.Formatter, name: str, **fields: object) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger.addHandler(handler)
    DecisionLog(logger)(Event(name, AT_MS, fields))
    return stream.getvalue()


def test_a_refused_call_reads_as_documented() -> None:
    line = decision_line(
        "call_refused",
        {"reason": "queue_full", "resource": "github", "queue_depth": 119, "queue_limit": 120, "inflight": 8,
         "limit": 8, "p95_ms": 4820, "error_rate": 0.03, "retry_after_ms": 15000},
    )  # fmt: skip
    assert line == (
        "resource=github queue_depth=119/120 inflight=8/8 p95_ms=4820 error_rate=0.03 admission=reject "
        "reason=queue_full retry_after_ms=15000"
    )


@pytest.mark.parametrize(
    ("name", "fields", "line"),
    [
        (
            "run_admitted",
            {"workflow": "triage", "tenant": "acme", "queue_depth": 3},
            "workflow=triage tenant=acme admission=accept queue_depth=3",
        ),
        (
            "run_finished",
            {"run_id": "r1", "outcome": "succeeded", "detail": None},
            "run_id=r1 event=run_finished outcome=succeeded",
        ),
        (
            "limit_changed",
            {"resource": "m", "old": 8, "new": 5.25, "reason": "timeout"},
            "resource=m event=limit_changed reason=timeout old=8 new=5.25",
        ),
        ("run_admitted", {"degraded": True}, "admission=accept degraded=true"),
        ("store_failed", {"reason": "disk full"}, 'event=store_failed reason="disk full"'),
        ("run_refused", {"tenant": "a\nadmission=accept"}, 'tenant="a\\nadmission=accept" admission=reject'),
        ("run_refused", {"tenant": "a=b"}, 'tenant="a=b" admission=reject'),
        ("run_refused", {"tenant": ""}, 'tenant="" admission=reject'),
        ("run_refused", {"tenant": "\x1b[2J"}, 'tenant="\\u001b[2J" admission=reject'),
    ],
)
def test_lines(name: str, fields: dict[str, object], line: str) -> None:
    assert decision_line(name, fields) == line


def test_text_has_time_level_and_logger(logger: logging.Logger) -> None:
    line = written(logger, TextFormatter(), "run_refused", workflow="triage", reason="queue_full")
    assert line == (
        "2023-11-14T22:13:20.123Z INFO test.decisions workflow=triage admission=reject reason=queue_full\n"
    )


def test_json_has_the_fields_as_they_are(logger: logging.Logger) -> None:
    line = written(logger, JsonFormatter(), "breaker_changed", resource="github", old="closed", new="open")
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.123Z",
        "level": "WARNING",
        "logger": "test.decisions",
        "event": "breaker_changed",
        "resource": "github",
        "old": "closed",
        "new": "open",
    }
    assert line.count("\n") == 1


def test_only_decisions_are_logged(logger: logging.Logger) -> None:
    quiet = [name for name, spec in CATALOGUE.items() if not spec.decision]
    assert "call_started" in quiet
    for name in quiet:
        assert written(logger, TextFormatter(), name, resource="github") == ""


def test_nothing_is_formatted_below_the_level(logger: logging.Logger) -> None:
    logger.setLevel(logging.WARNING)
    assert written(logger, TextFormatter(), "run_admitted", workflow="triage") == ""
    assert "ERROR" in written(logger, TextFormatter(), "store_failed", reason="disk full")


@pytest.mark.parametrize(
    "name", ["password", "api_key", "API-Key", "authorization", "aws_secret", "auth_token", "apikey"]
)
def test_names_that_say_secret_are_redacted(name: str) -> None:
    assert redact({name: "x", "model_tokens": 5, "run_id": "r"}) == {name: REDACTED, "model_tokens": 5, "run_id": "r"}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("connect postgresql://ann:hunter2@db/x failed", f"connect postgresql://ann:{REDACTED}@db/x failed"),
        ("Authorization: Bearer abc.def", f"Authorization: Bearer {REDACTED}"),
        ("key sk-proj-abcdefghijklmnop was refused", f"key {REDACTED} was refused"),
        ("hg_0123456789abcdefghij", REDACTED),
        ("ghp_0123456789abcdefghijABCD", REDACTED),
        ("AKIAIOSFODNN7EXAMPLE", REDACTED),
        ("queue_full at http://host:80/a@b", "queue_full at http://host:80/a@b"),
    ],
)
def test_shapes_that_say_secret_are_redacted(text: str, left: str) -> None:
    assert scrub(text) == left


def test_exceptions_are_scrubbed_too(logger: logging.Logger) -> None:
    for formatter in (TextFormatter(), JsonFormatter()):
        record = logger.makeRecord("headgate", logging.ERROR, "f", 1, "failed", (), None)
        error = RuntimeError("Bearer abcdef")
        record.exc_info = (RuntimeError, error, None)
        assert "abcdef" not in formatter.format(record)
        assert "RuntimeError" in formatter.format(record)


def test_the_commands_send_everything_of_headgate_to_one_stream() -> None:
    root = logging.getLogger("headgate")
    before = (list(root.handlers), root.level, root.propagate)
    stream = io.StringIO()
    try:
        handler = log_to(stream, style="json")
        bus = EventBus(REAL_CLOCK)
        bus.subscribe(DecisionLog())
        bus.emit("run_refused", workflow="triage", reason="queue_full")
        logging.getLogger("headgate.server").warning("hello")
        root.removeHandler(handler)
    finally:
        root.handlers[:], root.level, root.propagate = before
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["event"], first["reason"]) == ("run_refused", "queue_full")
    assert second["message"] == "hello"


def test_a_subscriber_that_fails_is_dropped_and_the_others_are_told(caplog: pytest.LogCaptureFixture) -> None:
    bus, heard = EventBus(REAL_CLOCK), list[str]()

    def broken(event: Event) -> None:
        raise RuntimeError(event.name)

    bus.subscribe(broken)
    end = bus.subscribe(lambda event: heard.append(event.name))
    with caplog.at_level(logging.ERROR, logger="headgate.observe"):
        bus.emit("run_woken")
        bus.emit("run_woken")
    assert heard == ["run_woken", "run_woken"]
    assert len(caplog.records) == 1
    end()
    assert not bus.active
