"""The commands that talk to a service, against a service that is played by the test."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

import headgate.client
from headgate.cli.app import run
from headgate.client import Client
from headgate.config.load import parse_settings
from headgate.gate import Gate
from headgate.intake.own_ceilings import beyond
from headgate.model.cost import CostHint
from headgate.policy.run_budget import Ceiling
from headgate.server.answers import refused

ID = "01a1fa59-0ded-788d-bd03-6f2f9932ce95"
SUMMARY: dict[str, Any] = {
    "id": ID, "workflow": "triage", "tenant": "acme", "user": "ann", "lane": "interactive", "state": "queued",
    "reason": None, "detail": None, "degraded": False, "cancel_requested": False,
    "submitted_at": "2026-01-31T12:00:00.123Z", "deadline": "2026-01-31T12:02:00.123Z", "replay_of": None,
    "usage": {"calls": 2, "model_tokens": 1500},
}  # fmt: skip
STEP = {"seq": 0, "resource": "search", "function": "agent.search", "effect": "idempotent", "state": "done",
        "queued_ms": 0, "ran_ms": 153, "tries": 1, "degraded": None}  # fmt: skip
DETAIL: dict[str, Any] = {
    **SUMMARY, "position": 3, "eta_s": 12.5, "steps": [STEP], "input": {"title": "x"}, "result": None,
    "timings": {"queued_ms": 65_000, "ran_ms": None, "call_queued_ms": 0, "model_ms": 0, "tool_ms": 153},
}  # fmt: skip
ACCEPTED = {
    "id": ID,
    "state": "queued",
    "position": 0,
    "eta_s": 0.01,
    "lane": "interactive",
    "created": True,
    "degraded": False,
}

Answer = tuple[int, Any]
Serve = Callable[[dict[str, Answer]], list[httpx2.Request]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Answers by ``"METHOD path"``; returns the list that requests are noted in."""
    monkeypatch.delenv("HEADGATE_URL", raising=False)
    monkeypatch.delenv("HEADGATE_API_KEY", raising=False)

    def play(answers: dict[str, Answer]) -> list[httpx2.Request]:
        seen: list[httpx2.Request] = []

        def handle(request: httpx2.Request) -> httpx2.Response:
            seen.append(request)
            status, body = answers[f"{request.method} {request.url.path}"]
            content = body if isinstance(body, str) else json.dumps(body)
            return httpx2.Response(status, content=content.encode())

        playing = functools.partial(Client, transport=httpx2.MockTransport(handle))
        monkeypatch.setattr(headgate.client, "Client", playing)
        return seen

    return play


