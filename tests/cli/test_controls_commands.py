"""The commands that pause, override and reset, against a service that is played by the test."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

import headgate.client
from headgate.cli.app import run
from headgate.cli.fleet import show
from headgate.client import Client
from headgate.config.settings import GateSettings, Mode, ResourceSettings, WorkflowSettings
from headgate.gate import Gate
from headgate.intake.in_force import InForce
from headgate.model.control import Control, ControlKind

PAUSED = {"target": "lane:background", "kind": "pause", "sets": "paused", "limit": None, "rate": None, "depth": None,
          "reason": "night", "by": "ann", "since": "2026-01-31T12:00:00.000Z", "until": None}  # fmt: skip
CHANGE = {"at": "2026-01-31T12:00:00.000Z", "target": "lane:background", "kind": "pause", "by": "ann",
          "reason": "night\x1b[2J", "before": None, "after": "paused", "until": None}  # fmt: skip

Sent = list[tuple[str, str, Any]]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Sent]:
    """Answers everything with this; returns what was sent."""
    monkeypatch.delenv("HEADGATE_URL", raising=False)
    monkeypatch.delenv("HEADGATE_API_KEY", raising=False)

    def play(answer: Any) -> Sent:
        sent: Sent = []

        def handle(request: httpx2.Request) -> httpx2.Response:
            body = json.loads(request.content) if request.content else dict(request.url.params)
            sent.append((request.method, request.url.path, body))
            return httpx2.Response(200, json=answer)

        monkeypatch.setattr(
            headgate.client, "Client", functools.partial(Client, transport=httpx2.MockTransport(handle))
        )
        return sent

    return play


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        (["pause", "lane:background", "--reason", "night", "--for", "30m"],
         ("PUT", "/v1/controls/lane:background", {"pause": True, "reason": "night", "expires": "30m"})),
        (["pause", "workflow:w", "--stop-running", "--reason", "x"],
         ("PUT", "/v1/controls/workflow:w", {"pause": True, "stop_running": True, "reason": "x"})),
        (["resume", "lane:background"],
         ("PUT", "/v1/controls/lane:background", {"pause": False, "reason": "resumed"})),
        (["override", "resource:a", "--limit", "4", "--rate", "100/min", "--reason", "x", "--for", "1h"],
         ("PUT", "/v1/controls/resource:a", {"limit": 4, "rate": "100/min", "reason": "x", "expires": "1h"})),
        (["override", "workflow:w", "--depth", "10", "--reason", "x"],
         ("PUT", "/v1/controls/workflow:w", {"depth": 10, "reason": "x"})),
        (["reset", "resource:a"], ("DELETE", "/v1/controls/resource:a", {"reason": "reset"})),
    ],
)  # fmt: skip
def test_commands_send_what_was_asked(
    service: Callable[[Any], Sent], capsys: pytest.CaptureFixture[str], arguments: list[str], sent: Any
) -> None:
    seen = service({"target": "lane:background", "controls": [PAUSED]})
    assert run(arguments) == 0
    assert seen == [sent]
    assert capsys.readouterr().out == "lane:background: paused\n"


def test_an_override_needs_a_number_and_a_pause_a_reason(service: Callable[[Any], Sent]) -> None:
    seen = service({})
    assert run(["override", "resource:a", "--reason", "x"]) == 2
    assert run(["pause", "resource:a"]) == 2
    assert seen == []


def test_what_is_set_is_listed_with_the_record(
    service: Callable[[Any], Sent], capsys: pytest.CaptureFixture[str]
) -> None:
    seen = service({"controls": [PAUSED], "changes": [CHANGE]})
    assert run(["controls", "lane:background"]) == 0
    assert seen == [("GET", "/v1/controls", {"limit": "10", "target": "lane:background"})]
    shown = capsys.readouterr().out
    assert "lane:background  paused  -         reset  ann  night" in shown
    assert "\x1b" not in shown
    service({"controls": [], "changes": []})
    assert run(["controls"]) == 0
    assert capsys.readouterr().out == "nothing is set by hand\n"


def test_capacity_shows_what_is_set(capsys: pytest.CaptureFixture[str]) -> None:
    gate = Gate(
        GateSettings(
            tools={"github": ResourceSettings(), "trial": ResourceSettings(mode=Mode.SHADOW)},
            workflows={"triage": WorkflowSettings()},
        )
    )
    override = Control("workflow:triage", ControlKind.OVERRIDE, "x", "ann", 0, depth_to=7)
    rate = Control("resource:github", ControlKind.OVERRIDE, "x", "ann", 0, rate_amount=9.0, rate_window_s=60.0)
    gate.outlook.in_force = InForce(
        pauses={"lane:critical": Control("lane:critical", ControlKind.PAUSE, "x", "ann", 0)},
        overrides={"workflow:triage": override, "resource:github": rate},
        thinned={"background": 0.25},
    )
    show(gate.capacity())
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert lines["critical"].rstrip().endswith("paused")
    assert lines["background"].rstrip().endswith("thinned to 25%")
    assert lines["triage"].rstrip().endswith("depth 7")
    assert lines["github"].rstrip().endswith("rate 9 per minute")


def test_a_budget_is_raised_and_shown(service: Callable[[Any], Sent], capsys: pytest.CaptureFixture[str]) -> None:
    used = {"calls": 60, "model_tokens": 41_000, "money": 0.5, "wall_ms": 90_000}
    seen = service({"id": "a1", "usage": used, "budget": {**used, "calls": 80, "wall_ms": None}})
    assert run(["budget", "a1", "--calls", "+20", "--model-tokens", "100k"]) == 0
    assert seen == [("POST", "/v1/runs/a1/budget", {"calls": "+20", "model_tokens": "100k"})]
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["calls", "60", "80"] in lines
    assert ["running", "time", "1", "m", "30", "s", "-"] in lines
    assert run(["budget", "a1"]) == 2


def test_the_fleet_is_drained_and_undrained(
    service: Callable[[Any], Sent], capsys: pytest.CaptureFixture[str]
) -> None:
    one = {"sets": "drained, nothing new comes in", "until": None}
    seen = service({"target": "fleet", "controls": [one], "runs": {"queued": 3, "running": 1, "succeeded": 9}})
    assert run(["drain", "--reason", "new database", "--for", "1h"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "fleet: drained, nothing new comes in",
        "left to finish: 4; look again with headgate capacity",
    ]
    assert run(["undrain"]) == 0
    assert [(method, path, body) for method, path, body in seen if method == "PUT"] == [
        ("PUT", "/v1/controls/fleet", {"pause": True, "reason": "new database", "expires": "1h"}),
        ("PUT", "/v1/controls/fleet", {"pause": False, "reason": "undrained"}),
    ]
