"""`headgate lab`: from a scenario to a verdict, a page, and words about the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.cli.app import run
from headgate.lab.scenario.description import shipped

SCENARIO = """
name: tiny
title: A tiny surge
seconds: 20s
dependencies:
  large: {kind: model, parallel: 6, most: 18, takes: 200ms, reads: 20000, writes: 600}
  desk: {kind: tool, parallel: 6, most: 20, takes: 200ms}
lanes:
  critical: {part: 0.1, deadline: 20s, value: 8}
  standard: {part: 0.9, deadline: 30s, value: 2}
tenants: {count: 4}
calls: {least: 3, most: 5}
traffic: {load: 0.6, changes: [{since: 5, until: 12, times: 8}]}
headgate:
  workers: {slots: 32}
  models: {large: {concurrency: 1..18}}
  tools: {desk: {concurrency: 1..20}}
goals:
  - {measure: goodput, at_least: GOODPUT}
"""
CONFIG = """
models: {large: {concurrency: 1..18}}
tools: {desk: {concurrency: 1..20}}
workflows: {triage: {queue: {depth: 40}}}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(SCENARIO.replace("GOODPUT", "0.2"))
    (tmp_path / "hard.yaml").write_text(SCENARIO.replace("GOODPUT", "1.5"))
    (tmp_path / "late.yaml").write_text(SCENARIO.replace("GOODPUT", "0.2") + "warm_up: 4\n")
    (tmp_path / "headgate.yaml").write_text(CONFIG)


def test_list_names_every_scenario_with_its_goals(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lab", "list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in shipped())
    assert "critical on time ≥ 99.0 %" in out


def test_run_plays_beside_no_limits_and_keeps_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lab", "run", "tiny.yaml", "--jobs", "1", "--out", "out"]) == 0
    out = capsys.readouterr().out
    assert "goodput ≥ 20.0 %" in out
    assert "met" in out
    assert "none" in out
    assert "headgate" in out
    before = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    (tmp_path / "out" / "report.html").unlink()
    assert run(["lab", "report", "out", "--pictures", "svg"]) == 0
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8") == before
    assert (tmp_path / "out" / "timeline-tiny.svg").is_file()


def test_a_configuration_without_the_queue_that_is_asked_does_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (SCENARIO + "behaviours: {asking: 10%}\npeople: {people: {count: 1, takes: 2s}}\n").replace(
        "GOODPUT", "0.2"
    )
    approvals = "  approvals: {people: {}}\ngoals:"
    (tmp_path / "asks.yaml").write_text(text.replace("goals:", approvals))
    assert run(["lab", "run", "asks.yaml", "--config", "headgate.yaml"]) == 1
    told = "headgate.yaml: does not fit scenario tiny: headgate: declares no approvals 'people', which the runs ask"
    assert told in capsys.readouterr().err


def test_a_short_copy_is_said_to_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["lab", "run", "tiny.yaml", "--jobs", "1", "--policy", "headgate", "--seconds"]
    run([*arguments, "5"])
    assert "A short copy of 5 s: results are not those of the whole.\n" in capsys.readouterr().out
    run([*arguments, "200"])
    assert "short copy" not in capsys.readouterr().out.lower()