def test_submit_sends_what_was_asked_and_shows_the_place(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    seen = serve({"POST /v1/runs": (202, {**ACCEPTED, "position": 7, "eta_s": 200})})
    options = ["--tenant", "acme", "--user", "ann", "--lane", "standard", "--deadline", "2m", "--key", "k1"]
    assert run(["submit", "triage", '{"title": "x"}', *options, "--api-key", "hg_x"]) == 0
    (request,) = seen
    assert json.loads(request.content) == {
        "workflow": "triage", "input": {"title": "x"}, "tenant": "acme", "user": "ann", "lane": "standard",
        "deadline": "2m",
    }  # fmt: skip
    assert request.headers["idempotency-key"] == "k1"
    assert request.headers["authorization"] == "Bearer hg_x"
    assert str(request.url) == "http://127.0.0.1:8400/v1/runs"
    assert capsys.readouterr().out == f"{ID}, queued, lane interactive, 7 ahead of it, starts in about 3 m 20 s\n"


def test_where_and_who_come_from_the_environment(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = serve({"POST /v1/runs": (200, {**ACCEPTED, "created": False})})
    monkeypatch.setenv("HEADGATE_URL", "http://gate.example:9000")
    monkeypatch.setenv("HEADGATE_API_KEY", "hg_env")
    assert run(["submit", "triage"]) == 0
    assert str(seen[0].url) == "http://gate.example:9000/v1/runs"
    assert seen[0].headers["authorization"] == "Bearer hg_env"
    assert json.loads(seen[0].content)["input"] is None


def test_a_refusal_is_one_line_with_advice_and_code_1(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    problem = {"reason": "queue_full", "scope": "workflow:triage", "limit": 50, "used": 50, "retry_after_ms": 12_000,
               "detail": "the queue of triage is full"}  # fmt: skip
    serve({"POST /v1/runs": (429, problem)})
    assert run(["submit", "triage", "1"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "headgate: refused: workflow:triage: queue_full (50/50), retry after 12.0 s",
        "the queue of triage is full",
    ]


def test_input_from_a_file_and_from_standard_input(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = serve({"POST /v1/runs": (202, ACCEPTED)})
    (tmp_path / "in.json").write_text('{"from": "file"}')
    assert run(["submit", "triage", f"@{tmp_path / 'in.json'}"]) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO('["from", "stdin"]'))
    assert run(["submit", "triage", "-"]) == 0
    assert [json.loads(request.content)["input"] for request in seen] == [{"from": "file"}, ["from", "stdin"]]


def test_what_a_run_will_take_is_sent(serve: Serve) -> None:
    seen = serve({"POST /v1/runs": (202, ACCEPTED)})
    assert run(["submit", "triage", "1", "--cost", "model_tokens=12k", "--cost", "money=0.3"]) == 0
    assert json.loads(seen[0].content)["cost"] == {"model_tokens": 12000, "money": 0.3}


def test_what_states_more_than_one_run_may_use_is_not_worth_a_retry(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = beyond("triage", Ceiling(calls=20), CostHint(calls=30))
    assert refusal is not None
    answer = refused(refusal)
    seen = serve({"POST /v1/runs": (answer.status, answer.body.decode())})
    assert run(["submit", "triage", "1", "--cost", "calls=30"]) == 1
    assert len(seen) == 1
    (words,) = capsys.readouterr().err.splitlines()
    assert words.startswith("headgate: it states 30 calls, and one run of triage may use 20")
    assert words.endswith("(HTTP 422)")


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit", "triage", "{no json"],
        ["submit", "triage", "[" * 100_000],
        ["submit", "triage", "@nowhere.json"],
        ["submit", "triage", "1", "--deadline", "soon"],
        ["submit", "triage", "1", "--cost", "model_tokens"],
        ["submit", "triage", "1", "--cost", "model_tokens=0"],
        ["submit", "triage", "1", "--cost", "wall=3"],
        ["submit", "triage", "1", "--cost", "money=1", "--cost", "money=2"],
        ["override", "tenant:acme", "--weight", "nan", "--reason", "x"],
        ["override", "tenant:acme", "--weight", "inf", "--reason", "x"],
        ["override", "tenant:acme", "--weight", "0", "--reason", "x"],
        ["submit"],
        ["runs", "--state", "happy"],
        ["runs", "--limit", "0"],
        ["replay", ID, "--assume", "perhaps"],
        ["run", ID, "--url", "ftp://example"],
        ["run", ID, "--url", "http://a b:c"],
    ],
)
def test_wrong_usage_is_code_2_and_sends_nothing(serve: Serve, arguments: list[str]) -> None:
    seen = serve({})
    assert run(arguments) == 2
    assert seen == []


def test_waiting_ends_with_the_result_and_the_code_of_the_end(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = {**DETAIL, "state": "succeeded", "result": {"reply": "done"}, "timings": {"ran_ms": 1500}}
    answers: dict[str, Answer] = {
        "POST /v1/runs": (202, ACCEPTED),
        f"GET /v1/runs/{ID}/events": (200, f"event: end\ndata: {json.dumps({'id': ID, 'state': 'succeeded'})}\n\n"),
        f"GET /v1/runs/{ID}": (200, ended),
    }
    serve(answers)
    assert run(["submit", "triage", "1", "--wait"]) == 0
    shown = capsys.readouterr().out
    assert "next in line, starts at once" in shown
    assert "succeeded after 1.5 s" in shown
    assert '"reply": "done"' in shown
    failed = {**ended, "state": "failed", "reason": "error", "detail": "KeyError: 'x'\nagent.py:7", "result": None}
    serve({**answers, f"GET /v1/runs/{ID}": (200, failed)})
    assert run(["submit", "triage", "1", "--wait"]) == 1
    assert "headgate: error: KeyError: 'x'\nagent.py:7" in capsys.readouterr().err
    assert run(["submit", "triage", "1", "--wait", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["state"] == "failed"


def test_lists_show_no_control_characters_and_read_no_markup(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    nasty = {**SUMMARY, "state": "failed", "reason": "error", "detail": "\x1b[2J[red]boom[/red]\nsecond line"}
    seen = serve({"GET /v1/runs": (200, {"runs": [nasty], "next": None})})
    assert run(["runs", "--state", "failed", "--workflow", "triage"]) == 0
    shown = capsys.readouterr().out
    assert ID in shown
    assert "�[2J[red]boom[/red]" in shown
    assert "\x1b" not in shown
    assert "second line" not in shown
    assert seen[0].url.params.get_list("state") == ["failed"]
    assert seen[0].url.params["workflow"] == "triage"


def test_runs_filters_and_json(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    seen = serve({"GET /v1/runs": (200, {"runs": [SUMMARY], "next": None})})
    assert run(["runs", "--state", "queued", "--state", "running", "--tenant", "acme", "--limit", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [SUMMARY]
    assert seen[0].url.params.get_list("state") == ["queued", "running"]
    assert (seen[0].url.params["tenant"], seen[0].url.params["limit"]) == ("acme", "3")
    serve({"GET /v1/runs": (200, {"runs": [], "next": None})})
    assert run(["runs"]) == 0
    assert capsys.readouterr().out == "no runs\n"


def test_one_run_shows_place_times_and_steps(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve({f"GET /v1/runs/{ID}": (200, DETAIL)})
    assert run(["run", ID]) == 0
    shown = capsys.readouterr().out
    for expected in (
        "3 ahead of it, starts in about 12.5 s",
        "acme / ann",
        "1 m 5 s",
        "tools 153 ms",
        "2 calls, 1500 model tokens",
        "agent.search",
    ):
        assert expected in shown
    assert run(["run", ID, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == DETAIL


def test_following_tells_each_change_once(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    told = [
        {"state": "queued", "position": 1, "eta_s": None, "steps": []},
        {"state": "running", "reason": None, "steps": [STEP]},
        {"state": "succeeded", "reason": "succeeded", "steps": [STEP]},
    ]
    stream = "".join(f"event: update\ndata: {json.dumps(event)}\n\n" for event in told)
    serve({f"GET /v1/runs/{ID}/events": (200, stream), f"GET /v1/runs/{ID}": (200, {**DETAIL, "state": "succeeded"})})
    assert run(["run", ID, "--follow"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == ["queued, 1 ahead of it", "  step 0: search done, 153 ms", "running", "succeeded"]


def test_an_unknown_run_is_one_line(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve({"GET /v1/runs/nope": (404, {"title": "No such run", "detail": "there is no run 'nope'"})})
    assert run(["run", "nope"]) == 1
    assert capsys.readouterr().err == "headgate: there is no run 'nope' (HTTP 404)\n"


@pytest.mark.parametrize(
    ("state", "code", "words"),
    [("cancelled", 0, "cancelled"), ("running", 0, "was asked to stop"), ("succeeded", 1, "had already ended")],
)
def test_cancel_says_what_became_of_it(
    serve: Serve, capsys: pytest.CaptureFixture[str], state: str, code: int, words: str
) -> None:
    serve({f"POST /v1/runs/{ID}/cancel": (200, {**DETAIL, "state": state, "reason": state})})
    assert run(["cancel", ID]) == code
    shown = capsys.readouterr()
    assert words in shown.out + shown.err


def test_replay_passes_the_assumption_on(serve: Serve) -> None:
    seen = serve({f"POST /v1/runs/{ID}/replay": (202, {**ACCEPTED, "replay_of": ID})})
    assert run(["replay", ID, "--assume", "not_done"]) == 0
    assert json.loads(seen[0].content) == {"assume": "not_done"}


def test_approvals_are_listed_and_decided(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    asked = {"id": "a1", "queue": "replies", "run_id": ID, "tenant": "acme", "state": "waiting",
             "payload": {"draft": "hi"}, "expires_at": "2026-01-31T16:00:00.000Z", "decided_by": None,
             "lane": "critical", "deadline_at": "2026-01-31T12:00:00.000Z"}  # fmt: skip
    seen = serve(
        {
            "GET /v1/approvals": (200, {"approvals": [asked]}),
            "POST /v1/approvals/a1": (200, {**asked, "state": "approved", "applied": True}),
            "POST /v1/approvals/a2": (200, {**asked, "state": "approved", "decided_by": "bob", "applied": False}),
        }
    )
    assert run(["approvals", "list", "--queue", "replies"]) == 0
    shown = capsys.readouterr().out
    assert '{"draft": "hi"}' in shown
    assert "critical" in shown
    assert "12:00" in shown, "it shows the deadline of the run, which comes before the question expires"
    assert run(["approvals", "approve", "a1", "--note", "fine"]) == 0
    assert json.loads(seen[1].content) == {"decision": "approve", "note": "fine"}
    assert run(["approvals", "deny", "a2"]) == 1
    assert "a2 was already approved by bob" in capsys.readouterr().err


def test_capacity_shows_the_real_report(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    settings = parse_settings(
        "budget: {runs: 100, memory: 8GiB, model_tokens: 2M/min}\n"
        "limits: [{per: user, workflow: triage, runs: 10/min}]\n"
        "tools: {github: {concurrency: 1..16, queue: {depth: 120}}}\nworkflows: {triage: {queue: {depth: 200}}}\n"
        "approvals: {replies: {depth: 40, max_age: 30m, on_expiry: approve}}\n"
    )
    report = json.loads(json.dumps(Gate(settings).capacity()))
    serve({"GET /v1/capacity": (200, report)})
    assert run(["capacity"]) == 0
    shown = capsys.readouterr().out
    for expected in (
        "serving: pressure 0%",
        "0/200",
        "0/120",
        "1..16",
        "10 runs per minute",
        "8 GiB",
        "2,000,000 per minute",
        "replies",
        "0/40",
        "30 m",
        "approve",
    ):
        assert expected in shown
    assert run(["capacity", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == report


def test_a_service_that_is_not_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("connection refused", request=request)

    playing = functools.partial(Client, transport=httpx2.MockTransport(refuse))
    monkeypatch.setattr(headgate.client, "Client", playing)
    assert run(["runs", "--url", "http://127.0.0.1:1"]) == 1
    assert capsys.readouterr().err == (
        "headgate: cannot reach http://127.0.0.1:1: connection refused; is `headgate serve` running there?\n"
    )


def test_older_runs_are_pages(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    page = {"runs": [SUMMARY], "dead": [SUMMARY], "next": ID}
    seen = serve({"GET /v1/runs": (200, page), "GET /v1/dead": (200, page)})
    for command in (["runs"], ["dead", "list"]):
        assert run([*command, "--limit", "1", "--before", "older"]) == 0
        assert f"older ones: --before {ID}" in capsys.readouterr().err
        assert seen[-1].url.params["before"] == "older"


def test_a_missing_key_says_where_it_belongs(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve({"GET /v1/runs": (401, {"detail": "send an API key"})})
    assert run(["runs"]) == 1
    assert "HEADGATE_API_KEY" in capsys.readouterr().err


def test_input_that_json_cannot_carry_is_one_clean_line(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve({}) == []
    assert run(["submit", "triage", "NaN"]) == 1
    assert capsys.readouterr().err.startswith("headgate: body: cannot be sent as JSON")
