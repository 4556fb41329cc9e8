"""``headgate dead`` against a service in this process: what is sent, what is shown, how bulk requests go on."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

import headgate.client
from headgate.cli import dead
from headgate.cli.app import run
from headgate.client import Client

ID = "019a0000-0000-7000-8000-000000000001"
NEXT = "019a0000-0000-7000-8000-000000000002"
SUMMARY = {
    "id": ID, "workflow": "triage", "tenant": "acme", "lane": "interactive", "state": "failed", "reason": "error",
    "detail": "it broke", "submitted_at": "2026-01-31T12:00:00.123Z",
}  # fmt: skip
BATCH: dict[str, Any] = {"matched": 1, "dry_run": False, "ids": [], "skipped": [], "stopped": None, "next": None}

Play = Callable[..., list[httpx2.Request]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """Gives these answers, one after the other; returns the list that requests are noted in."""
    monkeypatch.delenv("HEADGATE_URL", raising=False)
    monkeypatch.delenv("HEADGATE_API_KEY", raising=False)

    def answer(*answers: dict[str, Any]) -> list[httpx2.Request]:
        seen: list[httpx2.Request] = []

        def handle(request: httpx2.Request) -> httpx2.Response:
            seen.append(request)
            return httpx2.Response(200, content=json.dumps(answers[len(seen) - 1]).encode())

        playing = functools.partial(Client, transport=httpx2.MockTransport(handle))
        monkeypatch.setattr(headgate.client, "Client", playing)
        return seen

    return answer


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the command waited, without waiting."""
    waited: list[float] = []
    monkeypatch.setattr(dead, "_pause", waited.append)
    return waited


@pytest.mark.parametrize("words", [["dead"], ["dead", "list"]])
def test_the_list_is_also_what_no_command_shows(
    words: list[str], play: Play, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = play({"dead": [SUMMARY], "next": None})
    monkeypatch.setenv("HEADGATE_URL", "http://elsewhere:1")
    assert run(words) == 0
    assert "it broke" in capsys.readouterr().out
    assert (seen[0].url.path, seen[0].url.host) == ("/v1/dead", "elsewhere")


def test_the_list_can_be_narrowed_and_show_the_record(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    line = {"at": "2026-01-31T12:00:00.123Z", "action": "purge", "run_id": ID, "workflow": "triage", "tenant": "acme",
            "cause": "error", "by": "ann", "why": "no use"}  # fmt: skip
    seen = play({"dead": [], "next": None, "record": [line]})
    words = ["--workflow", "triage", "--reason", "error", "--reason", "shed", "--older-than", "1h", "--since", "1d"]
    assert run(["dead", "list", *words, "--record", "--resolved"]) == 0
    params = seen[0].url.params
    assert params.get_list("reason") == ["error", "shed"]
    assert {name: params[name] for name in ("workflow", "older_than", "since", "record", "resolved")} == {
        "workflow": "triage", "older_than": "1h", "since": "1d", "record": "true", "resolved": "true",
    }  # fmt: skip
    shown = capsys.readouterr().out
    assert "no dead letters" in shown
    assert "no use" in shown


def test_one_is_shown_with_its_history_and_replays(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    history = {"at": "2026-01-31T12:00:01.000Z", "start": 1, "owner": "w1", "state": "suspended",
               "reason": "retry_wait", "detail": "the provider was full"}  # fmt: skip
    play({**SUMMARY, "steps": [], "input": {"a": 1}, "history": [history], "replays": [{**SUMMARY, "id": NEXT}]})
    assert run(["dead", "show", ID]) == 0
    shown = capsys.readouterr().out
    assert "the provider was full" in shown
    assert NEXT in shown


def test_a_bulk_replay_goes_on_batch_after_batch(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    left = {"id": NEXT, "reason": "unknown_outcome", "detail": "say what became of it"}
    seen = play(
        {**BATCH, "replayed": [{"id": ID, "replay": NEXT}], "next": ID},
        {**BATCH, "replayed": [], "skipped": [left]},
    )
    assert run(["dead", "replay", "--reason", "error", "--tenant", "acme", "--include-expired"]) == 0
    bodies = [json.loads(request.content) for request in seen]
    assert bodies[0] == {
        "include_expired": True, "reason": ["error"], "tenant": "acme", "limit": 100, "dry_run": False,
    }  # fmt: skip
    assert bodies[1]["after"] == ID
    told = capsys.readouterr()
    assert told.out.splitlines() == [f"replayed {ID} as {NEXT}", "1 replayed, 1 left"]
    assert "unknown_outcome" in told.err


def test_its_own_rate_is_waited_for(play: Play, waits: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    paced = {"reason": "rate_limited", "scope": "replays", "detail": "later", "retry_after_ms": 6000}
    seen = play(
        {**BATCH, "replayed": [{"id": ID, "replay": NEXT}], "stopped": paced, "next": ID},
        {**BATCH, "replayed": [{"id": NEXT, "replay": ID}]},
    )
    assert run(["dead", "replay", "--all", "--rate", "10/min"]) == 0
    assert waits == [6.0]
    assert json.loads(seen[1].content)["rate"] == "10/min"
    assert capsys.readouterr().out.endswith("2 replayed, 0 left\n")


def test_any_other_refusal_stops_it_and_it_says_how_far_it_came(
    play: Play, waits: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    full = {"reason": "queue_full", "scope": "workflow:triage", "detail": "the queue holds 5", "retry_after_ms": 900}
    play({**BATCH, "replayed": [{"id": ID, "replay": NEXT}], "stopped": full, "next": ID})
    assert run(["dead", "replay", "--all"]) == 1
    told = capsys.readouterr()
    assert told.out.endswith(f"1 replayed, 0 left; go on after {ID}\n")
    assert "queue_full (workflow:triage)" in told.err
    assert waits == []


def test_a_dry_run_only_says_which(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    seen = play({**BATCH, "dry_run": True, "ids": [ID], "purged": []})
    assert run(["dead", "purge", ID, "--why", "no use", "--dry-run"]) == 0
    assert json.loads(seen[0].content) == {"why": "no use", "ids": [ID], "limit": 100, "dry_run": True}
    assert capsys.readouterr().out.splitlines() == [f"would be purged {ID}", "1 would be purged, 0 left"]


def test_dismissing_says_what_it_did_also_to_programs(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    play({**BATCH, "dismissed": [{"id": ID}]})
    assert run(["dead", "dismiss", ID, "--why", "seen", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "dismissed": [{"id": ID}], "skipped": [], "stopped": None, "next": None,
    }  # fmt: skip


def test_purging_everything_has_to_be_said(play: Play) -> None:
    seen = play({**BATCH, "purged": []})
    assert run(["dead", "purge", "--why", "a new start", "--all"]) == 0
    assert "ids" not in json.loads(seen[0].content)


def test_at_most_bounds_a_replay(play: Play) -> None:
    seen = play({**BATCH, "replayed": [{"id": ID, "replay": NEXT}], "next": ID})
    assert run(["dead", "replay", "--all", "--at-most", "1"]) == 0
    assert [json.loads(request.content)["limit"] for request in seen] == [1]


@pytest.mark.parametrize(
    "words",
    [
        ["purge", "--why", "all of them"],
        ["purge", ID],
        ["replay", "--rate", "often"],
        ["replay", "--older-than", "long"],
        ["list", "--since", "then"],
    ],
)
def test_wrong_usage_sends_nothing(words: list[str], play: Play) -> None:
    seen = play()
    assert run(["dead", *words]) == 2
    assert seen == []
