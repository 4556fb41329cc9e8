"""`headgate init` writes a project that works as it is; `headgate check` tells what is wrong with one."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from headgate.cli.app import run
from headgate.cli.project import STARTER, _without_password, notes
from headgate.config.load import load_settings, parse_settings
from headgate.gate import Gate
from headgate.lab.virtual_time import LoopClock, run_virtual


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_init_writes_a_project_and_says_what_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(STARTER)
    words = capsys.readouterr().out
    assert "headgate serve app:gate" in words
    assert "cd " not in words
    assert run(["check"]) == 0


def test_init_makes_the_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "one/two"]) == 0
    assert (tmp_path / "one" / "two" / "agent.py").exists()
    assert "cd one/two" in capsys.readouterr().out


def test_init_overwrites_nothing_unless_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "agent.py").write_text("mine")
    assert run(["init"]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["agent.py"]
    assert "agent.py already in" in capsys.readouterr().err
    assert run(["init", "--force"]) == 0
    assert (tmp_path / "agent.py").read_text() != "mine"


def test_init_says_so_when_it_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run(["init", "file"]) == 1
    assert "cannot write to file" in capsys.readouterr().err


def test_the_starter_agent_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["init"]) == 0
    monkeypatch.syspath_prepend(str(tmp_path))

    async def main(clock: LoopClock) -> tuple[Any, list[str]]:
        def load(path: Path) -> Gate:
            return Gate(load_settings(path), clock=clock, rng=Random(1), store_mode="inline")

        monkeypatch.setattr(Gate, "load", load)
        gate = importlib.import_module("app").gate
        async with gate:
            admission = await gate.submit("triage", {"title": "hello"})
            result = await gate.result(admission.run.id, timeout_s=30)
            steps = await gate.store.runs.steps(admission.run.id)
        return result, [step.resource for step in steps]

    try:
        result, resources = run_virtual(main)
    finally:
        for name in ("app", "agent"):
            sys.modules.pop(name, None)
    assert result == {"reply": "About 'hello': please see article 1 about 'hello'.", "read": 5}
    assert {"search", "large", "helpdesk"} <= set(resources)


def test_check_tells_every_mistake_and_how_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my.yaml").write_text("tools:\n  github: {concurency: 3, timeout: 5}\n")
    assert run(["check", "my.yaml"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "my.yaml:2:12: unknown key 'concurency'; did you mean 'concurrency'?",
        "my.yaml:2:36: 5 has no unit; write for example 5s",
        "headgate: 2 problems in the configuration",
    ]


def test_check_says_when_there_is_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check"]) == 1
    assert "headgate.yaml: cannot be read: No such file or directory" in capsys.readouterr().err


def test_check_sums_up_without_passwords(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "headgate.yaml").write_text(
        "store: sqlite:///runs.db\ntools: {search: {concurrency: 1..4}}\nworkflows: {triage: {}}\n"
    )
    assert run(["check"]) == 0
    words = capsys.readouterr().out
    assert _without_password("other://ann:hunter2@db/runs") == "other://ann@db/runs"
    for expected in (f"sqlite:///{tmp_path}/runs.db", "search (1..4 at once)", "triage (standard)", "critical 20%"):
        assert expected in words


def test_check_notes_what_deserves_a_second_look() -> None:
    settings = parse_settings(
        "limits: [{per: user, workflow: research, runs: 1/s}]\n"
        "tools: {a: {mode: shadow}, b: {timeout: 1s, queue: {max_age: 1m}}}\n"
    )
    research, shadow, patient = notes(settings)
    assert "'research'" in research
    assert "'a' is in shadow mode" in shadow
    assert "60 s for 'b'" in patient
    assert notes(parse_settings("")) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tools: {a: {concurrency: 4, plain: {slow: 8s, fast: 4s}}}", "its concurrency is fixed"),
        ("tools: {a: {retry: {base: 40s}}}", "never waits for retry.base (40 s): retry.max_delay is 30 s"),
        ("tools: {a: {queue: {max_age: 10s, max_age_down: 20s}}}", "queue.max_age (10 s) ends every wait"),
        (
            "tools: {a: {breaker: null, pause_when: {breaker: open, pauses: [lane:background]}}}",
            "pause_when breaker: open, but no breaker",
        ),
        ("workflows: {a: {when_full: degrade}}", "has no degrade ladder"),
    ],
)
def test_check_notes_settings_that_cannot_do_anything(text: str, words: str) -> None:
    (note,) = notes(parse_settings(text))
    assert words in note
    assert "'a'" in note


def test_what_stands_in_no_file_is_no_problem_in_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lab", "run", "surgee"]) == 1
    words = capsys.readouterr().err
    assert words.startswith("headgate: there is no scenario 'surgee'")
    assert "in the configuration" not in words
