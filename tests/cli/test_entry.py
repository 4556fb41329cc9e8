"""The command's outermost layer: friendly without extras, clean errors, and processes that end in order."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, cast

import pytest

from headgate.cli import processes
from headgate.cli.app import app, run
from headgate.cli.entry import main
from headgate.cli.screen import clean, duration, first_line, moment
from headgate.config.load import parse_settings
from headgate.gate import Gate
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.observe.bus import Event


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_it_says_what_to_install(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("headgate.cli.") and name != "headgate.cli.entry"]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    assert capsys.readouterr().err.splitlines() == [
        f"headgate: the command line needs '{missing}', which is not installed.",
        'Install it with: pip install "headgate[server]"',
    ]


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    commands = [[command.callback.__name__] for command in app.registered_commands if command.callback]
    groups = [[group.name, "list"] for group in app.registered_groups if group.name]
    assert len(commands) >= 12
    for command in [*commands, *groups]:
        words = [word.replace("show_version", "version") for word in command]
        assert run([*words, "--help"]) == 0, words
        assert "Usage: headgate" in capsys.readouterr().out


def test_version_and_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version"]) == 0
    assert capsys.readouterr().out.startswith("headgate ")
    assert run(["no-such-command"]) == 2
    assert run(["serve", "app"]) == 2
    assert run(["serve", "app:gate", "--port", "99999"]) == 2


class Draining:
    """The part of a gate that draining needs; its running work ends when the test says so."""

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.drained = False

    async def drain(self) -> None:
        await self.done.wait()
        self.drained = True


def _drained(gate: Draining, signals: processes.StopSignals) -> Coroutine[Any, Any, None]:
    return processes._drain(cast("Gate", gate), signals)


def test_the_first_signal_drains_to_the_end() -> None:
    async def scene(clock: LoopClock) -> bool:
        gate, signals = Draining(), processes.StopSignals()
        signals.tell()
        assert signals.asked.is_set()
        draining = asyncio.create_task(_drained(gate, signals))
        await asyncio.sleep(5)
        assert not draining.done()
        gate.done.set()
        await draining
        return gate.drained

    assert run_virtual(scene)


def test_the_second_signal_stops_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    async def scene(clock: LoopClock) -> bool:
        gate, signals = Draining(), processes.StopSignals()
        signals.tell()
        draining = asyncio.create_task(_drained(gate, signals))
        await asyncio.sleep(1)
        signals.tell()
        await draining
        return gate.drained

    assert not run_virtual(scene)
    assert "stopping at once" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("running", "words"),
    [
        (0, "draining: nothing is running here"),
        (1, "draining: 1 run has 20 s to reach the next step; Ctrl-C again stops at once"),
        (3, "draining: 3 runs have 20 s to reach the next step; Ctrl-C again stops at once"),
    ],
)
def test_draining_says_what_it_does(running: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    worker = SimpleNamespace(statistics=lambda: SimpleNamespace(running=running))
    gate = cast("Gate", SimpleNamespace(worker=worker, settings=Gate().settings))
    processes._tell_draining(gate, Event("drain_began", 0, {}))
    assert capsys.readouterr().err == f"headgate: {words}\n"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "0 ms"), (0.34, "340 ms"), (0.9999, "1 s"), (12.5, "12.5 s"), (59.9, "59.9 s"), (59.97, "1 m"),
     (60.0, "1 m"), (200, "3 m 20 s"), (3599.6, "1 h"), (7500, "2 h 5 m"), (273_600, "3 d 4 h"), (None, None)],
)  # fmt: skip
def test_durations(seconds: float | None, words: str | None) -> None:
    assert duration(seconds) == words


def test_texts() -> None:
    assert (clean(None), clean(""), clean("a\x1b[2J\nb\u202e")) == ("-", "-", "a�[2J\nb�")
    assert (first_line("one\ntwo"), first_line(None), first_line("x" * 200, most=5)) == ("one", None, "xxxx…")
    assert (moment("2026-01-31T12:00:00.123Z"), moment(None)) == ("2026-01-31 12:00:00", None)


def test_the_version_is_also_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("headgate ")


def test_a_workflow_that_nobody_wrote_is_pointed_out(capsys: pytest.CaptureFixture[str]) -> None:
    gate = Gate(parse_settings("workflows: {triage: {}, report: {}}"))
    processes._warn_of_gaps(gate, "app:gate")
    assert "app:gate has no workflows; nothing is carried out here" in capsys.readouterr().err

    @gate.workflow("report")
    @gate.workflow("triag")
    async def report(run: object, value: object) -> object:
        return value

    processes._warn_of_gaps(gate, "app:gate")
    assert capsys.readouterr().err == (
        "headgate: warning: app:gate has no @gate.workflow('triage'), which the configuration names; "
        "did you mean 'triag' there?\n"
    )