def test_a_missed_goal_is_exit_code_one_and_the_configuration_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["lab", "run", "hard.yaml", "--jobs", "1", "--policy", "headgate", "--config", "headgate.yaml"]
    assert run(arguments) == 1
    captured = capsys.readouterr()
    assert "MISSED" in captured.out
    assert "headgate missed 1 goal" in captured.err
    assert "Configuration: headgate.yaml." in (tmp_path / "lab-out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("config", "arguments", "words"),
    [
        ("models: {small: {}}\ntools: {desk: {}}", [], "declares no model 'large', which scenario tiny calls"),
        ("models: {small: {}}\ntools: {desk: {}}", [], "(models there: small)"),
        ("models: {large: {}}", [], "declares no tool 'desk'"),
        ("models: {large: {}}", [], "test-your-limits"),
        (f"lanes: {{standard: {{}}}}\n{CONFIG}", [], "has no lane 'critical'"),
        (CONFIG.replace("}}}", "}}, other: {}}"), [], "several workflows (triage, other)"),
        (CONFIG, ["--workflow", "nope"], "declares no workflow 'nope'; it has: triage"),
    ],
)
def test_a_configuration_that_does_not_fit_is_told_with_what_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], config: str, arguments: list[str], words: str
) -> None:
    (tmp_path / "headgate.yaml").write_text(config)
    assert run(["lab", "run", "tiny.yaml", "--config", "headgate.yaml", *arguments]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["lab", "run", "nope"], 1, "there is no scenario 'nope'"),
        (["lab", "run", "nope.yaml"], 1, "nope.yaml: cannot be read"),
        (["lab", "run", "tiny.yaml", "--policy", "nope"], 1, "there is no policy 'nope'"),
        (["lab", "run", "tiny.yaml", "hard.yaml"], 2, "the same name"),
        (["lab", "run", "tiny.yaml", "--workflow", "triage"], 2, "--config"),
        (["lab", "run", "tiny.yaml", "--against", "http://example.org"], 1, "is said: --anywhere\n"),
        (["lab", "run", "late.yaml", "--against", "http://127.0.0.1:9", "--at-most", "4"], 1, "(warm_up: 4)"),
        (["lab", "run", "tiny.yaml", "--against", "http://127.0.0.1:9"], 1, "cannot reach http://127.0.0.1:9"),
        (["lab", "run", "tiny.yaml", "--against", "http://127.0.0.1:9", "--seeds", "2"], 2, "--against"),
        (["lab", "report", "."], 1, "headgate lab run"),
        (["lab", "report", "--pictures", "gif"], 2, "neither png nor svg"),
    ],
)
def test_mistakes_are_told(arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == code
    assert words in capsys.readouterr().err


def test_advise_searches_and_says_what_it_found_or_that_it_found_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = SCENARIO.replace("GOODPUT", "0.2").replace("seconds: 20s", "seconds: 5s").replace("since: 5", "since: 1")
    (tmp_path / "tiny.yaml").write_text(short.replace("until: 12", "until: 2"))
    (tmp_path / "headgate.yaml").write_text(CONFIG.replace("1..18}}", "1}}  # one at a time"))
    arguments = ["lab", "advise", "tiny.yaml", "--config", "headgate.yaml", "--plays", "14", "--jobs", "1"]
    assert run(arguments) == 0
    out = capsys.readouterr().out
    assert "advice: raise `large` concurrency (at most 1)" in out
    assert "-models: {large: {concurrency: 1}}  # one at a time" in out
    assert "+models: {large: {concurrency: 1.." in out
    assert "Gain: " in out
    assert "points (standard error " in out
    assert "changes tried in 14 of 14 plays; stopped because too few plays are left for another step." in out
    diff = (tmp_path / "lab-out" / "advise.diff").read_text()
    assert diff.startswith("--- a/headgate.yaml\n+++ b/headgate.yaml\n")
    assert "# one at a time" in diff


def test_a_search_that_finds_nothing_says_what_it_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "calm.yaml").write_text(
        SCENARIO.replace("times: 8", "times: 1").replace("seconds: 20s", "seconds: 15s")
    )
    (tmp_path / "calm.yaml").write_text((tmp_path / "calm.yaml").read_text().replace("GOODPUT", "0.2"))
    assert run(["lab", "advise", "calm.yaml", "--plays", "14", "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    assert "1 changes tried in 4 of 14 plays; stopped because too few plays are left for another step." in out
    assert "Nothing better found: no change gained 0.5 points over the search seeds." in out
    assert "models.large.concurrency  1..18 to 1..36" in out
    assert not (tmp_path / "lab-out" / "advise.diff").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["lab", "advise", "steady"], 2, "--config"),
        (["lab", "advise", "tiny.yaml", "--workflow", "triage"], 2, "names a workflow"),
        (["lab", "advise", "tiny.yaml", "--plays", "3"], 1, "3 plays are too few"),
        (["lab", "advise", "tiny.yaml", "--config", "nope.yaml"], 1, "nope.yaml: cannot be read"),
    ],
)
def test_advise_tells_mistakes(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == code
    assert words in capsys.readouterr().err
