"""Scenario files: strict, with the place of every mistake, and all shipped ones readable."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random
from typing import Any

import pytest

from headgate.errors import ConfigError
from headgate.lab.measures import measures_with
from headgate.lab.scenario.calls import draw_plan
from headgate.lab.scenario.description import Calls, Dependency, Herd, load_scenario, parse_scenario, shipped
from headgate.lab.scenario.scores import score
from headgate.lab.scenario.traffic import runs_per_s, wishes

STEADY = "name: mine\ntitle: Mine\nlike: six\nseconds: 60s\ntraffic: {load: 0.5}\n"


@pytest.mark.parametrize("name", list(shipped()))
def test_every_shipped_scenario_can_be_read_and_is_called_by_its_file(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name
    assert scenario.goals
    assert runs_per_s(scenario) > 0.5


def test_a_scenario_takes_over_its_world_and_single_keys_of_its_configuration() -> None:
    scenario = parse_scenario(STEADY + "headgate: {workers: {slots: 7}}\n")
    assert scenario.headgate.workers.slots == 7
    assert "large" in scenario.headgate.models
    assert len(scenario.dependencies) == 6


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (STEADY + "sedons: 3\n", "mine.yaml:6:1: unknown key 'sedons'"),
        (STEADY.replace("0.5", "-1"), "mine.yaml:5:17:"),
        (STEADY.replace("60s", "60"), "mine.yaml:4:10:"),
        (STEADY + "troubles: [{since: 3, until: 2, on: large}]\n", "mine.yaml:6:12: since (3) must be before"),
        (
            STEADY + "troubles: [{since: 1, until: 2, on: lagre}]\n",
            "mine.yaml:6:37: 'lagre' is no dependency here; did you mean 'large'?",
        ),
        (
            STEADY + "troubles: [{since: 60, until: 99, on: large}]\n",
            "mine.yaml:6:20: since (60) must be before the end",
        ),
        (STEADY + "headgate: {models: {}}\n", "mine.yaml:6:20: headgate: declares no model 'large'"),
        (STEADY + "warm_up: 60\n", "mine.yaml:6:10: warm_up (60) must be before the end of the arrivals"),
        (
            STEADY.replace("0.5}", "0.5, changes: [{since: 3, until: 2, times: 2}]}"),
            "mine.yaml:5:32: since (3) must be before until (2)",
        ),
        (
            STEADY.replace("0.5}", "0.5, herds: [{at: 3, runs: 2, lane: critcal}]}"),
            "'critcal' is no lane here; did you mean 'critical'?",
        ),
        (
            STEADY + "goals: [{measure: godput, at_least: 0.5}]\n",
            "mine.yaml:6:19: there is no measure 'godput'; did you mean 'goodput'?",
        ),
        (STEADY + "goals: [{measure: vip-on-time, at_least: 0.5}]\n", "there is no measure 'vip-on-time'"),
        (STEADY + "users: {polite: 0.9, rude: 0.2}\n", "mine.yaml:6:8: polite and rude"),
        (STEADY + "goals: [{measure: goodput}]\n", "mine.yaml:6:9: a goal needs either"),
        (STEADY.replace("six", "seven"), "mine.yaml:3:7: there is no world 'seven'; known here: six, three"),
        (STEADY.replace("six", "seven") + "gates: many\n", "mine.yaml:6:8: 'many'"),
        ("[]", "mine.yaml:1:1: a scenario is a mapping"),
        ("a: [", "mine.yaml:1:5:"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_scenario(text, "mine.yaml")
    assert told in str(refused.value)


def test_an_unknown_world_hides_no_other_mistake_and_invents_none() -> None:
    text = STEADY.replace("six", "seven") + "headgate: {models: {large: {concurency: 3}}}\nusers: {tries: 0}\n"
    with pytest.raises(ConfigError) as refused:
        parse_scenario(text, "mine.yaml")
    places = [line.split(": ")[0] for line in str(refused.value).splitlines() if "mine.yaml" in line]
    assert places == ["mine.yaml:3:7", "mine.yaml:6:29", "mine.yaml:7:16"]


def test_goals_name_measures_that_exist() -> None:
    from headgate.lab.scenario.bound import Bound
    from headgate.lab.scenario.play import Played

    for name in shipped():
        scenario = load_scenario(name)
        nothing = Played(scenario, 1, [], [], dict.fromkeys(scenario.dependencies, 0.0), 0.0)
        measured = score(nothing, Bound(1.0, 1.0, "", dict.fromkeys(scenario.lanes, 1.0))).measures
        assert {goal.measure for goal in scenario.goals} <= set(measured)
        assert set(measures_with(scenario.lanes)) == set(measured)


def test_the_scenario_of_the_how_to_is_one() -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "test-your-limits.md"
    (text,) = re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert parse_scenario(text).name == "my-traffic"


def test_a_world_of_models_alone_has_runs() -> None:
    models = {"large": Dependency(kind="model", parallel=4, most=8)}
    plan = draw_plan(Calls(least=4, most=4), models, Random(1))
    assert [call.dependency for call in plan] == ["large"] * 4


@pytest.mark.parametrize("change", [{"load": 1e6}, {"herds": (Herd(at=1, runs=10_000_000),)}])
def test_more_runs_than_can_be_kept_are_refused_before_they_are_drawn(change: dict[str, Any]) -> None:
    steady = load_scenario("steady")
    flood = steady.model_copy(update={"traffic": steady.traffic.model_copy(update=change)})
    with pytest.raises(ConfigError, match="more than 500,000 runs"):
        wishes(flood, 1)
