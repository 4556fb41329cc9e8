"""All shipped scenarios: they can be played, repeat exactly, and cannot be survived without limits."""

from __future__ import annotations

import builtins
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from functools import reduce
from operator import add

import pytest

from headgate.lab.contest.rivals.facts import facts_of
from headgate.lab.scenario.bound import bound
from headgate.lab.scenario.description import load_scenario, shipped
from headgate.lab.scenario.play import play, unlimited
from headgate.lab.scenario.scores import score
from headgate.lab.scenario.shorten import shortened
from headgate.lab.scenario.traffic import wishes

SECONDS = 24.0
LARGE = {"surge-outage": 0.1, "noisy-tenant": 0.5, "background-flood": 0.4}
"""Scenarios with much traffic, and what part of it is enough here."""
ODD = ("looping-agent", "recursive-agents", "approval-backlog", "rolling-restart")

ONE_PLAY = """
from headgate.lab.scenario.description import load_scenario
from headgate.lab.scenario.play import play
from headgate.lab.scenario.shorten import shortened
for name in {names}:
    print(name, play(shortened(load_scenario(name), {seconds}), seed=7).event_hash)
"""


@pytest.mark.parametrize("name", list(shipped()))
def test_a_short_copy_plays_to_its_end(name: str) -> None:
    scenario = shortened(load_scenario(name), SECONDS, load=LARGE.get(name, 1.0))
    played = play(scenario, seed=1)
    wanted = wishes(scenario, 1)
    assert Counter(fate.wish.number for fate in played.fates) == Counter(wish.number for wish in wanted)
    assert all(fate.finished_s is not None for fate in played.fates if fate.admitted)
    could = bound(scenario, wanted)
    value = sum(fate.wish.value for fate in played.fates if fate.on_time)
    assert 0 < value <= could.value, "more than could be done"


def test_odd_plays_repeat_in_another_process() -> None:
    code = ONE_PLAY.format(names=ODD, seconds=SECONDS)
    told = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    here = [f"{name} {play(shortened(load_scenario(name), SECONDS), seed=7).event_hash}" for name in ODD]
    assert told.split("\n")[:-1] == here


def plain(values: Iterable[float], start: float = 0) -> float:
    """`sum` as it was up to Python 3.11."""
    return reduce(add, values, start)


def compensated(values: Iterable[float], start: float = 0) -> float:
    """`sum` as it is from Python 3.12 on, as far as the last digit goes."""
    known = [start, *values]
    return math.fsum(known) if any(type(one) is float for one in known) else reduce(add, known)


@pytest.mark.parametrize("name", ["surge-outage", "diurnal", "recursive-agents", "conversations"])
def test_wishes_and_facts_are_the_same_with_the_sum_of_every_python(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = shortened(load_scenario(name), SECONDS)
    told = []
    for one in (plain, compensated):
        monkeypatch.setattr(builtins, "sum", one)
        told.append((wishes(scenario, 7), facts_of(scenario)))
    monkeypatch.undo()
    assert told[0] == told[1]
    assert told[0][0]


@pytest.mark.parametrize("name", [one for one in shipped() if one not in ("surge-outage", "noisy-tenant")])
def test_without_limits_a_goal_is_missed(name: str) -> None:
    scenario = load_scenario(name)
    control = unlimited(scenario, seed=1)
    could = bound(scenario, [fate.wish for fate in control.fates if fate.wish.at_s >= scenario.warm_up])
    measured = score(control, could).measures
    goals = [goal for goal in scenario.goals if goal.measure != "retry-after-honest"]  # it promises nothing
    assert not all(goal.met(measured[goal.measure]) for goal in goals)


def test_a_short_copy_keeps_the_order_of_things() -> None:
    scenario = load_scenario("rolling-restart")
    short = shortened(scenario, 42.0)
    assert (short.seconds, short.warm_up, short.recovered_from) == (42.0, 9.0, 27.0)
    assert [(one.since, one.until) for one in short.traffic.changes] == [(15.0, 21.0)]
    assert short.restarts is not None
    assert (short.restarts.since, short.restarts.every) == (16.0, 3.5)
    with pytest.raises(ValueError, match="at most 420"):
        shortened(scenario, 421.0)
